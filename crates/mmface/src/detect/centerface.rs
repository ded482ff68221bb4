//! What CenterFace (Xu et al., 2019) says: a heat map of face centres at a quarter of the canvas's size,
//! with a size, an offset and five landmarks for each centre.

use super::{Detection, non_max_suppression};

/// From this score on a centre is a face: the presence head judges again, so it may be low.
const SCORE: f32 = 0.35;
/// Detections that overlap by more are of one face.
const OVERLAP: f32 = 0.3;
/// The network's outputs: heat map, scale, offset, landmarks.
pub(super) const OUTPUTS: [&str; 4] = ["537", "538", "539", "540"];

/// The faces, surest first, none twice.
pub(super) fn faces(maps: &[&[f32]], canvas: [i32; 2]) -> Vec<Detection> {
    non_max_suppression(decode(maps, canvas), OVERLAP)
}

/// Boxes in pixels of the canvas from its corner.
fn decode(maps: &[&[f32]], [width, height]: [i32; 2]) -> Vec<Detection> {
    let (w, h) = (width as usize / 4, height as usize / 4);
    let [heat, scale, offset, landmarks] = maps else { return Vec::new() };
    let enough = |map: &[f32], channels| map.len() >= channels * w * h;
    if !enough(heat, 1) || !enough(scale, 2) || !enough(offset, 2) || !enough(landmarks, 10) {
        return Vec::new();
    }
    let at = |map: &[f32], channel: usize, cell: usize| map[channel * w * h + cell];
    (0..w * h)
        .filter(|&cell| heat[cell] >= SCORE)
        .map(|cell| {
            let size = [1, 0].map(|k| at(scale, k, cell).clamp(-10.0, 10.0).exp() * 4.0);
            let centre = [
                (at(offset, 1, cell) + (cell % w) as f32 + 0.5) * 4.0,
                (at(offset, 0, cell) + (cell / w) as f32 + 0.5) * 4.0,
            ];
            // Landmarks: y then x, in units of the box from its corner.
            let points: [[f32; 2]; 5] = std::array::from_fn(|k| {
                [at(landmarks, 2 * k + 1, cell) * size[0], at(landmarks, 2 * k, cell) * size[1]]
            });
            Detection {
                bounds: [centre[0] - size[0] / 2.0, centre[1] - size[1] / 2.0, size[0], size[1]],
                score: heat[cell].min(1.0),
                angle: tilt(&points),
            }
        })
        .collect()
}

/// The in-plane rotation that best takes five points of an upright face (eyes, nose, mouth corners,
/// as seen from left to right) to these: least squares, so that it also holds in profile, where
/// the eyes alone say nothing.
fn tilt(points: &[[f32; 2]; 5]) -> f32 {
    const UPRIGHT: [[f32; 2]; 5] =
        [[-0.32, -0.35], [0.32, -0.35], [0.0, 0.02], [-0.25, 0.34], [0.25, 0.34]];
    let mean = [0, 1].map(|k| points.iter().map(|p| p[k]).sum::<f32>() / 5.0);
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (p, u) in points.iter().zip(UPRIGHT) {
        let p = [p[0] - mean[0], p[1] - mean[1]];
        cosine += u[0] * p[0] + u[1] * p[1];
        sine += u[0] * p[1] - u[1] * p[0];
    }
    if sine == 0.0 && cosine == 0.0 { 0.0 } else { sine.atan2(cosine) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_becomes_a_box() {
        // An 8×8 map for a 32×32 canvas, one peak in column 3, row 5.
        let (cell, area) = (5 * 8 + 3, 64);
        let mut heat = vec![0.0; area];
        heat[cell] = 0.9;
        let mut scale = vec![0.0; 2 * area];
        scale[cell] = 3f32.ln();
        scale[area + cell] = 2f32.ln();
        let (offset, landmarks) = (vec![0.0; 2 * area], vec![0.0; 10 * area]);
        let found = decode(&[&heat, &scale, &offset, &landmarks], [32, 32]);
        assert_eq!(found.len(), 1);
        let [x, y, w, h] = found[0].bounds;
        assert!((w - 8.0).abs() < 1e-4 && (h - 12.0).abs() < 1e-4);
        assert!((x + w / 2.0 - 14.0).abs() < 1e-4 && (y + h / 2.0 - 22.0).abs() < 1e-4);
    }

    #[test]
    fn tilt_is_clockwise_as_seen() {
        let upright = [[30.0, 30.0], [70.0, 30.0], [50.0, 50.0], [35.0, 70.0], [65.0, 70.0]];
        assert!(tilt(&upright).abs() < 0.01);
        let (sin, cos) = 0.5f32.sin_cos();
        let turned = upright.map(|[x, y]| [cos * x - sin * y, sin * x + cos * y]);
        assert!((tilt(&turned) - 0.5).abs() < 0.01);
    }
}
