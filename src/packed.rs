//! The face model as pages get it in JSON: lists are base64, little-endian; small integers come
//! with the value of one step.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmface::face::{FaceModel, Params};
use serde_json::{Value, json};

/// The mesh's vertices in model space, flattened. Weights that are not given are 0.
pub(crate) fn shape(model: &FaceModel, identity: &[f32], expression: &[f32]) -> Vec<f32> {
    let (mut identity, expression) = (identity.to_vec(), expression.to_vec());
    identity.resize(model.identities, 0.0);
    let params = Params { identity, expression, ..Params::neutral() };
    model.shape(&params).into_iter().flatten().collect()
}

/// Values as i16, `points`, in units of `step`.
pub(crate) fn steps(values: &[f32]) -> Value {
    let (step, whole) = quantised(values, i16::MAX);
    let bytes: Vec<u8> = whole.iter().flat_map(|v| v.to_le_bytes()).collect();
    json!({ "step": step, "points": STANDARD.encode(bytes) })
}

/// Triangles as u32, their `region` as u8, and the offsets of some modes as i8, each in units of
/// its own of the `steps`. The modes, by their weight 1: first `identities` of them, then all
/// expressions.
pub(crate) fn mesh(model: &FaceModel, identities: usize) -> Value {
    let neutral = shape(model, &[], &[]);
    let one = |k: usize| -> Vec<f32> { (0..=k).map(|i| f32::from(u8::from(i == k))).collect() };
    let (steps, modes): (Vec<f32>, Vec<Vec<i16>>) = (0..identities)
        .map(|k| shape(model, &one(k), &[]))
        .chain((0..model.expressions.len()).map(|k| shape(model, &[], &one(k))))
        .map(|moved| {
            let moved: Vec<f32> = moved.iter().zip(&neutral).map(|(a, b)| a - b).collect();
            quantised(&moved, i8::MAX.into())
        })
        .unzip();
    let modes: Vec<u8> = modes.iter().flatten().map(|v| v.to_le_bytes()[0]).collect();
    let triangles: Vec<u8> =
        model.triangles.iter().flatten().flat_map(|i| i.to_le_bytes()).collect();
    json!({
        "triangles": STANDARD.encode(triangles),
        "region": STANDARD.encode(&model.triangle_region),
        "regions": model.regions,
        "steps": steps,
        "modes": STANDARD.encode(modes),
    })
}

/// Values as integers of at most `most`, and the value of one step.
fn quantised(values: &[f32], most: i16) -> (f32, Vec<i16>) {
    let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let step = largest.max(f32::MIN_POSITIVE) / f32::from(most);
    (step, values.iter().map(|v| (v / step).round() as i16).collect())
}
