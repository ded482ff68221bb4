//! OpenSeeFace's packets: pose, points and features of a face.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mmface::face::{FaceModel, Params, rotation};
use nalgebra::{Matrix3, Rotation3, UnitQuaternion, Vector3};

use super::arkit::{self, Coefficients};
use super::pose::{Presence, Side, eye};
use super::{Pose, Protocol};

/// OpenSeeFace's default port.
pub(super) const PORT: u16 = 11573;

/// Its points, by their places among i·bug's 68. It has the corners of the mouth once.
const POINTS: [usize; 66] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46,
    47, // eyes
    49, 50, 51, 52, 53, 55, 56, 57, 58, 59, // outer lips
    48, 61, 62, 63, 54, 65, 66, 67, // inner lips, between the corners
];
/// Distance of the outer corners of the eyes in its units, and in centimetres. The first is that of
/// its own face.
const EYES: f32 = 0.6596;
const EYES_CM: f32 = 9.0;
/// Centimetres of one of its units.
const UNIT: f32 = EYES_CM / EYES;
/// How far its pupils lie before the middle of the eyeballs, in parts of an eye's width.
const EYEBALL: f32 = 0.385;

/// Sends a packet a frame.
pub(super) struct OpenSeeFace {
    model: Arc<FaceModel>,
}

impl OpenSeeFace {
    /// A sender of faces of this model.
    #[must_use]
    pub(super) fn new(model: Arc<FaceModel>) -> Self {
        Self { model }
    }
}

/// Numbers in the order of the packet.
#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn floats(&mut self, values: impl IntoIterator<Item = f32>) {
        self.0.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
}

impl Protocol for OpenSeeFace {
    fn packets(&mut self, pose: &Pose, out: &mut Vec<Vec<u8>>) {
        let seen = pose.presence == Presence::Seen;
        let turned = turned(&pose.rotation);
        let open = |name: &str| (1.0 - arkit::value(&pose.coefficients, name)).clamp(0.0, 1.0);
        let mut packet = Packet::default();
        let since = pose.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        packet.0.extend(since.to_le_bytes());
        // Receivers expect the first face to be 0.
        packet.0.extend(0_i32.to_le_bytes());
        packet.floats(pose.size);
        packet.floats([open("eyeBlinkRight"), open("eyeBlinkLeft")]);
        packet.0.push(u8::from(seen));
        packet.floats([0.0]); // Nothing here is an error of a fit.
        packet.floats(quaternion(&turned));
        packet.floats(euler(&turned));
        let [right, up, away] = pose.position;
        packet.floats([up, -right, -away].map(|cm| cm / UNIT));
        let points = pose.params.as_ref().filter(|_| seen).map(|params| self.points(params, pose));
        let (flat, deep) = points.unwrap_or_else(|| (vec![[0.0; 2]; 68], vec![[0.0; 3]; 70]));
        packet.floats([if seen { 1.0 } else { 0.0 }; 68]);
        packet.floats(flat.into_iter().flatten());
        packet.floats(deep.into_iter().flat_map(|[x, y, z]| [x, -y, -z]));
        packet.floats(features(&pose.coefficients));
        out.push(packet.0);
    }
}

/// The rotation in its axes: from a face with x to the subject's right, y up and z out of the face
/// to a camera with x up, y to the left in the picture and z away from it. (Its camera's axes change
/// places because it counts rows before columns.)
fn turned(rotation: &UnitQuaternion<f32>) -> Matrix3<f32> {
    let to_camera = Matrix3::new(0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0);
    to_camera * rotation::matrix(rotation) * Matrix3::from_diagonal(&Vector3::new(-1.0, 1.0, 1.0))
}

/// Its quaternion [x, y, z, w], which is that of the inverse rotation.
fn quaternion(turned: &Matrix3<f32>) -> [f32; 4] {
    let q =
        UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(turned.transpose()));
    [q.i, q.j, q.k, q.w]
}

/// Its angles in degrees: turned by x about x, then by y about y, then by z about z.
fn euler(turned: &Matrix3<f32>) -> [f32; 3] {
    let y = (-turned[(2, 0)]).clamp(-1.0, 1.0).asin();
    let x = turned[(2, 1)].atan2(turned[(2, 2)]);
    let z = turned[(1, 0)].atan2(turned[(0, 0)]);
    [x, y, z].map(f32::to_degrees)
}

impl OpenSeeFace {
    /// 66 points and two pupils in pixels; and in its units on a face that looks ahead, with two
    /// eyeballs behind them.
    fn points(&self, params: &Params, pose: &Pose) -> (Vec<[f32; 2]>, Vec<[f32; 3]>) {
        let flat = self.model.landmarks(params);
        let back = rotation::matrix(&params.rotation).transpose();
        let ahead: Vec<Vector3<f32>> = self
            .model
            .landmarks3d(params)
            .iter()
            .map(|[x, y, z]| back * Vector3::new(*x, -y, *z))
            .map(|point| Vector3::new(-point.x, point.y, point.z))
            .collect();
        let scale = EYES / (ahead[36] - ahead[45]).norm().max(1e-6);
        let nose = ahead[30];
        let ahead: Vec<_> = ahead.iter().map(|point| (point - nose) * scale).collect();

        let mut seen: Vec<[f32; 2]> = POINTS.iter().map(|at| flat[*at]).collect();
        let mut deep: Vec<[f32; 3]> = POINTS.iter().map(|at| ahead[*at].into()).collect();
        let mut eyeballs = Vec::new();
        for (side, outer, inner) in [(Side::Right, 36, 39), (Side::Left, 45, 42)] {
            let middle = (ahead[outer] + ahead[inner]) / 2.0;
            let radius = (ahead[outer] - ahead[inner]).norm() * EYEBALL;
            let eyeball = middle - Vector3::z() * radius;
            let [sideways, up] = eye(&pose.coefficients, side).map(f32::to_radians);
            let gaze = Vector3::new(-sideways.sin(), up.sin(), sideways.cos() * up.cos());
            deep.push((eyeball + gaze.normalize() * radius).into());
            eyeballs.push(eyeball.into());
            seen.push([0, 1].map(|k| f32::midpoint(flat[outer][k], flat[inner][k])));
        }
        deep.extend::<Vec<[f32; 3]>>(eyeballs);
        (seen, deep)
    }
}

/// Its 14 features, −1…1: eyes open (left, right); steepness, height and bend of the left brow and
/// of the right one; corners of the mouth (down, out; left, then right); mouth open, wide. They are
/// made from the coefficients.
fn features(coefficients: &Coefficients) -> [f32; 14] {
    let of = |name: &str| arkit::value(coefficients, name);
    let sided = |name: &str, side: &str| of(&format!("{name}{side}"));
    let lid = |side| sided("eyeWide", side) - sided("eyeBlink", side);
    let inner = of("browInnerUp");
    let brow = |side| {
        let (outer, down) = (sided("browOuterUp", side), sided("browDown", side));
        [inner - outer - down, (inner + outer) / 2.0 - down, 0.0]
    };
    let corner = |side| {
        let (smile, frown) = (sided("mouthSmile", side), sided("mouthFrown", side));
        [frown - smile, smile / 2.0 + sided("mouthStretch", side) - of("mouthPucker")]
    };
    let ([left_down, left_out], [right_down, right_out]) = (corner("Left"), corner("Right"));
    let ([a, b, c], [d, e, f]) = (brow("Left"), brow("Right"));
    let wide = f32::midpoint(left_out, right_out);
    let open = of("jawOpen") - of("mouthClose");
    let all = [
        lid("Left"),
        lid("Right"),
        a,
        b,
        c,
        d,
        e,
        f, //
        left_down,
        left_out,
        right_down,
        right_out,
        open,
        wide,
    ];
    all.map(|value: f32| value.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation::from_angles;
    use nalgebra::Quaternion;

    use super::super::tests::pose;
    use super::*;
    use crate::testing::face_model;

    /// What a receiver reads, written from the order of OpenSee.cs.
    struct Seen {
        id: i32,
        open: [f32; 2],
        success: bool,
        raw: [f32; 4],
        euler: [f32; 3],
        translation: [f32; 3],
        points: Vec<[f32; 2]>,
        deep: Vec<[f32; 3]>,
    }

    fn read(packet: &[u8]) -> Seen {
        assert_eq!(packet.len(), 1785);
        let float = |at: usize| f32::from_le_bytes(packet[at..at + 4].try_into().expect("4"));
        Seen {
            id: i32::from_le_bytes(packet[8..12].try_into().expect("4")),
            open: [float(20), float(24)],
            success: packet[28] != 0,
            raw: std::array::from_fn(|k| float(33 + 4 * k)),
            euler: std::array::from_fn(|k| float(49 + 4 * k)),
            translation: std::array::from_fn(|k| float(61 + 4 * k)),
            points: (0..68).map(|p| [0, 1].map(|k| float(345 + 8 * p + 4 * k))).collect(),
            // It turns y back, and for looks at a gaze also x.
            deep: (0..70)
                .map(|p| std::array::from_fn(|k| float(889 + 12 * p + 4 * k)))
                .map(|[x, y, z]: [f32; 3]| [x, -y, z])
                .collect(),
        }
    }

    fn sent(pose: &Pose) -> Seen {
        let mut packets = Vec::new();
        OpenSeeFace::new(face_model()).packets(pose, &mut packets);
        assert_eq!(packets.len(), 1);
        read(&packets[0])
    }

    /// How OpenSeeIKTarget.cs turns its target: relative to the pose at its calibration.
    fn target(raw: [f32; 4]) -> UnitQuaternion<f32> {
        let [x, y, z, w] = raw;
        UnitQuaternion::from_quaternion(Quaternion::new(w, -y, -x, z))
    }

    #[test]
    fn the_receivers_head_turns_as_the_head() {
        let calibrated = target(sent(&pose()).raw).inverse();
        for angles in [[20.0, 0.0, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 15.0], [-10.0, -35.0, 20.0]] {
            let turned = Pose { rotation: from_angles(angles), ..pose() };
            let there = target(sent(&turned).raw) * calibrated;
            let [x, y, z, w] = super::super::pose::unity(&turned.rotation);
            let expected = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
            assert!(there.angle_to(&expected) < 2e-3, "{angles:?}");
        }
    }

    #[test]
    fn angles_of_a_face_that_looks_ahead_are_those_of_the_tracker() {
        // Its own code takes these for a face that looks ahead.
        let [x, y, z] = sent(&pose()).euler;
        assert!((x.abs() - 180.0).abs() < 1e-3 && y.abs() < 1e-3 && (z - 90.0).abs() < 1e-3);
    }

    #[test]
    fn the_place_is_that_of_the_receivers_axes() {
        // 10 cm to the right in the picture, which is the subject's left; 5 up; 68 away.
        let [x, y, z] = sent(&Pose { position: [10.0, 5.0, 68.0], ..pose() }).translation;
        // The receiver's target: (y, x, z), x to the avatar's right, z ahead.
        let unit = UNIT;
        assert_eq!([y * unit, x * unit, z * unit].map(f32::round), [-10.0, 5.0, -68.0]);
    }

    #[test]
    fn points_lie_where_they_are_expected() {
        let model = face_model();
        let mut params = Params::neutral();
        params.identity = vec![0.0; model.identities];
        params.expression = vec![0.0; model.expressions.len()];
        params.rotation = from_angles([5.0, 20.0, 0.0]);
        (params.f, params.t) = (16.0, [300.0, 200.0, 0.0]);
        let mut looking = Pose { rotation: params.rotation, params: Some(params), ..pose() };
        looking.coefficients[arkit::index("eyeLookOutLeft").expect("a name")] = 0.5;
        looking.coefficients[arkit::index("eyeLookInRight").expect("a name")] = 0.5;
        looking.coefficients[0] = 0.8;
        let seen = sent(&looking);
        assert!(seen.success && seen.id == 0);
        assert_eq!(seen.open, [1.0, 1.0 - 0.8]);
        assert_eq!(seen.points[30], model.landmarks(&looking.params.expect("there"))[30]);
        let [x, y, z] = [0, 1, 2].map(|k| seen.deep.iter().map(|p| p[k]).collect::<Vec<f32>>());
        // x to the subject's right, y up, z (as sent) into the face.
        assert!((x[36] - x[45] - EYES).abs() < 0.02, "{}", x[36] - x[45]);
        assert!(y[27] > y[30] && y[8] < y[57] && y[57] < y[30]);
        assert!(
            z[36] > z[30] && z[0] > z[36],
            "the nose is before the eyes, these before the ears"
        );
        assert!(x[58] > x[48] && x[62] < x[52], "corners of the mouth are outermost");
        // Both pupils are moved to the subject's left, and before their eyeballs.
        for (pupil, eyeball) in [(66, 68), (67, 69)] {
            assert!(x[pupil] < x[eyeball] && z[pupil] < z[eyeball]);
        }
    }

    #[test]
    fn no_face_is_no_success() {
        let gone = sent(&Pose { presence: Presence::Gone, ..pose() });
        assert!(!gone.success);
        assert!(gone.points.iter().flatten().all(|v| *v == 0.0));
    }
}
