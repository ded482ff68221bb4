//! What the elements write on buffers and read from them.
//!
//! A face is a region of interest of type `face` with two structures: `detection`, with the names of
//! DL Streamer, and `mmface`. A frame is a custom meta, `MmfaceMeta`: its record, and the structures
//! `mmface` again, because GStreamer 1.22 drops the structures of regions where it converts or
//! scales a picture.

use ::mmface::Face;
use ::mmface::bounds::around;
use ::mmface::face::rotation;
use ::mmface::record::FaceRecord;
use gstreamer as gst;
use gstreamer_video::{VideoInfo, VideoRegionOfInterestMeta};

/// Name of the custom meta with a frame's record.
pub(crate) const FRAME: &str = "MmfaceMeta";
/// Type of the regions of interest.
const FACE: &str = "face";
const DETECTION: &str = "detection";
const MMFACE: &str = "mmface";

/// Registers the custom meta. Elements that make new buffers copy it, because it has no tags that
/// would tie it to pixels.
pub(crate) fn register() {
    if !gst::meta::CustomMeta::is_registered(FRAME) {
        gst::meta::CustomMeta::register_simple(FRAME);
    }
}

/// Attaches a frame's record, and what [`attach_face`] has returned for its faces.
pub(crate) fn attach_frame(
    buffer: &mut gst::BufferRef,
    info: &VideoInfo,
    json: &str,
    faces: Vec<gst::Structure>,
) {
    if let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, FRAME) {
        let structure = meta.mut_structure();
        structure.set("json", json);
        structure.set("width", info.width());
        structure.set("height", info.height());
        structure.set("faces", gst::Array::new(faces));
    }
}

/// Attaches a face, and returns its structure `mmface`. `names` are those of its expression
/// coefficients.
pub(crate) fn attach_face(
    buffer: &mut gst::BufferRef,
    info: &VideoInfo,
    face: &Face,
    record: &FaceRecord,
    names: &[String],
) -> gst::Structure {
    let (width, height) = (info.width(), info.height());
    let [x, y, w, h] = face.bounds;
    let inside = |value: f32, size: u32| value.clamp(0.0, size as f32) as u32;
    let (left, top) = (inside(x.round(), width), inside(y.round(), height));
    let (right, bottom) = (inside((x + w).round(), width), inside((y + h).round(), height));
    let area = (left, top, right - left, bottom - top);
    let mut meta = VideoRegionOfInterestMeta::add(buffer, FACE, area);
    // Ids are small numbers; a wrapped one is no harm, the structure has it whole.
    meta.set_id(face.id as i32);
    let share = |value: f32, size: u32| f64::from(value) / f64::from(size.max(1));
    meta.add_param(
        gst::Structure::builder(DETECTION)
            .field("x_min", share(x, width))
            .field("x_max", share(x + w, width))
            .field("y_min", share(y, height))
            .field("y_max", share(y + h, height))
            .field("confidence", f64::from(face.confidence))
            .field("label_id", 0i32)
            .field("label", FACE)
            .field("extra_params_json", serde_json::to_string(record).unwrap_or_default())
            .build(),
    );
    let structure = parameters(face, record, (width, height), names);
    meta.add_param(structure.clone());
    structure
}

fn parameters(
    face: &Face,
    record: &FaceRecord,
    (width, height): (u32, u32),
    names: &[String],
) -> gst::Structure {
    let [pitch, yaw, roll] = record.r.map(f64::from);
    let [qw, qx, qy, qz] = record.q.map(f64::from);
    let [tx, ty, tz] = record.t.map(f64::from);
    let numbers = |values: &mut dyn Iterator<Item = f32>| gst::Array::new(values.map(f64::from));
    let mut structure = gst::Structure::builder(MMFACE)
        .field("id", face.id)
        .field("confidence", f64::from(face.confidence))
        .field("width", width)
        .field("height", height)
        .field("pitch", pitch)
        .field("yaw", yaw)
        .field("roll", roll)
        .field("qw", qw)
        .field("qx", qx)
        .field("qy", qy)
        .field("qz", qz)
        .field("scale", f64::from(record.f))
        .field("tx", tx)
        .field("ty", ty)
        .field("tz", tz)
        .field("landmarks", numbers(&mut face.landmarks.iter().flatten().copied()))
        .field("identity", numbers(&mut record.identity.iter().copied()))
        .build();
    if let Some(gaze) = record.gaze {
        let [pitch, yaw] = gaze.both.angles.map(f64::from);
        structure.set("gaze-pitch", pitch);
        structure.set("gaze-yaw", yaw);
        structure.set("gaze-confidence", f64::from(gaze.both.confidence));
    }
    for (name, weight) in names.iter().zip(&record.expression) {
        structure.set(name.as_str(), f64::from(*weight));
    }
    structure
}

/// A face as it is read from a buffer, in pixels of the frame at hand.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) confidence: f32,
    /// [x, y, width, height]
    pub(crate) bounds: [f32; 4],
    pub(crate) landmarks: Vec<[f32; 2]>,
    /// From the model's axes to the camera's (x right, y up, z toward the camera).
    pub(crate) rotation: [[f32; 3]; 3],
}

/// The faces that a buffer carries, of a frame of this size now. The frame may have been scaled
/// since it was measured.
pub(crate) fn faces(buffer: &gst::BufferRef, width: u32, height: u32) -> Vec<Seen> {
    let Ok(meta) = gst::meta::CustomMeta::from_buffer(buffer, FRAME) else { return Vec::new() };
    let Ok(faces) = meta.structure().get::<gst::Array>("faces") else { return Vec::new() };
    let structures = faces.iter().filter_map(|face| face.get::<gst::Structure>().ok());
    structures.filter_map(|structure| seen(&structure, width, height)).collect()
}

fn seen(structure: &gst::StructureRef, width: u32, height: u32) -> Option<Seen> {
    let number = |name: &str| structure.get::<f64>(name).ok().map(|value| value as f32);
    let size = |name: &str| structure.get::<u32>(name).ok().filter(|size| *size > 0);
    let scale = [width as f32 / size("width")? as f32, height as f32 / size("height")? as f32];
    let values = structure.get::<gst::Array>("landmarks").ok()?;
    let values: Vec<f32> =
        values.iter().filter_map(|value| value.get::<f64>().ok()).map(|v| v as f32).collect();
    let landmarks: Vec<_> =
        values.as_chunks().0.iter().map(|&[x, y]| [x * scale[0], y * scale[1]]).collect();
    let angles = [number("pitch")?, number("yaw")?, number("roll")?];
    let matrix = rotation::matrix(&rotation::from_angles(angles));
    Some(Seen {
        id: structure.get("id").ok()?,
        confidence: number("confidence")?,
        bounds: around(&landmarks),
        landmarks,
        rotation: std::array::from_fn(|row| std::array::from_fn(|column| matrix[(row, column)])),
    })
}
