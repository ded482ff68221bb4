//! `/head.json`: the face model, so that a page can draw a head from the records.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmface::face::{FaceModel, Params};
use serde_json::{Value, json};

/// The model as JSON. Lists are base64, little-endian: `mean` as i16 in units of its `step`;
/// `modes`, first those of identity and then the expressions, as i8, each in units of its own of
/// the `steps`; `triangles` as u32; `region` as u8.
pub(super) fn head(model: &FaceModel) -> Value {
    let (step, mean) = quantised(&shape(model, &[], &[]), i16::MAX);
    let one = |k: usize| -> Vec<f32> { (0..=k).map(|i| f32::from(u8::from(i == k))).collect() };
    let neutral = shape(model, &[], &[]);
    let identities = (0..model.identities).map(|k| shape(model, &one(k), &[]));
    let expressions = (0..model.expressions.len()).map(|k| shape(model, &[], &one(k)));
    let (steps, modes): (Vec<f32>, Vec<Vec<i16>>) = identities
        .chain(expressions)
        .map(|moved| {
            let moved: Vec<f32> = moved.iter().zip(&neutral).map(|(a, b)| a - b).collect();
            quantised(&moved, i8::MAX.into())
        })
        .unzip();
    let bytes = |values: &[i16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let modes: Vec<u8> = modes.iter().flatten().map(|v| v.to_le_bytes()[0]).collect();
    let triangles: Vec<u8> =
        model.triangles.iter().flatten().flat_map(|i| i.to_le_bytes()).collect();
    json!({
        "name": model.name,
        "identities": model.identities,
        "expressions": model.expressions,
        "mean": { "step": step, "points": STANDARD.encode(bytes(&mean)) },
        "steps": steps,
        "modes": STANDARD.encode(modes),
        "triangles": STANDARD.encode(triangles),
        "region": STANDARD.encode(&model.triangle_region),
        "regions": model.regions,
    })
}

/// The mesh's vertices in model space, flattened.
fn shape(model: &FaceModel, identity: &[f32], expression: &[f32]) -> Vec<f32> {
    let (mut identity, expression) = (identity.to_vec(), expression.to_vec());
    identity.resize(model.identities, 0.0);
    let params = Params { identity, expression, ..Params::neutral() };
    model.shape(&params).into_iter().flatten().collect()
}

/// Values as integers of at most `most`, and the value of one step.
fn quantised(values: &[f32], most: i16) -> (f32, Vec<i16>) {
    let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let step = largest.max(f32::MIN_POSITIVE) / f32::from(most);
    (step, values.iter().map(|v| (v / step).round() as i16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::face_model;

    #[test]
    fn a_head_can_be_put_together_from_it() {
        let model = face_model();
        let head = head(&model);
        let decode =
            |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
        let step = head["mean"]["step"].as_f64().expect("a number") as f32;
        let mut seen: Vec<f32> = decode(&head["mean"]["points"])
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from(i16::from_le_bytes(*b)) * step)
            .collect();
        let modes = decode(&head["modes"]);
        let (identity, expression) = ([0.0, 1.5, -2.0], [0.0, 0.0, 0.8]);
        let weights = [(1, 1.5), (2, -2.0), (model.identities + 2, 0.8)];
        for (k, weight) in weights {
            let step = head["steps"][k].as_f64().expect("a number") as f32 * weight;
            let mode = &modes[k * seen.len()..(k + 1) * seen.len()];
            seen.iter_mut().zip(mode).for_each(|(v, m)| *v += step * f32::from(*m as i8));
        }
        // A third of a millimetre.
        for (a, b) in seen.iter().zip(shape(&model, &identity, &expression)) {
            assert!((a - b).abs() < 0.03, "{a} for {b}");
        }
        assert_eq!(decode(&head["triangles"]).len(), 12 * model.triangles.len());
        assert_eq!(decode(&head["region"]), model.triangle_region);
    }
}
