//! An animated face: one glTF file with the expressions as morph targets.

use serde_json::{Value, json};

use super::glb::{File, PIXEL};
use crate::face::{FaceModel, Params, rotation};

/// Morph target offsets shorter than this (model units; a fiftieth of a millimetre for the model
/// that ships) are left out. They are invisible, and without them the file is a quarter smaller.
const MIN_OFFSET: f32 = 0.002;

/// A key frame.
#[derive(Debug, Clone)]
pub struct Key {
    /// Time in seconds; increasing.
    pub time: f32,
    /// Pose and expression; the identity is ignored.
    pub params: Params,
}

/// The contents of an animation.
#[derive(Debug, Clone, Copy)]
pub struct Animation<'a> {
    /// Name of the node: which face it is.
    pub name: &'a str,
    /// Identity weights α_id for the whole animation.
    pub identity: &'a [f32],
    /// R, G, B of each vertex (sRGB), or empty.
    pub colours: &'a [[u8; 3]],
    /// Key frames, at least one.
    pub keys: &'a [Key],
}

/// The animation as the bytes of a `.glb` file. The mesh is the model's with the given identity and
/// no expression, in model units. Every expression is a morph target of the same name. The node's
/// rotation, translation and scale are the records' `q`, `t` and `f`, with a pixel as a millimetre
/// and y up.
#[must_use]
pub fn animated(model: &FaceModel, animation: &Animation) -> Vec<u8> {
    let mut file = File::default();
    let still = |identity: &[f32], expression: Vec<f32>| {
        let (identity, t) = (identity.to_vec(), [0.0; 3]);
        let (rotation, landmark_offsets) = (Default::default(), Vec::new());
        model.shape(&Params { f: 1.0, rotation, t, identity, expression, landmark_offsets })
    };
    let neutral = still(animation.identity, vec![]);
    let mut primitive = file.primitive(&neutral, &model.triangles, animation.colours);
    let nobody = vec![0.0; model.identities];
    let mean = still(&nobody, vec![]);
    let targets: Vec<Value> = (0..model.expressions.len())
        .map(|index| {
            let mut weights = vec![0.0; index + 1];
            weights[index] = 1.0;
            let moved = still(&nobody, weights);
            let offsets: Vec<_> = moved.iter().zip(&mean).map(|(a, b)| offset(*a, *b)).collect();
            json!({ "POSITION": file.sparse(&offsets) })
        })
        .collect();
    primitive["targets"] = json!(targets);

    let keys = animation.keys;
    let mut rotations: Vec<[f32; 4]> = Vec::with_capacity(keys.len());
    for key in keys {
        let [w, x, y, z] = rotation::to_wxyz(&key.params.rotation);
        // A quaternion and its negative are the same rotation; this sign makes interpolation take
        // the shorter way.
        let near = rotations.last().is_none_or(|[a, b, c, d]| a * x + b * y + c * z + d * w >= 0.0);
        rotations.push(if near { [x, y, z, w] } else { [-x, -y, -z, -w] });
    }
    let place = |p: &Params| [p.t[0] * PIXEL, -p.t[1] * PIXEL, p.t[2] * PIXEL];
    let translations: Vec<_> = keys.iter().map(|key| place(&key.params)).collect();
    let scales: Vec<_> = keys.iter().map(|key| [key.params.f * PIXEL; 3]).collect();
    let count = model.expressions.len();
    let weight = |key: &Key, i: usize| [key.params.expression.get(i).copied().unwrap_or(0.0)];
    let weights: Vec<_> =
        keys.iter().flat_map(|key| (0..count).map(move |i| weight(key, i))).collect();

    let times: Vec<_> = keys.iter().map(|key| [key.time]).collect();
    let input = file.vectors(&times, None);
    let outputs = [
        ("rotation", file.vectors(&rotations, None)),
        ("translation", file.vectors(&translations, None)),
        ("scale", file.vectors(&scales, None)),
        ("weights", file.vectors(&weights, None)),
    ];
    let samplers: Vec<_> = outputs
        .iter()
        .map(|(_, output)| json!({ "input": input, "output": output, "interpolation": "LINEAR" }))
        .collect();
    let channels: Vec<_> = outputs
        .iter()
        .enumerate()
        .map(|(i, (path, _))| json!({ "sampler": i, "target": { "node": 0, "path": path } }))
        .collect();
    let node = json!({
        "name": animation.name,
        "mesh": 0,
        // The pose before the animation is played.
        "rotation": rotations.first(),
        "translation": translations.first(),
        "scale": scales.first(),
    });
    let mesh = json!({
        "primitives": [primitive],
        "weights": vec![0.0; count],
        "extras": { "targetNames": model.expressions },
    });
    let moves = json!({ "name": animation.name, "samplers": samplers, "channels": channels });
    file.finish(node, mesh, Some(moves))
}

fn offset(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    let offset = super::minus(a, b);
    if super::dot(offset, offset) < MIN_OFFSET * MIN_OFFSET { [0.0; 3] } else { offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::glb::read::{Glb, number};
    use crate::testing::MODEL;

    fn key(time: f32, yaw: f32, expression: Vec<f32>) -> Key {
        let pose = [20.0, 5.0, yaw, 3.0, 400.0 + time, 300.0, 7.0];
        let params = Params::from_outputs(pose, &[], &expression).expect("finite");
        Key { time, params }
    }

    /// What a viewer makes of the file at a key: node · (base + Σ weight · target).
    fn played(glb: &Glb, at: usize) -> Vec<[f32; 3]> {
        let primitive = &glb.json["meshes"][0]["primitives"][0];
        let mut points: Vec<[f32; 3]> =
            glb.floats(&primitive["attributes"]["POSITION"]).as_chunks().0.to_vec();
        let animation = &glb.json["animations"][0];
        let output = |i: usize| glb.floats(&animation["samplers"][i]["output"]);
        let targets = primitive["targets"].as_array().expect("targets");
        let weights = &output(3)[at * targets.len()..][..targets.len()];
        for (target, weight) in targets.iter().zip(weights) {
            let sparse = &glb.json["accessors"][number(&target["POSITION"])]["sparse"];
            let bytes = |part: &str| {
                let view = &glb.json["bufferViews"][number(&sparse[part]["bufferView"])];
                &glb.bytes[number(&view["byteOffset"])..][..number(&view["byteLength"])]
            };
            let values: Vec<f32> =
                bytes("values").as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            for (index, offset) in
                bytes("indices").as_chunks().0.iter().zip(values.as_chunks::<3>().0)
            {
                let point = &mut points[u32::from_le_bytes(*index) as usize];
                point.iter_mut().zip(offset).for_each(|(p, o)| *p += weight * o);
            }
        }
        let (r, t, s) = (output(0), output(1), output(2));
        let q = nalgebra::Quaternion::new(r[4 * at + 3], r[4 * at], r[4 * at + 1], r[4 * at + 2]);
        let q = nalgebra::UnitQuaternion::from_quaternion(q);
        let place = |p: &[f32; 3]| {
            let p = q * nalgebra::Vector3::from(*p) * s[3 * at];
            [p.x + t[3 * at], p.y + t[3 * at + 1], p.z + t[3 * at + 2]]
        };
        points.iter().map(place).collect()
    }

    #[test]
    fn what_is_played_is_what_was_fitted() {
        let model = &*MODEL;
        let identity: Vec<f32> = (0..model.identities).map(|i| (i as f32).sin() / 2.0).collect();
        let expression = |k: usize| -> Vec<f32> {
            (0..model.expressions.len()).map(|i| ((i * k) as f32).cos().abs() / 3.0).collect()
        };
        let keys = [key(0.0, -80.0, expression(1)), key(0.04, 70.0, expression(2))];
        let colours = vec![[200, 150, 120]; model.vertex_count()];
        let file = animated(
            model,
            &Animation { name: "face 7", identity: &identity, colours: &colours, keys: &keys },
        );
        assert!(file.len() < 2_500_000, "{}", file.len());
        let glb = Glb::new(&file);
        assert_eq!(glb.json["meshes"][0]["extras"]["targetNames"], json!(model.expressions));
        let times = glb.floats(&glb.json["animations"][0]["samplers"][0]["input"]);
        assert_eq!(times, [0.0, 0.04]);
        for (at, key) in keys.iter().enumerate() {
            let params = Params { identity: identity.clone(), ..key.params.clone() };
            let expected = model.vertices(&params);
            for (found, [x, y, z]) in played(&glb, at).iter().zip(expected) {
                let expected = [x, -y, z].map(|v| v * PIXEL);
                let off = (0..3).map(|k| (found[k] - expected[k]).abs()).fold(0.0, f32::max);
                // What was left out of 53 targets is still less than half a pixel.
                assert!(off < 0.5 * PIXEL, "{found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn rotations_take_the_shorter_way() {
        let model = &*MODEL;
        let turn = |roll: f32| {
            let pose = [20.0, 0.0, 0.0, roll, 0.0, 0.0, 0.0];
            Params::from_outputs(pose, &[], &[]).expect("finite")
        };
        let keys: Vec<_> = [170.0, 179.0, -172.0]
            .iter()
            .enumerate()
            .map(|(i, roll)| Key { time: i as f32, params: turn(*roll) })
            .collect();
        let file =
            animated(model, &Animation { name: "x", identity: &[], colours: &[], keys: &keys });
        let glb = Glb::new(&file);
        let r = glb.floats(&glb.json["animations"][0]["samplers"][0]["output"]);
        for pair in r.as_chunks::<4>().0.windows(2) {
            assert!((0..4).map(|k| pair[0][k] * pair[1][k]).sum::<f32>() > 0.9, "{r:?}");
        }
    }
}
