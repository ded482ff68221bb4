//! The eyes of the face model: corners of the lids, and eyeballs.

use nalgebra::{Matrix4, Vector3, Vector4};

use super::model::{Basis, points};
use super::{FaceModel, Params};

/// Landmarks of the outer and the inner corner of the subject's right eye, and of the left.
pub const CORNERS: [[usize; 2]; 2] = [[36, 39], [45, 42]];

/// Both eyes of the model at rest. Index 0 is the subject's right eye, 1 the left.
pub(super) struct EyeModel {
    /// Outer and inner corner of the right eye, then of the left.
    corners: Basis,
    /// Centres of the eyeballs. Expressions do not move them.
    centres: Basis,
    balls: [Ball; 2],
}

/// An eyeball at rest.
#[derive(Debug, Clone, Copy)]
struct Ball {
    /// Unit vector from its centre through the middle of the iris.
    axis: Vector3<f32>,
    /// From the centre to its front, model units.
    front: f32,
    /// From the centre to the middle of the iris' edge, model units.
    iris: f32,
}

/// One eye of a face, in model space.
#[derive(Debug, Clone, Copy)]
pub struct Eye {
    /// Outer and inner corner of the lids.
    pub corners: [[f32; 3]; 2],
    /// The point about which the eyeball turns.
    pub centre: Vector3<f32>,
    /// Unit vector in which it looks at rest.
    pub axis: Vector3<f32>,
    /// Distance from the centre to the middle of the iris, model units.
    pub iris: f32,
}

impl Eye {
    /// Distance between the corners, model units.
    #[must_use]
    pub fn width(&self) -> f32 {
        let [a, b] = self.corners.map(Vector3::from);
        (a - b).norm()
    }
}

impl EyeModel {
    /// Finds the eyeballs among the mesh's regions `eye`, `iris` and `pupil`. `None` for a face
    /// model without them.
    pub(super) fn find(model: &FaceModel) -> Option<Self> {
        let mean = points(&model.vertices.mean);
        let of = |name: &str| -> Option<Vec<usize>> {
            let region = model.regions.iter().position(|known| known == name)?;
            let triangles = model.triangles.iter().zip(&model.triangle_region);
            let mut found: Vec<usize> = triangles
                .filter(|(_, of)| usize::from(**of) == region)
                .flat_map(|(corners, _)| corners.map(|corner| corner as usize))
                .collect();
            found.sort_unstable();
            found.dedup();
            Some(found)
        };
        let (white, iris, pupil) = (of("eye")?, of("iris")?, of("pupil")?);
        let mut centres = Basis { mean: Vec::new(), modes: Vec::new() };
        let mut moved = Vec::new();
        let mut balls = Vec::new();
        for sign in [-1.0, 1.0] {
            let side = |all: &[usize]| -> Vec<usize> {
                all.iter().copied().filter(|&at| mean[at][0] * sign > 0.0).collect()
            };
            let (white, iris, pupil) = (side(&white), side(&iris), side(&pupil));
            let edge: Vec<usize> = iris.iter().copied().filter(|at| white.contains(at)).collect();
            let all: Vec<usize> = white.into_iter().chain(iris).collect();
            let (ball, centre) = sphere(&mean, &all, &edge, &pupil)?;
            balls.push(ball);
            centres.mean.extend(centre.iter());
            moved.push(all);
        }
        let size = model.vertices.mean.len();
        for mode in model.vertices.modes.chunks_exact(size).take(model.identities) {
            let by = points(mode);
            centres.modes.extend(moved.iter().flat_map(|all| mean_of(&by, all).data.0[0]));
        }
        let corners = model.landmarks3d.picked(CORNERS.as_flattened());
        Some(Self { corners, centres, balls: balls.try_into().ok()? })
    }

    /// The eyes of a face. Eyeballs are `size` times as large as the model's, shrunk about their
    /// fronts.
    pub(super) fn of(&self, params: &Params, size: f32) -> [Eye; 2] {
        let corners = points(&self.corners.shape(params.identity.iter().chain(&params.expression)));
        let centres = points(&self.centres.shape(params.identity.iter()));
        std::array::from_fn(|side| {
            let Ball { axis, front, iris } = self.balls[side];
            Eye {
                corners: [corners[2 * side], corners[2 * side + 1]],
                centre: Vector3::from(centres[side]) + axis * front * (1.0 - size),
                axis,
                iris: iris * size,
            }
        })
    }
}

fn mean_of(points: &[[f32; 3]], which: &[usize]) -> Vector3<f32> {
    let sum: Vector3<f32> = which.iter().map(|&at| Vector3::from(points[at])).sum();
    sum / which.len().max(1) as f32
}

/// The sphere through the vertices `all` of an eyeball, by least squares, and its centre. `edge`:
/// the vertices between iris and white. `None` if they are no eyeball.
fn sphere(
    mean: &[[f32; 3]],
    all: &[usize],
    edge: &[usize],
    pupil: &[usize],
) -> Option<(Ball, Vector3<f32>)> {
    if edge.is_empty() || pupil.is_empty() {
        return None;
    }
    // |p|² = 2 p·c + k for all points p of the sphere around c. About their mean, for the sake of
    // the digits.
    let middle = mean_of(mean, all);
    let (mut normal, mut right) = (Matrix4::zeros(), Vector4::zeros());
    for &at in all {
        let p = Vector3::from(mean[at]) - middle;
        let row = Vector4::new(2.0 * p.x, 2.0 * p.y, 2.0 * p.z, 1.0);
        normal += row * row.transpose();
        right += row * p.norm_squared();
    }
    let centre = middle + (normal.try_inverse()? * right).xyz();
    let axis = (mean_of(mean, pupil) - centre).try_normalize(1e-6)?;
    let along = |at: usize| (Vector3::from(mean[at]) - centre).dot(&axis);
    let front = all.iter().map(|&at| along(at)).fold(f32::MIN, f32::max);
    let iris = edge.iter().map(|&at| along(at)).sum::<f32>() / edge.len() as f32;
    (front > 0.0 && iris > 0.0 && centre.iter().all(|v| v.is_finite()))
        .then_some((Ball { axis, front, iris }, centre))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MODEL;

    #[test]
    fn eyeballs_lie_behind_the_lids_and_look_ahead() {
        let [right, left] = MODEL.eyes(&Params::neutral(), 1.0).expect("a model with eyes");
        // The subject's left is x.
        assert!(left.centre.x > 2.0 && (left.centre.x + right.centre.x).abs() < 1e-3);
        for eye in [right, left] {
            let [outer, inner] = eye.corners;
            assert!(outer[0].abs() > eye.centre.x.abs() && inner[0].abs() < eye.centre.x.abs());
            assert!(eye.centre.z < inner[2] && eye.centre.z + eye.iris > outer[2]);
            assert!(eye.axis.z > 0.99 && (2.0..3.5).contains(&eye.width()), "{eye:?}");
        }
        // A smaller eyeball keeps its front.
        let [_, small] = MODEL.eyes(&Params::neutral(), 0.8).expect("a model with eyes");
        let front = |eye: &Eye, size: f32| eye.centre.z + size * (left.iris + 0.2) * eye.axis.z;
        assert!((front(&small, 0.8) - front(&left, 1.0)).abs() < 0.05);
    }

    #[test]
    fn a_turn_by_expression_is_about_the_centre() {
        // eyeLookOutLeft at 1 turns the left eyeball by 30°: what the model draws must agree with
        // centre and axis found here.
        let at = MODEL.expressions.iter().position(|n| n == "eyeLookOutLeft").expect("a name");
        let mut params = Params::neutral();
        params.identity = vec![0.0; MODEL.identities];
        params.expression = vec![0.0; MODEL.expressions.len()];
        let rest = MODEL.shape(&params);
        params.expression[at] = 1.0;
        let turned = MODEL.shape(&params);
        let [_, left] = MODEL.eyes(&Params::neutral(), 1.0).expect("a model with eyes");
        let pupil = MODEL.regions.iter().position(|name| name == "pupil").expect("a region");
        let pole = MODEL
            .triangles
            .iter()
            .zip(&MODEL.triangle_region)
            .find(|(corners, of)| usize::from(**of) == pupil && rest[corners[0] as usize][0] > 0.0)
            .expect("a triangle")
            .0[0] as usize;
        let [from, to] = [rest[pole], turned[pole]].map(|p| Vector3::from(p) - left.centre);
        let angle = from.angle(&to).to_degrees();
        assert!((angle - 30.0).abs() < 2.5, "{angle}");
        assert!(to.x > from.x, "to the subject's left");
    }
}
