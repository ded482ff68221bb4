//! Iterative closest points: the parametric mesh's pose, aligned to the surface of the volume
//! (MMFace-ICP-r).
//!
//! Point to plane (Chen & Medioni, 1992), for the seven numbers of a similarity: only points of the
//! face's skin that the camera sees, against the front of the surface; Tukey's weights, so that what
//! the volume gets wrong does not count; started from the parameters. At the end the start itself is
//! weighed against the surface, by how well the surface fits the mesh at all: a clean volume decides
//! alone, a poor one hardly moves the pose.

use std::sync::Arc;

use kiddo::{ImmutableKdTree, SquaredEuclidean};
use nalgebra::{SMatrix, SVector, UnitQuaternion, Vector3};

use super::{Volume, surface};
use crate::crop::CROP;
use crate::face::{FaceModel, Params};
use crate::mesh::{Mesh, visible};

/// Points of the mesh that take part.
const POINTS: usize = 1200;
/// Fewer partners than this say nothing about a pose.
const ENOUGH: usize = 100;
const ROUNDS: usize = 30;
/// A round that moves points by less (crop pixels) is the last.
const STILL: f64 = 0.02;
/// How far a partner may be, crop pixels: at first …
const FAR: f64 = 32.0;
/// … and voxels at last; from round to round it shrinks by …
const NEAR: f64 = 3.0;
/// … this.
const SHRINK: f64 = 0.75;
/// Least cosine between the normals of partners, and between a normal and the camera.
const ALIKE: f64 = 0.6;
const FACING: f32 = 0.3;
/// Tukey's constant: 95 % as good as least squares where the errors are normal.
const TUKEY: f64 = 4.685;
/// Added to the diagonal of the normal equations (whose columns are all in pixels), as a part of its
/// mean: what the surface does not tell stays as it is.
const DAMPING: f64 = 1e-3;
/// Rounds at the end in which the start is weighed against the surface.
const WEIGHED: usize = 5;
/// Errors of the networks' pose: turn (degrees), scale (part), shift across and in depth (crop pixels).
const ERRORS: (f64, f64, (f64, f64)) = (2.5, 0.02, (1.5, 1.6));
/// A start that is farther off than this (degrees, part of the scale, crop pixels) was none: the
/// volume is.
const TRUSTED: (f64, f64, f64) = (20.0, 0.2, 32.0);

/// Size of a face in crop pixels, about: √(width × height) of its landmarks' box.
const FACE: f64 = 150.0;
/// What the spacing of two meshes' points is like, crop pixels.
const FINEST: f64 = 2.0;

/// How far a fitted face lies from the true surface: mean point-to-plane distances of its visible skin
/// from the nearest points whose normals agree within 53°, as parts of the face's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Where it lies.
    pub as_is: f64,
    /// After the similarity (turn, shift, scale) that lays it best on the true surface.
    pub aligned: f64,
}

/// Aligns faces of one model.
pub struct Aligner {
    model: Arc<FaceModel>,
    /// For each vertex, whether it is skin of the face.
    skin: Vec<bool>,
}

/// A point and the direction in which its surface looks: crop pixels about the crop's centre, axes of
/// the camera (y up).
type Oriented = (Vector3<f64>, Vector3<f64>);

/// p → centre + shift + scale · turn · (p − centre).
#[derive(Debug, Clone, Copy)]
struct Similarity {
    centre: Vector3<f64>,
    turn: UnitQuaternion<f64>,
    shift: Vector3<f64>,
    scale: f64,
}

impl Aligner {
    /// Knows which vertices are skin.
    #[must_use]
    pub fn new(model: Arc<FaceModel>) -> Self {
        let mut skin = vec![false; model.vertex_count()];
        let face = model.regions.iter().position(|name| name == "face");
        for (triangle, region) in model.triangles.iter().zip(&model.triangle_region) {
            // A model without regions is skin all over.
            if face.is_none_or(|face| face == usize::from(*region)) {
                triangle.iter().for_each(|i| skin[*i as usize] = true);
            }
        }
        Self { model, skin }
    }

    /// The parameters with the rotation, translation and scale that lay the mesh on the surface of
    /// the volume. `None` where the volume does not tell: it is empty, or far from the parameters.
    #[must_use]
    pub fn align(&self, params: &Params, volume: &Volume) -> Option<Params> {
        let map = volume.map();
        let [x, y] = map.centre.map(f64::from);
        let crop = Axes { centre: Vector3::new(x, -y, 0.0), scale: f64::from(map.scale) };
        let target = crop.oriented(&surface(volume), &|_, z| z > FACING / 2.0);
        let source = self.seen(self.model.vertices(params), &crop);
        let voxel = CROP as f64 / volume.resolution() as f64;
        let moved = align(&source, &target, voxel)?;

        // The same similarity, of the frame's pixels instead of the crop's.
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

    /// How far the fitted mesh `vertices` of a face of `size` frame pixels lies from a true one.
    /// `None` where hardly any of it has a partner there.
    #[must_use]
    pub fn distance(&self, vertices: &[[f32; 3]], truth: &Mesh, size: f64) -> Option<Distance> {
        let sum = vertices
            .iter()
            .fold(Vector3::zeros(), |sum, [x, y, z]| sum + Vector3::new(*x, -*y, *z).cast::<f64>());
        // As if the face lay in its crop, for whose pixels the reaches are made.
        let axes = Axes { centre: sum / vertices.len() as f64, scale: size / FACE };
        let target = axes.oriented(truth, &|_, z| z > FACING / 2.0);
        let source = self.seen(vertices.to_vec(), &axes);
        let mut search = Search::new(&source, &target)?;
        let mean = |search: &Search| {
            let pairs = search.pairs(f64::INFINITY);
            let sum: f64 = pairs.iter().map(|(residual, _)| residual.abs()).sum();
            (pairs.len() >= ENOUGH).then(|| sum / pairs.len() as f64 / FACE)
        };
        let as_is = mean(&search)?;
        search.settle(FINEST)?;
        Some(Distance { as_is, aligned: mean(&search)? })
    }

    /// What the camera sees of the skin of the mesh with these vertices.
    fn seen(&self, points: Vec<[f32; 3]>, axes: &Axes) -> Vec<Oriented> {
        let triangles = self.model.triangles.clone();
        let seen = visible(&points, &triangles);
        let mesh = Mesh { points, triangles, colours: Vec::new() };
        let skin = axes.oriented(&mesh, &|i, z| seen[i] && self.skin[i] && z > FACING);
        let step = skin.len().div_ceil(POINTS).max(1);
        skin.into_iter().step_by(step).collect()
    }
}

/// Crop pixels about a centre, y up, of frame pixels.
struct Axes {
    centre: Vector3<f64>,
    scale: f64,
}

impl Axes {
    /// Points of a mesh with their normals; `wanted` is asked with their index and their normal's z.
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

/// The similarity that lays `source` on `target`.
fn align(source: &[Oriented], target: &[Oriented], voxel: f64) -> Option<Similarity> {
    let mut search = Search::new(source, target)?;
    let reach = search.settle(voxel)?;
    let (turn, scale, shift) = TRUSTED;
    let moved = search.moved;
    let near = moved.turn.angle().to_degrees() < turn
        && (moved.scale - 1.0).abs() < scale
        && moved.shift.norm() < shift;
    if !near {
        return None;
    }
    // What the size of voxels adds is independent from point to point and cancels.
    let noise = (search.noise.powi(2) - voxel * voxel / 12.0).max(0.0).sqrt();
    for _ in 0..WEIGHED {
        search.round(reach, voxel, Some(noise))?;
    }
    Some(search.moved)
}

/// Where the source lies so far.
struct Search<'a> {
    source: &'a [Oriented],
    target: &'a [Oriented],
    tree: ImmutableKdTree<f32, 3>,
    /// How far a point moves by one radian, or by one part of scale: crop pixels.
    radius: f64,
    moved: Similarity,
    /// Deviation of the residuals of the last round, crop pixels.
    noise: f64,
}

impl<'a> Search<'a> {
    fn new(source: &'a [Oriented], target: &'a [Oriented]) -> Option<Self> {
        if source.len().min(target.len()) < ENOUGH {
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

    /// Pairs each point with the nearest one within `reach` that looks the same way: residual along
    /// the normal, and how it changes with turn, shift and scale, all in crop pixels.
    fn pairs(&self, reach: f64) -> Vec<(f64, SVector<f64, 7>)> {
        let Similarity { centre, turn, shift, scale } = self.moved;
        let pair = |(p, n): &Oriented| {
            let arm = scale * (turn * (p - centre));
            let place = centre + shift + arm;
            let at: [f32; 3] = place.cast::<f32>().into();
            let near = self.tree.query(&at).nearest_one::<SquaredEuclidean<f32>>().execute();
            let (q, m) = &self.target[near.item as usize];
            let fits = (turn * n).dot(m) > ALIKE && f64::from(near.distance) < reach * reach;
            let (turned, scaled) = (arm.cross(m) / self.radius, arm.dot(m) / self.radius);
            let row = [turned.x, turned.y, turned.z, m.x, m.y, m.z, scaled];
            fits.then(|| (m.dot(&(q - place)), SVector::from(row)))
        };
        self.source.iter().filter_map(pair).collect()
    }

    /// Steps until they are short; the reach of the last one. `None` without partners.
    fn settle(&mut self, voxel: f64) -> Option<f64> {
        let mut reach = FAR;
        for _ in 0..ROUNDS {
            reach = (reach * SHRINK).max(NEAR * voxel);
            let step = self.round(reach, voxel, None)?;
            if step < STILL && reach <= NEAR * voxel {
                break;
            }
        }
        Some(reach)
    }

    /// One step, and how long it was. With `noise` the start counts too, as a measurement with the
    /// networks' errors beside a surface with that noise. `None` without partners.
    fn round(&mut self, reach: f64, voxel: f64, noise: Option<f64>) -> Option<f64> {
        let pairs = self.pairs(reach);
        if pairs.len() < ENOUGH {
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
            // The errors of a volume are alike all over a face: its residuals count as one.
            let each = noise * noise * pairs.len() as f64;
            let (turn, scale) = (ERRORS.0.to_radians() * radius, ERRORS.1 * radius);
            let (across, deep) = ERRORS.2;
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
