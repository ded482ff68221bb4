//! Records: complete, valid, and consistent with each other.

use std::path::Path;
use std::sync::LazyLock;

use mmface::face::{FaceModel, Params, rotation};
use mmface::record::{FaceRecord, Record};
use nalgebra::{Quaternion, UnitQuaternion};

use crate::common::program::{Records, records, run};
use crate::common::{clip, media, models};

/// A man who talks: 472 frames.
pub static TALK: LazyLock<Records> = LazyLock::new(|| {
    let clip = clip("WolfgangLanger_Pexels.mp4");
    let seen = records(["--file", clip.to_str().unwrap(), "--landmarks", "--raw"]);
    assert!(seen.faces().count() > 460, "{} faces", seen.faces().count());
    seen
});

#[test]
fn the_size_of_a_picture_stands_before_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, width) in [("a.png", 64), ("b.png", 64), ("c.png", 80), ("d.png", 64)] {
        media::picture(&folder.path().join(name), width, 48);
    }
    let seen = records([Path::new("--images"), folder.path()]);
    let told = |record: &Record| match record {
        Record::Stream(stream) => Some(format!("{}", stream.width)),
        Record::Frame(frame) => frame.file.clone(),
        _ => None,
    };
    let told: Vec<_> = seen.all.iter().filter_map(told).collect();
    assert_eq!(told, ["64", "a.png", "b.png", "80", "c.png", "64", "d.png"]);
}

#[test]
fn the_schema_in_docs_is_that_of_the_program() {
    let done = run(["schema"]);
    assert_eq!(done.code, Some(0));
    let shipped = include_str!("../../docs/schema.json");
    assert!(
        String::from_utf8(done.stdout).unwrap() == shipped,
        "docs/schema.json is old: mmface-live schema > docs/schema.json"
    );
}

#[test]
fn every_frame_of_a_recording_has_its_record() {
    let numbers: Vec<_> = TALK.frames.iter().map(|frame| frame.frame).collect();
    assert_eq!(numbers, (0..472).collect::<Vec<_>>());
    assert_eq!((TALK.end.frames.decoded, TALK.end.frames.processed), (472, 472));
    assert_eq!(TALK.end.frames.dropped, mmface::record::Dropped::default());
    assert_eq!(TALK.end.reason, "end of stream");
    let [stream] = &TALK.streams[..] else { panic!("{:?}", TALK.streams) };
    assert_eq!((stream.width, stream.height, stream.codec.as_str()), (640, 360, "H.264"));
    assert_eq!((stream.fps, stream.connection), (23.98, 1));
    assert!(matches!(TALK.all[1], Record::Stream(_)), "the stream is told before its frames");
    for frame in &TALK.frames {
        assert!((frame.pts - frame.frame as f64 * 1001.0 / 24000.0).abs() < 0.002, "{}", frame.pts);
    }
}

#[test]
fn the_header_says_what_runs() {
    let header = &TALK.header;
    assert_eq!((header.schema, header.program.as_str()), (1, "mmface-live"));
    assert_eq!(header.version, env!("CARGO_PKG_VERSION"));
    assert!(header.source.ends_with("WolfgangLanger_Pexels.mp4"));
    assert_eq!(header.stream, header.source, "a stream is called like its source");
    let network = &header.network;
    assert_eq!((network.backend.as_str(), network.device.as_str()), ("openvino", "cpu"));
    assert!(["f32", "bf16", "int8"].contains(&network.precision.as_str()));
    let (model, hash) = models().face_model().unwrap();
    assert_eq!((&header.face_model.name, &header.face_model.hash), (&model.name, &hash));
    assert_eq!(header.face_model.expressions, model.expressions);
    assert!(header.started.ends_with('Z'));
}

/// The face of a record as parameters.
fn params(face: &FaceRecord) -> Params {
    let [w, x, y, z] = face.q;
    Params {
        f: face.f,
        rotation: UnitQuaternion::new_normalize(Quaternion::new(w, x, y, z)),
        t: face.t,
        identity: face.identity.clone(),
        expression: face.expression.clone(),
        landmark_offsets: vec![],
    }
}

#[test]
fn what_a_record_says_twice_agrees() {
    let (model, _) = models().face_model().unwrap();
    for face in TALK.faces() {
        let size = face.bounds[2].hypot(face.bounds[3]);
        let params = params(face);
        let angles = rotation::from_angles(face.r);
        // Where yaw comes near 90°, a hundredth of a degree of it is more in the other two.
        assert!(angles.angle_to(&params.rotation).to_degrees() < 0.3, "{:?} {:?}", face.q, face.r);
        assert!(face.q[0] >= 0.0);

        let landmarks = face.landmarks.as_ref().unwrap();
        assert_eq!(landmarks.len(), 68);
        // Seen beside the mesh's, but not far from them.
        let beside = landmarks
            .iter()
            .zip(&model.landmarks(&params))
            .map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]))
            .sum::<f32>()
            / 68.0;
        assert!((0.0005 * size..0.03 * size).contains(&beside), "{beside} of {size}");
        close(face.landmarks3d.as_ref().unwrap(), &model.landmarks3d(&params), size);
        for k in 0..2 {
            let low = landmarks.iter().map(|p| p[k]).fold(f32::MAX, f32::min);
            let high = landmarks.iter().map(|p| p[k]).fold(f32::MIN, f32::max);
            assert!((face.bounds[k] - low).abs() < 0.2, "{:?}", face.bounds);
            assert!((face.bounds[k] + face.bounds[k + 2] - high).abs() < 0.3, "{:?}", face.bounds);
        }
    }
}

/// Points of a record are those that its rounded parameters give, but for the rounding.
fn close<const N: usize>(told: &[[f32; N]], computed: &[[f32; N]], size: f32) {
    assert_eq!(told.len(), computed.len());
    for (a, b) in told.iter().flatten().zip(computed.iter().flatten()) {
        assert!((a - b).abs() < 0.2 + 0.002 * size, "{a} is not {b}, the face is {size} large");
    }
}

#[test]
fn vertices_are_those_of_the_model() {
    let (model, _) = models().face_model().unwrap();
    let picture = clip("single_face.jpg");
    let seen = records(["--file", picture.to_str().unwrap(), "--vertices"]);
    assert_eq!(seen.frames.len(), 1);
    assert_eq!(seen.frames[0].file.as_deref(), Some("single_face.jpg"));
    assert_eq!(seen.faces().count(), 1);
    for face in seen.faces() {
        assert!(face.landmarks.is_none() && face.raw.is_none(), "only what was asked for");
        check_vertices(&model, face);
    }
}

fn check_vertices(model: &FaceModel, face: &FaceRecord) {
    let vertices = face.vertices.as_ref().unwrap();
    assert_eq!(vertices.len(), model.vertex_count());
    close(vertices, &model.vertices(&params(face)), face.bounds[2].hypot(face.bounds[3]) * 2.0);
}

#[test]
fn without_smoothing_faces_are_raw() {
    let clip = clip("single_face.mp4");
    let seen = records(["--file", clip.to_str().unwrap(), "--smooth", "off", "--raw"]);
    assert_eq!(seen.header.smoothing, "off");
    assert!(seen.faces().count() > 65, "{} faces", seen.faces().count());
    for face in seen.faces() {
        let raw = face.raw.as_ref().unwrap();
        assert_eq!((face.f, face.r, face.t), (raw.f, raw.r, raw.t));
        assert_eq!(face.identity, raw.identity);
        assert_eq!(seen.without_eyes(&face.expression), seen.without_eyes(&raw.expression));
    }
}

#[test]
fn smoothing_calms_and_tells_the_raw_values() {
    let differs = |face: &FaceRecord| face.raw.as_ref().is_some_and(|raw| raw.t != face.t);
    assert_eq!(TALK.header.smoothing, "medium");
    assert!(TALK.faces().any(differs));
}

#[test]
fn a_file_gives_the_same_records_every_time() {
    let clip = clip("single_face.mp4");
    let frames = || {
        let mut seen = records(["--file", clip.to_str().unwrap(), "--landmarks"]);
        for frame in &mut seen.frames {
            frame.time = String::new();
            frame.latency_ms = mmface::record::Latency::default();
        }
        seen.frames
    };
    let (once, again) = (frames(), frames());
    assert_eq!(once.len(), 72);
    assert!(once.iter().filter(|frame| frame.faces.len() == 1).count() > 65);
    for (a, b) in once.iter().zip(&again) {
        assert_eq!(a, b);
    }
}

#[test]
fn any_text_can_name_a_stream() {
    let name = "door \"3\"\n\\ Tür 🚪\u{7}";
    let seen = records(["--pipeline", "videotestsrc num-buffers=3", "--stream", name]);
    assert_eq!((seen.header.stream.as_str(), seen.frames.len()), (name, 3));
}
