//! Iterative closest point (ICP): aligns the pose of the parametric mesh to the surface of the
//! volume (MMFace-ICP-r, Yi et al. 2019).
//!
//! Point-to-plane ICP (Chen & Medioni, 1992) for the seven parameters of a similarity transform.
//! The source is the visible skin of the mesh, the target the front of the volume's surface.
//! Tukey's weights suppress outliers, that is, errors of the volume. It starts from the given
//! parameters. The last rounds add the start as a prior, weighted by how well the surface fits the
//! mesh: a clean volume decides alone, a poor one hardly moves the pose.

use std::sync::Arc;

use kiddo::{ImmutableKdTree, SquaredEuclidean};
use nalgebra::{SMatrix, SVector, UnitQuaternion, Vector3};

use super::{Volume, surface};
use crate::crop::CROP;
use crate::face::{FaceModel, Params};
use crate::mesh::{Mesh, visible};

/// Number of mesh points that take part.
const POINTS: usize = 1200;
/// Least number of pairs for an estimate of the pose.
const MIN_PAIRS: usize = 100;
/// Most rounds.
const ROUNDS: usize = 30;
/// Converged if a round moves points by less than this many crop pixels.
const CONVERGED: f64 = 0.02;
/// Largest distance of a pair in the first round, crop pixels.
const MAX_REACH: f64 = 32.0;
/// Largest distance of a pair in the last rounds, voxels.
const MIN_REACH: f64 = 3.0;
/// Factor of that distance from round to round.
const SHRINK: f64 = 0.75;
/// Least cosine between the normals of a pair.
const MIN_COSINE: f64 = 0.6;
/// Least cosine between a normal and the direction to the camera.
const FACING: f32 = 0.3;
/// Tukey's constant for an efficiency of 95 % with normally distributed errors.
const TUKEY: f64 = 4.685;
/// Added to the diagonal of the normal equations (whose columns are all in pixels), as a part of
/// the mean diagonal element. Keeps parameters unchanged that the surface does not determine.
const DAMPING: f64 = 1e-3;
/// Number of final rounds with the start as a prior.
const PRIOR_ROUNDS: usize = 5;
/// Standard deviations of the networks' pose: rotation (degrees), scale (ratio), shift in the image
/// plane and in depth (crop pixels).
const PRIOR: (f64, f64, (f64, f64)) = (2.5, 0.02, (1.5, 1.6));
/// Largest correction that is accepted: rotation (degrees), scale (ratio), shift (crop pixels). If
/// the result is farther away, the volume is wrong and is ignored.
const MAX_CORRECTION: (f64, f64, f64) = (20.0, 0.2, 32.0);

/// Typical face size in crop pixels: √(width × height) of the landmarks' box.
const FACE_SIZE: f64 = 150.0;
/// Stands for the voxel size where two meshes are aligned: typical distance of their points, crop
/// pixels.
const POINT_SPACING: f64 = 2.0;

/// Distance of a fitted face from the true surface: mean point-to-plane distance of its visible
/// skin to the nearest points whose normals agree within 53°, divided by the face's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Without alignment.
    pub as_is: f64,
    /// After the similarity transform (rotation, shift, scale) that aligns it best to the true
    /// surface.
    pub aligned: f64,
}

/// Aligns faces of one face model.
pub struct Aligner {
    model: Arc<FaceModel>,
    /// For each vertex, whether it is skin of the face.
    skin: Vec<bool>,
}

/// A point and its surface normal, in crop pixels from the crop's centre, in camera axes (y up).
type Oriented = (Vector3<f64>, Vector3<f64>);

/// The similarity transform p → centre + shift + scale · turn · (p − centre).
#[derive(Debug, Clone, Copy)]
struct Similarity {
    centre: Vector3<f64>,
    turn: UnitQuaternion<f64>,
    shift: Vector3<f64>,
    scale: f64,
}

impl Aligner {
    /// An aligner for faces of `model`.
    #[must_use]
    pub fn new(model: Arc<FaceModel>) -> Self {
        let mut skin = vec![false; model.vertex_count()];
        let face = model.regions.iter().position(|name| name == "face");
        for (triangle, region) in model.triangles.iter().zip(&model.triangle_region) {
            // In a model without regions, everything is skin.
            if face.is_none_or(|face| face == usize::from(*region)) {
                triangle.iter().for_each(|i| skin[*i as usize] = true);
            }
        }
        Self { model, skin }
    }

    /// Changes rotation, translation and scale so that the mesh fits the surface of the volume.
    /// `None` if the volume cannot be used: it is empty, or the result would be too far from
    /// `params`.
    #[must_use]
    pub fn align(&self, params: &Params, volume: &Volume) -> Option<Params> {
        let map = volume.map();
        let [x, y] = map.centre.map(f64::from);
        let crop = Axes { centre: Vector3::new(x, -y, 0.0), scale: f64::from(map.scale) };
        let target = crop.oriented(&surface(volume), &|_, z| z > FACING / 2.0);
        let source = self.seen(self.model.vertices(params), &crop);
        let voxel = CROP as f64 / volume.resolution() as f64;
        let moved = align(&source, &target, voxel)?;

        // Converts the similarity from crop pixels to frame pixels.
        let Axes { centre, scale } = crop;
        let middle = centre + scale * moved.centre;
        let t = Vector3::new(params.t[0], -params.t[1], params.t[2]).cast::<f64>();
        let t = middle + scale * moved.shift + moved.scale * (moved.turn * (t - middle));
        Some(Params {
            f: params.f * moved.scale as f32,
            rotation: moved.turn.cast::<f32>() * params.rotation,
            t: [t.x as f32, -t.y as f32, t.z as f32],
            ..params.clone()
        })
    }

    /// The distance of a fitted mesh (`vertices`, of a face of `size` frame pixels) from the true
    /// mesh. `None` if too few points of it have a counterpart.
    #[must_use]
    pub fn distance(&self, vertices: &[[f32; 3]], truth: &Mesh, size: f64) -> Option<Distance> {
        let sum = vertices
            .iter()
            .fold(Vector3::zeros(), |sum, [x, y, z]| sum + Vector3::new(*x, -*y, *z).cast::<f64>());
        // Scaled to the typical size in a crop, to which the limits apply.
        let axes = Axes { centre: sum / vertices.len() as f64, scale: size / FACE_SIZE };
        let target = axes.oriented(truth, &|_, z| z > FACING / 2.0);
        let source = self.seen(vertices.to_vec(), &axes);
        let mut search = Search::new(&source, &target)?;
        let mean = |search: &Search| {
            let pairs = search.pairs(f64::INFINITY);
            let sum: f64 = pairs.iter().map(|(residual, _)| residual.abs()).sum();
            (pairs.len() >= MIN_PAIRS).then(|| sum / pairs.len() as f64 / FACE_SIZE)
        };
        let as_is = mean(&search)?;
        search.settle(POINT_SPACING)?;
        Some(Distance { as_is, aligned: mean(&search)? })
    }

    /// The visible skin points of the mesh with the given vertices.
    fn seen(&self, points: Vec<[f32; 3]>, axes: &Axes) -> Vec<Oriented> {
        let triangles = self.model.triangles.clone();
        let seen = visible(&points, &triangles);
        let mesh = Mesh { points, triangles, colours: Vec::new() };
        let skin = axes.oriented(&mesh, &|i, z| seen[i] && self.skin[i] && z > FACING);
        let step = skin.len().div_ceil(POINTS).max(1);
        skin.into_iter().step_by(step).collect()
    }
}

/// Converts frame pixels to crop pixels around a centre, with y up.
struct Axes {
    centre: Vector3<f64>,
    scale: f64,
}

impl Axes {
    /// The points of a mesh with their normals; `wanted` selects points by index and the normal's
    /// z.
    fn oriented(&self, mesh: &Mesh, wanted: &dyn Fn(usize, f32) -> bool) -> Vec<Oriented> {
        let local = |&[x, y, z]: &[f32; 3]| {
            (Vector3::new(x, -y, z).cast::<f64>() - self.centre) / self.scale
        };
        let normals = mesh.normals();
        let both = mesh.points.iter().zip(&normals).enumerate();
        both.filter(|(i, (_, n))| wanted(*i, n[2]))
            .map(|(_, (p, n))| (local(p), Vector3::from(n.map(f64::from))))
            .collect()
    }
}

/// The similarity transform that aligns `source` to `target`.
fn align(source: &[Oriented], target: &[Oriented], voxel: f64) -> Option<Similarity> {
    let mut search = Search::new(source, target)?;
    let reach = search.settle(voxel)?;
    let (turn, scale, shift) = MAX_CORRECTION;
    let moved = search.moved;
    let near = moved.turn.angle().to_degrees() < turn
        && (moved.scale - 1.0).abs() < scale
        && moved.shift.norm() < shift;
    if !near {
        return None;
    }
    // The contribution of the voxel size is independent from point to point and averages out.
    let noise = (search.noise.powi(2) - voxel * voxel / 12.0).max(0.0).sqrt();
    for _ in 0..PRIOR_ROUNDS {
        search.round(reach, voxel, Some(noise))?;
    }
    Some(search.moved)
}

/// State of an alignment.
struct Search<'a> {
    source: &'a [Oriented],
    target: &'a [Oriented],
    tree: ImmutableKdTree<f32, 3>,
    /// Root mean square distance of the source's points from their centre: how far a point moves
    /// for one radian of rotation, or for doubling the scale; crop pixels.
    radius: f64,
    moved: Similarity,
    /// Robust standard deviation of the last round's residuals, crop pixels.
    noise: f64,
}

impl<'a> Search<'a> {
    fn new(source: &'a [Oriented], target: &'a [Oriented]) -> Option<Self> {
        if source.len().min(target.len()) < MIN_PAIRS {
            return None;
        }
        let places: Vec<[f32; 3]> = target.iter().map(|(p, _)| p.cast::<f32>().into()).collect();
        let tree = ImmutableKdTree::new_from_slice(&places).ok()?;
        let count = source.len() as f64;
        let centre = source.iter().map(|(p, _)| p).sum::<Vector3<f64>>() / count;
        let spread = source.iter().map(|(p, _)| (p - centre).norm_squared()).sum::<f64>();
        let radius = (spread / count).sqrt();
        let (turn, shift) = (UnitQuaternion::identity(), Vector3::zeros());
        let moved = Similarity { centre, turn, shift, scale: 1.0 };
        Some(Self { source, target, tree, radius, moved, noise: 0.0 })
    }

    /// Pairs each source point with the nearest target point, if that is within `reach` and its
    /// normal is similar. Returns the residual along the normal and its derivative by rotation,
    /// shift and scale, all in crop pixels.
    fn pairs(&self, reach: f64) -> Vec<(f64, SVector<f64, 7>)> {
        let Similarity { centre, turn, shift, scale } = self.moved;
        let pair = |(p, n): &Oriented| {
            let arm = scale * (turn * (p - centre));
            let place = centre + shift + arm;
            let at: [f32; 3] = place.cast::<f32>().into();
            let near = self.tree.query(&at).nearest_one::<SquaredEuclidean<f32>>().execute();
            let (q, m) = &self.target[near.item as usize];
            let fits = (turn * n).dot(m) > MIN_COSINE && f64::from(near.distance) < reach * reach;
            let (turned, scaled) = (arm.cross(m) / self.radius, arm.dot(m) / self.radius);
            let row = [turned.x, turned.y, turned.z, m.x, m.y, m.z, scaled];
            fits.then(|| (m.dot(&(q - place)), SVector::from(row)))
        };
        self.source.iter().filter_map(pair).collect()
    }

    /// Runs rounds until convergence and returns the final reach. `None` without enough pairs.
    fn settle(&mut self, voxel: f64) -> Option<f64> {
        let mut reach = MAX_REACH;
        for _ in 0..ROUNDS {
            reach = (reach * SHRINK).max(MIN_REACH * voxel);
            let step = self.round(reach, voxel, None)?;
            if step < CONVERGED && reach <= MIN_REACH * voxel {
                break;
            }
        }
        Some(reach)
    }

    /// One Gauss-Newton step; returns its length. With `noise` (the standard deviation of the
    /// surface) the start is added as a prior with the networks' standard deviations. `None`
    /// without enough pairs.
    fn round(&mut self, reach: f64, voxel: f64, noise: Option<f64>) -> Option<f64> {
        let pairs = self.pairs(reach);
        if pairs.len() < MIN_PAIRS {
            return None;
        }
        let mut sizes: Vec<f64> = pairs.iter().map(|(residual, _)| residual.abs()).collect();
        let middle = sizes.len() / 2;
        let (_, median, _) = sizes.select_nth_unstable_by(middle, f64::total_cmp);
        self.noise = 1.4826 * *median;
        let limit = TUKEY * self.noise.max(0.1 * voxel);
        let (mut left, mut right) = (SMatrix::<f64, 7, 7>::zeros(), SVector::<f64, 7>::zeros());
        for (residual, row) in &pairs {
            let part = (1.0 - (residual / limit).powi(2)).max(0.0);
            let weight = part * part;
            left += weight * row * row.transpose();
            right += weight * *residual * row;
        }
        let radius = self.radius;
        if let Some(noise) = noise {
            let Similarity { turn, shift, scale, .. } = self.moved;
            let turned = turn.scaled_axis() * radius;
            let so_far =
                [turned.x, turned.y, turned.z, shift.x, shift.y, shift.z, scale.ln() * radius];
            // A volume's errors are correlated over the whole face, so all residuals count as one.
            let each = noise * noise * pairs.len() as f64;
            let (turn, scale) = (PRIOR.0.to_radians() * radius, PRIOR.1 * radius);
            let (across, deep) = PRIOR.2;
            let errors = [turn, turn, turn, across, across, deep, scale];
            for (i, (so_far, error)) in so_far.into_iter().zip(errors).enumerate() {
                let weight = each / (error * error);
                left[(i, i)] += weight;
                right[i] -= weight * so_far;
            }
        }
        left += SMatrix::identity() * (DAMPING * left.trace() / 7.0);
        let step = left.cholesky()?.solve(&right);
        let turn = step.fixed_rows::<3>(0) / radius;
        self.moved.turn = UnitQuaternion::from_scaled_axis(turn) * self.moved.turn;
        self.moved.shift += step.fixed_rows::<3>(3);
        self.moved.scale *= (step[6] / radius).exp();
        Some(step.norm())
    }
}

#[cfg(test)]
mod tests;
