//! The records of the output (JSON lines) and their schema.
//!
//! One object per line; `type` says which kind of record it is. Readers ignore types and fields
//! that they do not know, so that the format can grow. `docs/schema.json` is generated from these
//! types.

mod numbers;

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use numbers::rounded;
use numbers::{digit, digits, fine, fine_rows, list, optional_list, pair, rows};

use crate::face::{self, Params, rotation};
use crate::gaze;
use crate::tracker::Face;

/// Version of the record format, written into every header. It changes when a field changes its
/// meaning.
pub const SCHEMA: u32 = 1;

/// One record: one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// The first line: program, source and networks.
    Header(Box<Header>),
    /// The source is connected, or the size or rate of its frames has changed.
    Stream(Stream),
    /// One processed frame, with or without faces.
    Frame(Frame),
    /// The stream was interrupted.
    Gap(Gap),
    /// Records were lost on their way to a broker. Only brokers get it.
    Lost(Lost),
    /// The last line: counts and statistics of the run.
    End(End),
}

/// See [`Record::Header`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Version of the record format.
    pub schema: u32,
    /// `mmface-live`.
    pub program: String,
    /// Version of the program.
    pub version: String,
    /// Name of the stream: that of `--stream`, else the source.
    pub stream: String,
    /// The source of the frames; credentials are masked.
    pub source: String,
    /// The networks that compute the parameters.
    pub network: Network,
    /// The face model that gives the parameters their meaning.
    pub face_model: FaceModel,
    /// Strength of the smoothing: `off`, `light`, `medium` or `strong`.
    pub smoothing: String,
    /// `icp` if the pose is aligned to the surface of the volume before smoothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refine: Option<String>,
    /// What is known of the camera's lens, if faces have a pose in camera space: `fov` and degrees,
    /// `focal` and pixels, or `exif`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lens: Option<String>,
    /// Voxels along each side of the volumes; present only if volumes are used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<u32>,
    /// Origin of the volumes: `network` for the volume head, `model` for the filled fitted meshes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume_from: Option<String>,
    /// Start of the run: RFC 3339, UTC.
    pub started: String,
    /// Number of the run; only with a broker. Later runs of a stream have higher numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<u64>,
}

/// The networks of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Architecture and weights, by their name in the manifest.
    pub variant: String,
    /// SHA-256 over the hashes of the networks' files.
    pub hash: String,
    /// The library that runs the networks: `openvino` or `tensorrt`.
    pub backend: String,
    /// The device in use: `cpu` or `cuda`.
    pub device: String,
    /// The precision in use: `f32`, `bf16`, `f16` or `int8`.
    pub precision: String,
    /// False for untrained weights, whose parameters are meaningless.
    pub trained: bool,
}

/// The face model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaceModel {
    /// Name of the face model.
    pub name: String,
    /// SHA-256 of its file.
    pub hash: String,
    /// Number of identity coefficients.
    pub identity: usize,
    /// Names of the expression coefficients, in the order of the faces' `expression`.
    pub expressions: Vec<String>,
}

/// See [`Record::Stream`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stream {
    /// Name of the stream.
    pub stream: String,
    /// Width of the frames in pixels.
    pub width: u32,
    /// Height of the frames in pixels.
    pub height: u32,
    /// Frames per second; 0 if the stream does not say.
    #[serde(serialize_with = "digits")]
    pub fps: f64,
    /// Name of the video codec.
    pub codec: String,
    /// Number of the connection to the source, from 1.
    pub connection: u32,
}

/// See [`Record::Frame`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Name of the stream.
    pub stream: String,
    /// Number of the decoded frame, from 0; not reset by reconnects.
    pub frame: u64,
    /// File name of the picture; only for pictures.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Time in seconds of the stream; for pictures, the index in their list, from 0.
    #[serde(serialize_with = "fine")]
    pub pts: f64,
    /// Wall clock time at which the frame was decoded: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// When the camera took the frame, on its own clock: RFC 3339, UTC, milliseconds. Only for
    /// RTSP streams whose camera tells the time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub camera_time: Option<String>,
    /// Latencies in milliseconds.
    pub latency_ms: Latency,
    /// Frames lost since the last frame record, by cause.
    pub dropped: Dropped,
    /// The faces in the frame.
    pub faces: Vec<FaceRecord>,
}

/// Latencies of one frame, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// From the end of decoding until the record was made.
    #[serde(serialize_with = "digits")]
    pub capture_to_record: f64,
    /// Time of the detection whose result was used on this frame; 0 if none was.
    #[serde(serialize_with = "digits")]
    pub detect: f64,
    /// Time of crops and networks.
    #[serde(serialize_with = "digits")]
    pub infer: f64,
}

/// Counts of lost frames, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Dropped because a newer frame arrived before this one was processed (live sources only).
    pub busy: u64,
    /// Damaged: it could not be decoded, or only from a lost frame.
    pub damaged: u64,
    /// Lost on the network: packets of it did not come, or came too late.
    #[serde(default)]
    pub lost: u64,
    /// Not decoded, because nobody was in the picture and nothing moved.
    #[serde(default)]
    pub idle: u64,
    /// Left out because fewer frames a second were asked for.
    #[serde(default)]
    pub skipped: u64,
}

impl Dropped {
    /// What was lost since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(before.busy),
            damaged: self.damaged.saturating_sub(before.damaged),
            lost: self.lost.saturating_sub(before.lost),
            idle: self.idle.saturating_sub(before.idle),
            skipped: self.skipped.saturating_sub(before.skipped),
        }
    }
}

/// One face.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Face")]
pub struct FaceRecord {
    /// Id of the face: constant for as long as it is followed, never reused.
    pub id: u64,
    /// Probability that this is a face, fitted well, 0…1: what the presence head says, less where
    /// mesh, points and picture do not agree.
    #[serde(serialize_with = "digit")]
    pub confidence: f32,
    /// Box around the landmarks: [x, y, width, height], pixels.
    #[serde(rename = "box", serialize_with = "list")]
    pub bounds: [f32; 4],
    /// Scale: pixels per unit of the face model.
    #[serde(serialize_with = "digit")]
    pub f: f32,
    /// Rotation [pitch, yaw, roll] in degrees, in 300W-LP's convention.
    #[serde(serialize_with = "list")]
    pub r: [f32; 3],
    /// The rotation from model space to camera space as a unit quaternion [w, x, y, z], w ≥ 0.
    #[serde(serialize_with = "list")]
    pub q: [f32; 4],
    /// Place [x, y, z] of the model's origin, pixels.
    #[serde(serialize_with = "list")]
    pub t: [f32; 3],
    /// Identity weights α_id, in standard deviations.
    #[serde(serialize_with = "list")]
    pub identity: Vec<f32>,
    /// Expression weights α_exp, 0…1, in the order of the header's names.
    #[serde(serialize_with = "list")]
    pub expression: Vec<f32>,
    /// The same as seen from this face at rest, whose expressions are 0 here; with `--neutral`.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "optional_list")]
    pub relative: Option<Vec<f32>>,
    /// Where the eyes look; absent if the networks do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gaze: Option<Gaze>,
    /// Pose in the space of the camera; with `--fov` or `--focal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub camera: Option<CameraPose>,
    /// 68 landmarks [x, y] in pixels, i·bug's order; the contour follows the visible outline.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub landmarks: Option<Vec<[f32; 2]>>,
    /// 68 landmarks [x, y, z] in pixels as fixed points of the mesh, hidden ones included; the
    /// contour lies on the sides of the head, as in AFLW2000-3D.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub landmarks3d: Option<Vec<[f32; 3]>>,
    /// Vertices [x, y, z] of the mesh, pixels.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub vertices: Option<Vec<[f32; 3]>>,
    /// The parameters before smoothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<Raw>,
    /// The volume that was written for this face.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<Volume>,
}

/// Pose of a head in the space of a camera whose focal length is known: x right, y up, z toward the
/// camera, which is at the origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraPose {
    /// The focal length that was assumed, pixels.
    #[serde(serialize_with = "digit")]
    pub focal: f32,
    /// Rotation [pitch, yaw, roll] in degrees, in 300W-LP's convention: that to the camera's axes,
    /// not to the ray on which the head lies.
    #[serde(serialize_with = "list")]
    pub r: [f32; 3],
    /// The same as a unit quaternion [w, x, y, z], w ≥ 0.
    #[serde(serialize_with = "list")]
    pub q: [f32; 4],
    /// Place [x, y, z] of the model's origin in centimetres, for a head of average size; z is
    /// negative in front of the camera.
    #[serde(serialize_with = "list")]
    pub t: [f32; 3],
}

impl CameraPose {
    /// The record of a pose in the space of `camera`.
    #[must_use]
    pub fn new(pose: &face::CameraPose, camera: &face::Camera) -> Self {
        Self {
            focal: camera.focal,
            r: rotation::to_angles(&pose.rotation),
            q: rotation::to_wxyz(&pose.rotation),
            t: pose.translation,
        }
    }
}

/// Where a face looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gaze {
    /// The subject's left eye.
    pub left: Look,
    /// The subject's right eye.
    pub right: Look,
    /// Both eyes: the mean of their directions.
    pub both: Look,
}

/// Where an eye looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Look {
    /// Unit vector [x, y, z] in camera space: x right, y up, z toward the camera.
    #[serde(serialize_with = "list")]
    pub direction: [f32; 3],
    /// The same as [pitch, yaw] in degrees, with the signs of `r`: those of a head that looks there.
    #[serde(serialize_with = "list")]
    pub angles: [f32; 2],
    /// Probability that the iris is in sight, 0…1. Below 0.5 the direction is that of the other eye,
    /// or the last one, or straight ahead.
    #[serde(serialize_with = "digit")]
    pub confidence: f32,
    /// Middle of the iris [x, y] in pixels, where it is in sight; of one eye only.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "pair")]
    pub iris: Option<[f32; 2]>,
}

impl From<&gaze::Gaze> for Gaze {
    fn from(gaze: &gaze::Gaze) -> Self {
        let look = |direction, confidence, iris| Look {
            direction,
            angles: gaze::angles(direction),
            confidence,
            iris,
        };
        let eye = |eye: &gaze::EyeGaze| look(eye.direction, eye.confidence, eye.iris);
        Self {
            left: eye(&gaze.left),
            right: eye(&gaze.right),
            both: look(gaze.direction, gaze.confidence, None),
        }
    }
}

/// Place of a face's volume in the frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// Voxels along each side.
    pub resolution: usize,
    /// Matrix with [x, y, z] = place · [slice, row, column, 1]: pixels, z toward the camera.
    #[serde(serialize_with = "fine_rows")]
    pub place: [[f32; 4]; 3],
}

/// Parameters as the networks gave them, before smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Raw {
    /// Scale: pixels per unit of the face model.
    #[serde(serialize_with = "digit")]
    pub f: f32,
    /// Rotation [pitch, yaw, roll] in degrees.
    #[serde(serialize_with = "list")]
    pub r: [f32; 3],
    /// Place [x, y, z] of the model's origin, pixels.
    #[serde(serialize_with = "list")]
    pub t: [f32; 3],
    /// Identity weights α_id.
    #[serde(serialize_with = "list")]
    pub identity: Vec<f32>,
    /// Expression weights α_exp.
    #[serde(serialize_with = "list")]
    pub expression: Vec<f32>,
}

impl From<&Face> for FaceRecord {
    /// The record of a face without what only some readers ask for: landmarks, vertices, the
    /// parameters before smoothing, the volume.
    fn from(face: &Face) -> Self {
        let params = &face.params;
        Self {
            id: face.id,
            confidence: face.confidence,
            bounds: face.bounds,
            f: params.f,
            r: rotation::to_angles(&params.rotation),
            q: rotation::to_wxyz(&params.rotation),
            t: params.t,
            identity: params.identity.clone(),
            expression: params.expression.clone(),
            gaze: face.gaze.as_ref().map(Into::into),
            ..Self::default()
        }
    }
}

impl From<&Params> for Raw {
    fn from(params: &Params) -> Self {
        Self {
            f: params.f,
            r: rotation::to_angles(&params.rotation),
            t: params.t,
            identity: params.identity.clone(),
            expression: params.expression.clone(),
        }
    }
}

/// See [`Record::Lost`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Name of the stream.
    pub stream: String,
    /// Number of the run, as in its header.
    pub revision: u64,
    /// How many records are lost.
    pub records: u64,
    /// `Mmface-Sequence` of the first lost record of the run.
    pub first: u64,
    /// `Mmface-Sequence` of the last lost record of the run. Not all between may be lost.
    pub last: u64,
    /// Why they are lost.
    pub reason: String,
}

/// See [`Record::Gap`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Name of the stream.
    pub stream: String,
    /// Time of the last frame before the gap: RFC 3339, UTC.
    pub from: String,
    /// Time of the first frame after the gap: RFC 3339, UTC.
    pub to: String,
    /// Why the stream was interrupted.
    pub reason: String,
    /// Number of the connection that ended the gap.
    pub connection: u32,
}

/// See [`Record::End`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Name of the stream.
    pub stream: String,
    /// Counts of frames.
    pub frames: FrameCounts,
    /// Number of different face ids.
    pub faces: u64,
    /// Number of reconnects to the source.
    pub reconnects: u32,
    /// Wall clock duration of the run in seconds.
    #[serde(serialize_with = "digits")]
    pub seconds: f64,
    /// Processed frames per second.
    #[serde(serialize_with = "digits")]
    pub fps: f64,
    /// Percentiles of the latency from decoding to record, milliseconds.
    pub latency_ms: Percentiles,
    /// Outputs that lost something until the end of the run, and all that send packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkEnd>,
    /// Why the run ended.
    pub reason: String,
}

/// What an output lost or sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkEnd {
    /// The output: `records`, `csv`, `parquet`, `overlay`, `report`, `meshes`, `volumes`,
    /// `animation`, `vmc`, `live-link`, `ifacialmocap`, `openseeface`, `opentrack`, `vts` or
    /// `nats`.
    pub name: String,
    /// Frames that came too fast for it and are not in it.
    pub dropped: u64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Packets to an avatar's program, until the last frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Packets>,
    /// Records to a broker, until the last frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Delivery>,
}

/// What became of the records to a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// Records that the broker has acknowledged.
    pub acknowledged: u64,
    /// Records that wait for it, in memory or on disk.
    pub waiting: u64,
    /// Records for which there was no room.
    pub dropped: u64,
}

/// Packets that an output sent over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Packets {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that could not be sent, or for which nobody was there.
    pub failed: u64,
    /// Percentiles of the latency from decoding a frame to its packet, milliseconds.
    #[serde(default)]
    pub latency_ms: Percentiles,
}

/// Counts of the frames of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameCounts {
    /// Decoded frames.
    #[serde(rename = "in")]
    pub decoded: u64,
    /// Frames with a record.
    pub processed: u64,
    /// Lost frames, by cause.
    pub dropped: Dropped,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Median.
    #[serde(serialize_with = "digits")]
    pub p50: f64,
    /// 95th percentile.
    #[serde(serialize_with = "digits")]
    pub p95: f64,
    /// 99th percentile.
    #[serde(serialize_with = "digits")]
    pub p99: f64,
}

/// A wall clock time as in records: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The JSON Schema of [`Record`]; `docs/schema.json` is a copy.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Record);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// Reads one line; `None` for a record type that this version does not know.
///
/// # Errors
/// The reason why the line cannot be read, as the second half of a sentence.
pub fn parse(line: &[u8]) -> std::result::Result<Option<Record>, String> {
    let broken = |e: serde_json::Error| {
        // Without serde_json's "at line … column …", which would be mistaken for a line of the
        // file.
        let text = e.to_string();
        format!("cannot be understood ({})", text.split(" at line ").next().unwrap_or_default())
    };
    match serde_json::from_slice(line) {
        Ok(record) if is_finite(&record) => Ok(Some(record)),
        Ok(_) => Err("holds a number that is too large".into()),
        Err(why) => {
            let value: serde_json::Value = serde_json::from_slice(line).map_err(broken)?;
            let known = ["header", "stream", "frame", "gap", "end"];
            match value["type"].as_str() {
                Some(name) if !known.contains(&name) => Ok(None),
                _ => Err(broken(why)),
            }
        }
    }
}

/// Whether all numbers of faces are finite. Text can hold numbers beyond the range of `f32`.
fn is_finite(record: &Record) -> bool {
    fn all<'a>(mut numbers: impl Iterator<Item = &'a f32>) -> bool {
        numbers.all(|v| v.is_finite())
    }
    let Record::Frame(frame) = record else { return true };
    frame.faces.iter().all(|face| {
        let lists = [&face.bounds[..], &face.r, &face.q, &face.t, &face.identity, &face.expression];
        let raw = face.raw.as_ref().is_none_or(|raw| {
            raw.f.is_finite()
                && all([&raw.r[..], &raw.t, &raw.identity, &raw.expression].into_iter().flatten())
        });
        let points = [&face.landmarks3d, &face.vertices].into_iter().flatten().flatten().flatten();
        let landmarks = face.landmarks.iter().flatten().flatten();
        let place = face.volume.iter().flat_map(|volume| volume.place.as_flattened());
        raw && all([face.confidence, face.f].iter().chain(lists.into_iter().flatten()))
            && all(points.chain(landmarks).chain(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_face_survives_the_line(
            id in 0u64..1 << 53, confidence in 0f32..1.0, f in 0.01f32..500.0,
            r in prop::array::uniform3(-180f32..180.0), x in -5000f32..5000.0,
            expression in prop::collection::vec(0f32..1.0, 53),
        ) {
            let face = FaceRecord { id, confidence, f, r, t: [x, 0.0, 0.0], expression, ..FaceRecord::default() };
            let line = serde_json::to_string(&face).expect("serialises");
            let back: FaceRecord = serde_json::from_str(&line).expect("parses");
            prop_assert_eq!(back.id, id);
            prop_assert!((back.t[0] - x).abs() <= 0.05 + x.abs() * 1e-6);
            for (a, b) in back.expression.iter().zip(&face.expression) {
                prop_assert!((a - b).abs() <= 0.000_051);
            }
            for (a, b) in back.r.iter().zip(&r) {
                prop_assert!((a - b).abs() <= 0.0051);
            }
        }
    }

    #[test]
    fn lines_are_read_back_or_told() {
        let gap = r#"{"type":"gap","stream":"a","from":"b","to":"c","reason":"d","connection":2}"#;
        assert!(matches!(parse(gap.as_bytes()), Ok(Some(Record::Gap(_)))));
        assert_eq!(parse(br#"{"type":"later","x":1}"#), Ok(None));
        for broken in [&b"{"[..], b"", b"[]", br#"{"type":"gap"}"#, b"\xff\xfe"] {
            assert!(parse(broken).expect_err("broken").starts_with("cannot be understood"));
        }
    }

    #[test]
    fn time_is_utc_with_milliseconds() {
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
