//! Where the eyes look.
//!
//! A small network finds the iris in a patch around each eye. The direction follows from
//! geometry: the middle of the iris lies on the face model's eyeball, whose centre the fit gives.
//! Over time, fixations are steadied and jumps are let through.

mod filter;
mod patch;

pub(crate) use filter::Filter;
pub(crate) use patch::{COLUMNS, PatchMap, ROWS, sample};

use nalgebra::Vector3;

use crate::face::{CORNERS, Eye, FaceModel, Params, rotation};

/// How patches are cut and read. Part of the weights' manifest, because the network was trained on
/// patches placed in the same way.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct GazeRule {
    /// Width of a patch in eye widths.
    pub span: f32,
    /// Size of people's eyeballs in those of the face model.
    pub eyeball: f32,
    /// How far people's eyeballs lie above those of the face model, in eye widths.
    pub raise: f32,
}

impl GazeRule {
    /// The point about which a person's eye turns, model space.
    fn centre(&self, eye: &Eye) -> Vector3<f32> {
        eye.centre + Vector3::y() * self.raise * eye.width()
    }
}

/// The names of the expressions that turn an eye, with the degrees of a full turn: up, down, to
/// the nose, to the temple.
const TURNS: [(&str, f32); 4] =
    [("eyeLookUp", 25.0), ("eyeLookDown", 30.0), ("eyeLookIn", 35.0), ("eyeLookOut", 30.0)];
/// Degrees by which an expression turns its eye at a coefficient of 1; `None` if it turns none.
#[must_use]
pub fn full_turn(expression: &str) -> Option<f32> {
    TURNS.iter().find(|(stem, _)| expression.starts_with(stem)).map(|(_, degrees)| *degrees)
}

/// An eye that is turned further away from the camera than this (the cosine) shows no iris.
const HIDDEN: f32 = 0.25;
/// Confidence from which on an eye says where it looks.
const SURE: f32 = 0.5;
/// Longest sideways part of a direction. Further out a pixel is many degrees.
const FARTHEST: f32 = 0.95;

/// What the network sees of one eye in one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sight {
    /// Middle of the iris, pixels of the image.
    pub iris: [f32; 2],
    /// Outer and inner corner of the lids, pixels of the image.
    pub corners: [[f32; 2]; 2],
    /// Probability that the iris is in sight, 0…1.
    pub confidence: f32,
}

/// Where one eye looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EyeGaze {
    /// Middle of the iris in pixels of the image; `None` while it is not in sight.
    pub iris: Option<[f32; 2]>,
    /// Unit vector in camera space: x right, y up, z toward the camera.
    pub direction: [f32; 3],
    /// Probability that the iris is in sight, 0…1. While it is below 0.5, `direction` is that of
    /// the other eye, or the last one, or straight ahead.
    pub confidence: f32,
}

/// Where a face looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gaze {
    /// The subject's left eye.
    pub left: EyeGaze,
    /// The subject's right eye.
    pub right: EyeGaze,
    /// Where both eyes look: the mean of their directions, a unit vector in camera space.
    pub direction: [f32; 3],
    /// The higher confidence of the two eyes.
    pub confidence: f32,
}

/// [pitch, yaw] in degrees of a direction in camera space, with the signs of the head's: those of a
/// head that looks there. Pitch is positive upwards, yaw negative towards the right of the picture.
#[must_use]
pub fn angles([x, y, z]: [f32; 3]) -> [f32; 2] {
    [y.atan2(z), (-x).clamp(-1.0, 1.0).asin()].map(f32::to_degrees)
}

/// Where a patch of each eye is to be cut: the subject's right eye, then the left. `None` if the
/// face model has no eyes or a place is no place.
pub(crate) fn patches(
    model: &FaceModel,
    params: &Params,
    landmarks: &[[f32; 2]],
    rule: &GazeRule,
) -> Option<[PatchMap; 2]> {
    let eyes = model.eyes(params, rule.eyeball)?;
    let angle = rotation::upright_angle(&params.rotation);
    let mut maps = [PatchMap::default(); 2];
    let places = maps.iter_mut().zip(&eyes).zip(CORNERS);
    for (side, ((map, eye), corners)) in places.enumerate() {
        let [a, b] = corners.map(|at| landmarks.get(at).copied());
        let (a, b) = (a?, b?);
        *map = PatchMap {
            centre: [0, 1].map(|k| (a[k] + b[k]) / 2.0),
            scale: rule.span * eye.width() * params.f / COLUMNS as f32,
            angle,
            mirrored: side == 0,
        };
        if !map.is_sane() {
            return None;
        }
    }
    Some(maps)
}

/// The directions in which the irises that are in sight show, in camera space: of the right eye,
/// then of the left.
pub(crate) fn directions(
    model: &FaceModel,
    params: &Params,
    sights: &[Sight; 2],
    rule: &GazeRule,
) -> [Option<Vector3<f32>>; 2] {
    let Some(eyes) = model.eyes(params, rule.eyeball) else { return [None; 2] };
    std::array::from_fn(|side| {
        let (eye, sight) = (&eyes[side], &sights[side]);
        let turned = params.rotation * eye.axis;
        if sight.confidence < SURE || turned.z < HIDDEN {
            return None;
        }
        let optical = optical_axis(eye, rule.centre(eye), params, sight)?;
        let turn = from_rest(&(params.rotation.inverse() * optical), &eye.axis);
        Some(params.rotation * looking(turn))
    })
}

/// From the centre of the eyeball to the middle of the iris. The fit may lie beside
/// the eye; the eyeball is moved by as much as the corners that are seen lie beside the model's.
fn optical_axis(
    eye: &Eye,
    centre: Vector3<f32>,
    params: &Params,
    sight: &Sight,
) -> Option<Vector3<f32>> {
    let [outer, inner] = eye.corners;
    let placed = params.project(&[outer, inner, centre.into()]);
    let beside = |k: usize| -> f32 {
        (0..2).map(|corner| sight.corners[corner][k] - placed[corner][k]).sum::<f32>() / 2.0
    };
    let arm = params.f * eye.iris;
    let [x, y] = [0, 1].map(|k| (sight.iris[k] - placed[2][k] - beside(k)) / arm);
    let length = x.hypot(y);
    if !length.is_finite() {
        return None;
    }
    let shorter = if length > FARTHEST { FARTHEST / length } else { 1.0 };
    let (x, y) = (x * shorter, -y * shorter);
    Some(Vector3::new(x, y, (1.0 - x * x - y * y).sqrt()))
}

/// Sets the coefficients `eyeLook…` of a face to where its eyes look.
pub(crate) fn turn_eyes(model: &FaceModel, params: &mut Params, gaze: &Gaze) {
    let back = params.rotation.inverse();
    for (eye, name, sign) in [(&gaze.right, "Right", -1.0), (&gaze.left, "Left", 1.0)] {
        let [up, left] = turn_of(&(back * Vector3::from(eye.direction)));
        let outwards = sign * left;
        for ((stem, full), turned) in TURNS.iter().zip([up, -up, -outwards, outwards]) {
            let known = |name_of: &String| name_of.strip_prefix(stem) == Some(name);
            if let Some(weight) = model
                .expressions
                .iter()
                .position(known)
                .and_then(|at| params.expression.get_mut(at))
            {
                *weight = (turned / full).clamp(0.0, 1.0);
            }
        }
    }
}

/// How far a direction in model space is turned from straight ahead: degrees up, and to the
/// subject's left.
fn turn_of(direction: &Vector3<f32>) -> [f32; 2] {
    [direction.y.clamp(-1.0, 1.0).asin(), direction.x.atan2(direction.z)].map(f32::to_degrees)
}

/// How far an optical axis is turned from its `rest`. At rest the eye looks straight ahead, although
/// its optical axis does not: people's axes point some degrees to the temple of what they look at.
fn from_rest(optical: &Vector3<f32>, rest: &Vector3<f32>) -> [f32; 2] {
    let ([up, left], [up0, left0]) = (turn_of(optical), turn_of(rest));
    [up - up0, left - left0]
}

/// The direction of a turn, in model space.
fn looking([up, left]: [f32; 2]) -> Vector3<f32> {
    let ((y, level), (x, z)) = (up.to_radians().sin_cos(), left.to_radians().sin_cos());
    Vector3::new(level * x, y, level * z)
}

#[cfg(test)]
mod tests;
