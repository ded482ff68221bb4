//! Reads a face model from the tensors and the metadata of a safetensors file.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

use super::{Basis, EyeModel, FaceModel, LANDMARKS};

/// Largest number. Sums of products of such numbers are finite.
const LARGEST: f64 = 1e9;
/// Most modes: identities and expressions together.
const MODES: usize = 1024;
/// Most bins of yaw. The memory of a bin grows with the number of modes, its size in the file does
/// not.
const BINS: usize = 64;

/// Reads and checks a file. Errors are the second half of a sentence that starts with the file.
pub(super) struct Reader<'a> {
    tensors: SafeTensors<'a>,
    text: HashMap<String, String>,
}

type Checked<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Checked<Self> {
        let broken = |e| format!("is not a safetensors file ({e})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        Ok(Self {
            tensors: SafeTensors::deserialize(bytes).map_err(broken)?,
            text: header.metadata().clone().unwrap_or_default(),
        })
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Checked<T> {
        let text = self.text.get(key).ok_or_else(|| format!("has no metadata `{key}`"))?;
        serde_json::from_str(text).map_err(|e| format!("has unreadable metadata `{key}` ({e})"))
    }

    /// A tensor's shape and its values as f64, whatever its stored type.
    fn numbers(&self, name: &str) -> Checked<(Vec<usize>, Vec<f64>)> {
        let tensor = self.tensors.tensor(name).map_err(|_| format!("has no tensor `{name}`"))?;
        let data = tensor.data();
        macro_rules! values {
            ($t:ty) => {
                data.as_chunks().0.iter().map(|b| f64::from(<$t>::from_le_bytes(*b))).collect()
            };
        }
        let values: Vec<f64> = match tensor.dtype() {
            Dtype::F32 => values!(f32),
            Dtype::I32 => values!(i32),
            Dtype::I16 => values!(i16),
            Dtype::U16 => values!(u16),
            Dtype::U8 => values!(u8),
            other => return Err(format!("has tensor `{name}` of unexpected type {other:?}")),
        };
        if !values.iter().all(|v| (-LARGEST..=LARGEST).contains(v)) {
            return Err(format!("has a value in `{name}` that is not a number or too large"));
        }
        Ok((tensor.shape().to_vec(), values))
    }

    /// As [`numbers`](Self::numbers), for a tensor of a known shape; `None` allows any length.
    fn shaped(&self, name: &str, shape: &[Option<usize>]) -> Checked<(Vec<usize>, Vec<f64>)> {
        let (found, values) = self.numbers(name)?;
        let fits = found.len() == shape.len()
            && found.iter().zip(shape).all(|(have, want)| want.is_none_or(|want| want == *have));
        if fits { Ok((found, values)) } else { Err(format!("has `{name}` of shape {found:?}")) }
    }

    /// Quantised modes [count, vertices, 3], multiplied by their scales.
    fn modes(&self, name: &str, vertices: usize) -> Checked<Vec<f32>> {
        let (shape, steps) = self.shaped(name, &[None, Some(vertices), Some(3)])?;
        let (_, scale) = self.shaped(&format!("{name}_scale"), &[Some(shape[0])])?;
        let scaled = steps.chunks_exact(3 * vertices).zip(&scale);
        Ok(scaled.flat_map(|(mode, s)| mode.iter().map(move |v| (v * s) as f32)).collect())
    }

    /// Points on `mesh` in barycentric coordinates. The tensors `name`_vertices, _weights and
    /// _offsets have the shape [bins, 68, 3], or [68, 3] without `bins`. One basis per bin.
    fn on_mesh(&self, name: &str, mesh: &Basis, bins: Option<usize>) -> Checked<Vec<Basis>> {
        let count = 3 * LANDMARKS;
        let shape: Vec<_> = bins.map(Some).into_iter().chain([Some(LANDMARKS), Some(3)]).collect();
        let part = |suffix: &str| self.shaped(&format!("{name}_{suffix}"), &shape);
        let ((_, corners), (_, weights), (_, offsets)) =
            (part("vertices")?, part("weights")?, part("offsets")?);
        let size = mesh.mean.len();
        if !corners.iter().all(|c| (0.0..size as f64 / 3.0).contains(c)) {
            return Err(format!("has `{name}_vertices` that point outside the mesh"));
        }
        let tables = corners.chunks_exact(count).zip(weights.chunks_exact(count));
        Ok(tables
            .zip(offsets.chunks_exact(count))
            .map(|((corners, weights), offsets)| {
                let pick = |flat: &[f32]| -> Vec<f32> {
                    (0..count)
                        .map(|i| {
                            let (point, axis) = (i / 3 * 3, i % 3);
                            let corner = |j: usize| {
                                weights[point + j] as f32
                                    * flat[corners[point + j] as usize * 3 + axis]
                            };
                            corner(0) + corner(1) + corner(2)
                        })
                        .collect()
                };
                let mut mean = pick(&mesh.mean);
                mean.iter_mut().zip(offsets).for_each(|(m, o)| *m += *o as f32);
                Basis { mean, modes: mesh.modes.chunks_exact(size).flat_map(pick).collect() }
            })
            .collect())
    }

    pub(super) fn model(&self) -> Checked<FaceModel> {
        let (shape, mean) = self.shaped("mean", &[None, Some(3)])?;
        let count = shape[0];
        if count == 0 {
            return Err("has no vertices".into());
        }
        let mut modes = self.modes("identity", count)?;
        let identities = modes.len() / (3 * count);
        modes.extend(self.modes("expression", count)?);
        let expressions: Vec<String> = self.json("expression_names")?;
        if modes.len() != (identities + expressions.len()) * 3 * count {
            return Err("does not have one name for each expression".into());
        }
        if identities + expressions.len() > MODES {
            return Err(format!("has more than {MODES} modes"));
        }
        let mirror: (Vec<f32>, Vec<usize>) =
            (self.json("identity_mirror")?, self.json("expression_mirror")?);
        if (mirror.0.len(), mirror.1.len()) != (identities, expressions.len()) {
            return Err("does not say of each mode what a mirror does to it".into());
        }
        if mirror.0.iter().any(|sign| !(-1.0..=1.0).contains(sign))
            || mirror.1.iter().any(|&other| other >= expressions.len())
        {
            return Err("has a mirror with invalid signs or expressions".into());
        }
        let vertices = Basis { mean: mean.iter().map(|v| *v as f32).collect(), modes };

        let (shape, corners) = self.shaped("triangles", &[None, Some(3)])?;
        if !corners.iter().all(|c| (0.0..count as f64).contains(c)) {
            return Err("has triangles that point outside the mesh".into());
        }
        let regions: Vec<String> = self.json("regions")?;
        let (_, triangle_region) = self.shaped("triangle_region", &[Some(shape[0])])?;
        if !triangle_region.iter().all(|r| (0.0..regions.len() as f64).contains(r) && *r < 256.0) {
            return Err("has triangles of unknown regions".into());
        }
        let (bins, yaw_bins) = self.shaped("landmark_yaw_bins", &[None])?;
        if !(1..=BINS).contains(&bins[0]) || !yaw_bins.is_sorted_by(|a, b| a < b) {
            return Err("has no yaw bins, too many, or some that do not ascend".into());
        }
        let landmarks = self.on_mesh("landmark", &vertices, Some(bins[0]))?;
        let landmarks3d = self.on_mesh("landmarks3d", &vertices, None)?.remove(0);
        let (_, centre) = self.shaped("volume_centre", &[Some(3)])?;
        let mut model = FaceModel {
            name: self.text.get("name").cloned().unwrap_or_else(|| "unnamed".into()),
            identities,
            expressions,
            triangles: corners.as_chunks().0.iter().map(|t| t.map(|c| c as u32)).collect(),
            triangle_region: triangle_region.iter().map(|v| *v as u8).collect(),
            regions,
            vertices,
            yaw_bins: yaw_bins.iter().map(|v| *v as f32).collect(),
            landmarks,
            landmarks3d,
            eyes: None,
            volume_centre: std::array::from_fn(|axis| centre[axis] as f32),
            mirror,
        };
        model.eyes = EyeModel::find(&model);
        Ok(model)
    }
}
