//! The rotation convention, against a labelled picture.

use super::{FaceModel, Params, rotation};
use crate::testing::MODEL;

/// `Pose_Para` of the sample `IBUG_image_008_1_0` of 300W-LP: pitch, yaw, roll, in degrees.
const ANGLES: [f32; 3] = [-7.583_607, -44.008_65, 3.207_636_4];

/// Its points 17 to 67 (`pt2d`), in pixels. The contour is left out: it is the visible outline there,
/// not points fixed on the face.
#[rustfmt::skip]
const POINTS: [[f32; 2]; 51] = [
    [208.28, 227.33], [223.76, 220.81], [239.1, 218.47], [255.88, 218.54], [269.68, 221.11],
    [292.15, 223.85], [298.9, 216.92], [307.67, 212.92], [314.07, 214.93], [314.03, 224.68],
    [285.27, 244.24], [290.04, 259.13], [294.47, 272.77], [299.16, 282.81], [272.29, 296.39],
    [280.65, 299.95], [292.04, 301.07], [298.18, 297.41], [303.35, 292.89], [226.05, 244.03],
    [237.49, 238.52], [246.41, 235.53], [254.71, 244.37], [246.36, 245.29], [237.4, 246.02],
    [288.37, 240.7], [295.94, 233.41], [303.23, 232.23], [306.29, 237.71], [303.32, 241.12],
    [296.03, 241.22], [226.16, 316.18], [251.57, 314.02], [269.4, 314.23], [279.16, 314.41],
    [284.14, 313.76], [288.46, 312.77], [290.82, 314.05], [287.76, 326.2], [284.48, 336.16],
    [278.54, 340.81], [270.82, 341.53], [252.73, 338.27], [229.35, 317.38], [269.32, 320.56],
    [278.8, 320.42], [283.51, 318.86], [286.9, 317.54], [281.92, 329.9], [276.81, 332.67],
    [268.42, 332.98],
];

/// Mean distance, in pixels, of the labelled points from our mean face at the rotation `r`, scale and
/// place being free. The face is 170 pixels tall from brows to chin.
fn residual(model: &FaceModel, r: [f32; 3]) -> f32 {
    let mean = Params {
        f: 1.0,
        rotation: rotation::from_angles(r),
        t: [0.0; 3],
        identity: Vec::new(),
        expression: Vec::new(),
        landmark_offsets: Vec::new(),
    };
    let face: Vec<[f32; 2]> =
        model.landmarks3d(&mean)[17..].iter().map(|&[x, y, _]| [x, y]).collect();
    let (face, points) = (centred(&face), centred(&POINTS));
    let dot = |a: &[[f32; 2]], b: &[[f32; 2]]| -> f32 {
        a.iter().zip(b).map(|(p, q)| p[0] * q[0] + p[1] * q[1]).sum()
    };
    let f = dot(&face, &points) / dot(&face, &face);
    let off = face.iter().zip(&points).map(|(a, b)| (f * a[0] - b[0]).hypot(f * a[1] - b[1]));
    off.sum::<f32>() / points.len() as f32
}

fn centred(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let mean = |k: usize| points.iter().map(|p| p[k]).sum::<f32>() / points.len() as f32;
    let (x, y) = (mean(0), mean(1));
    points.iter().map(|p| [p[0] - x, p[1] - y]).collect()
}

/// The mean face is not this person, so some residual stays; a wrong sign makes it clearly larger.
/// (The order of the three factors hardly shows at these angles: `rotation` tests it by itself.)
#[test]
fn labelled_angles_lay_the_face_on_the_labelled_points() {
    let right = residual(&MODEL, ANGLES);
    assert!(right < 7.5, "{right} pixels off");
    for signs in 1..8 {
        let wrong: [f32; 3] =
            std::array::from_fn(|k| if signs >> k & 1 == 1 { -ANGLES[k] } else { ANGLES[k] });
        let off = residual(&MODEL, wrong);
        assert!(off > 1.3 * right, "{wrong:?} is {off} pixels off, the labelled angles {right}");
    }
    let [pitch, yaw, roll] = ANGLES;
    for mixed in [[yaw, pitch, roll], [roll, yaw, pitch], [pitch, roll, yaw]] {
        let off = residual(&MODEL, mixed);
        assert!(off > 1.3 * right, "{mixed:?} is {off} pixels off, the labelled angles {right}");
    }
}
