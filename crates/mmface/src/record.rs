//! The JSON lines that come out, and their schema.
//!
//! One object a line; `type` says what it is. A reader ignores types and fields that it does not
//! know: that is how the format grows without breaking anyone. `docs/schema.json` is generated
//! from these types.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Version of the record format, in every header. Grows when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// The first line: what is running, on what, with which networks.
    Header(Box<Header>),
    /// The source is connected, or its picture has changed its size or rate.
    Stream(Stream),
    /// One processed frame, with or without faces.
    Frame(Frame),
    /// The stream was away.
    Gap(Gap),
    /// The last line: what went in, what came out, what was lost.
    End(End),
}

/// See [`Record::Header`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Version of this format.
    pub schema: u32,
    /// `mmface-live`.
    pub program: String,
    /// The program's version.
    pub version: String,
    /// Name of the stream: that of `--stream`, else the source.
    pub stream: String,
    /// Where the pictures come from; credentials are masked.
    pub source: String,
    /// What computes the parameters.
    pub network: Network,
    /// What the parameters mean.
    pub face_model: FaceModel,
    /// `off`, `light`, `medium` or `strong`.
    pub smoothing: String,
    /// `icp`: the pose was aligned to the surface of the volume, before smoothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refine: Option<String>,
    /// Voxels along each side of the volumes; only where something asks for them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<u32>,
    /// `network`: the volumes are those of the volume head; `model`: they are the fitted meshes, filled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume_from: Option<String>,
    /// Start of the run: RFC 3339, UTC.
    pub started: String,
}

/// The networks of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Which architecture and weights, by the manifest's name.
    pub variant: String,
    /// SHA-256 over the hashes of the networks' files.
    pub hash: String,
    /// What runs them: `openvino` or `tensorrt`.
    pub backend: String,
    /// The device that is really used: `cpu`, …
    pub device: String,
    /// `f32`, `bf16` or `f16`.
    pub precision: String,
    /// False for weights that never saw a face: then the parameters mean nothing.
    pub trained: bool,
}

/// The face model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaceModel {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub hash: String,
    /// Number of identity coefficients.
    pub identity: usize,
    /// Names of the expression coefficients, in the order in which faces carry them.
    pub expressions: Vec<String>,
}

/// See [`Record::Stream`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stream {
    /// Name of the stream.
    pub stream: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames a second; 0 where the stream does not say.
    #[serde(serialize_with = "digits")]
    pub fps: f64,
    /// Name of the encoding.
    pub codec: String,
    /// Counts the connections to the source, from 1.
    pub connection: u32,
}

/// See [`Record::Frame`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Name of the stream.
    pub stream: String,
    /// Counts every decoded frame from 0, also across reconnects.
    pub frame: u64,
    /// The picture's file name; pictures only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Seconds of the stream; of pictures, the place in their list, from 0.
    #[serde(serialize_with = "fine")]
    pub pts: f64,
    /// Wall clock at which the decoded frame was there: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// How long things took, in milliseconds.
    pub latency_ms: Latency,
    /// Frames lost since the last frame record, by cause.
    pub dropped: Dropped,
    /// The faces.
    pub faces: Vec<FaceRecord>,
}

/// Latencies of one frame, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// From the moment the decoded frame was there until its record was made.
    #[serde(serialize_with = "digits")]
    pub capture_to_record: f64,
    /// The detection whose result was used on this frame; 0 for most frames.
    #[serde(serialize_with = "digits")]
    pub detect: f64,
    /// Crops and networks.
    #[serde(serialize_with = "digits")]
    pub infer: f64,
}

/// Frames that were lost, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// A newer frame came before this one's turn (live sources only).
    pub busy: u64,
    /// The decoder could not make a picture of it.
    pub damaged: u64,
}

/// One face.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Face")]
pub struct FaceRecord {
    /// Who: stays with a face for as long as it is followed, never used again.
    pub id: u64,
    /// How sure the presence head is that this is a face, 0…1.
    #[serde(serialize_with = "digit")]
    pub confidence: f32,
    /// [x, y, width, height] around the landmarks, pixels.
    #[serde(rename = "box", serialize_with = "list")]
    pub bounds: [f32; 4],
    /// Scale: pixels per unit of the face model.
    #[serde(serialize_with = "digit")]
    pub f: f32,
    /// [pitch, yaw, roll], degrees, in the convention of 300W-LP.
    #[serde(serialize_with = "list")]
    pub r: [f32; 3],
    /// The same rotation as a unit quaternion [w, x, y, z], w ≥ 0, model → camera.
    #[serde(serialize_with = "list")]
    pub q: [f32; 4],
    /// [x, y, z] of the model's origin, pixels.
    #[serde(serialize_with = "list")]
    pub t: [f32; 3],
    /// α_id, standard deviations.
    #[serde(serialize_with = "list")]
    pub identity: Vec<f32>,
    /// α_exp, 0…1, in the order of the header's names.
    #[serde(serialize_with = "list")]
    pub expression: Vec<f32>,
    /// 68 points [x, y] in pixels (i·bug: the contour follows the visible outline).
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub landmarks: Option<Vec<[f32; 2]>>,
    /// 68 points [x, y, z] in pixels, fixed on the face, hidden ones too.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub landmarks3d: Option<Vec<[f32; 3]>>,
    /// The mesh's vertices [x, y, z], pixels.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "rows")]
    pub vertices: Option<Vec<[f32; 3]>>,
    /// The parameters before smoothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raw: Option<Raw>,
    /// The volume that was written for this face.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub volume: Option<Volume>,
}

/// Where the voxels of a face's volume lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// Voxels along each side.
    pub resolution: usize,
    /// [x, y, z] = place · [slice, row, column, 1]: pixels, z toward the camera.
    #[serde(serialize_with = "fine_rows")]
    pub place: [[f32; 4]; 3],
}

/// Parameters as the networks gave them, before smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Raw {
    /// Scale.
    #[serde(serialize_with = "digit")]
    pub f: f32,
    /// [pitch, yaw, roll], degrees.
    #[serde(serialize_with = "list")]
    pub r: [f32; 3],
    /// [x, y, z], pixels.
    #[serde(serialize_with = "list")]
    pub t: [f32; 3],
    /// α_id.
    #[serde(serialize_with = "list")]
    pub identity: Vec<f32>,
    /// α_exp.
    #[serde(serialize_with = "list")]
    pub expression: Vec<f32>,
}

/// See [`Record::Gap`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Name of the stream.
    pub stream: String,
    /// When the last frame came: RFC 3339, UTC.
    pub from: String,
    /// When frames came again.
    pub to: String,
    /// Why the stream was away.
    pub reason: String,
    /// The connection that ended the gap.
    pub connection: u32,
}

/// See [`Record::End`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Name of the stream.
    pub stream: String,
    /// What became of the frames.
    pub frames: FrameCounts,
    /// Different faces (ids).
    pub faces: u64,
    /// How often the source was connected again.
    pub reconnects: u32,
    /// Length of the run on the wall clock.
    #[serde(serialize_with = "digits")]
    pub seconds: f64,
    /// Processed frames a second.
    #[serde(serialize_with = "digits")]
    pub fps: f64,
    /// Capture to record, milliseconds.
    pub latency_ms: Percentiles,
    /// Why the run ended.
    pub reason: String,
}

/// What became of the frames of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameCounts {
    /// Decoded.
    #[serde(rename = "in")]
    pub decoded: u64,
    /// With a record.
    pub processed: u64,
    /// Lost, by cause.
    pub dropped: Dropped,
}

/// Three percentiles, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Half of the frames took at most this.
    #[serde(serialize_with = "digits")]
    pub p50: f64,
    /// 95 of 100.
    #[serde(serialize_with = "digits")]
    pub p95: f64,
    /// 99 of 100.
    #[serde(serialize_with = "digits")]
    pub p99: f64,
}

/// Wall clock as records carry it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The JSON Schema of [`Record`], as it stands in `docs/schema.json`.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Record);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// Reads one line; `None` for a type that this version does not know.
///
/// # Errors
/// The second half of a sentence about the line.
pub fn parse(line: &[u8]) -> std::result::Result<Option<Record>, String> {
    let broken = |e: serde_json::Error| {
        let text = e.to_string(); // with a place within the line, which would be read as one in the file
        format!("cannot be understood ({})", text.split(" at line ").next().unwrap_or_default())
    };
    match serde_json::from_slice(line) {
        Ok(record) => Ok(Some(record)),
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

/// About five digits, at most four of them after the point: what the numbers mean, not more.
fn short(value: f64) -> f64 {
    let decimals = match value.abs() {
        v if v >= 1000.0 => 10.0,
        v if v >= 10.0 => 100.0,
        v if v >= 1.0 => 1000.0,
        _ => 10_000.0,
    };
    // Adding 0 turns −0 into 0.
    (value * decimals).round() / decimals + 0.0
}

fn digits<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(short(*value))
}

fn digit<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(short(f64::from(*value)))
}

/// Microseconds: frames of one stream must keep their order.
fn fine<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64((value * 1e6).round() / 1e6)
}

fn fine_rows<S: Serializer>(rows: &[[f32; 4]; 3], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(rows.map(|row| row.map(|v| (f64::from(v) * 1e4).round() / 1e4 + 0.0)))
}

fn list<S: Serializer, T: AsRef<[f32]>>(values: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(values.as_ref().iter().map(|v| short(f64::from(*v))))
}

fn rows<S: Serializer, const N: usize>(
    rows: &Option<Vec<[f32; N]>>,
    s: S,
) -> Result<S::Ok, S::Error>
where
    [f64; N]: Serialize,
{
    s.collect_seq(rows.iter().flatten().map(|row| row.map(|v| short(f64::from(v)))))
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
    fn numbers_are_short() {
        assert_eq!(serde_json::to_string(&short(0.123_456_78)).expect("a number"), "0.1235");
        assert_eq!(serde_json::to_string(&short(1234.5678)).expect("a number"), "1234.6");
        assert_eq!(serde_json::to_string(&short(-0.000_01)).expect("a number"), "0.0");
    }

    #[test]
    fn time_is_utc_with_milliseconds() {
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
