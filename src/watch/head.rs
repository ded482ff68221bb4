//! `/head.json`: the face model, so that a page can draw a head from the records.

use mmface::face::FaceModel;
use serde_json::{Value, json};

use crate::packed::{mesh, shape, steps};

/// The model as JSON: `mean` as i16 in units of its `step`; `modes`, first those of identity and then
/// the expressions, as i8, each in units of its own of the `steps`; `triangles` as u32; `region` as
/// u8.
pub(super) fn head(model: &FaceModel) -> Value {
    let mut head = mesh(model, model.identities);
    head["name"] = json!(model.name);
    head["identities"] = json!(model.identities);
    head["expressions"] = json!(model.expressions);
    head["mean"] = steps(&shape(model, &[], &[]));
    head
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

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
