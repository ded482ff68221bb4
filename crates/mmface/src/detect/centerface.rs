//! Decodes the outputs of CenterFace (Xu et al., "CenterFace: Joint Face Detection and Alignment
//! Using Face as Point", 2019): a heat map of face centres at a quarter of the canvas's resolution,
//! with a size, an offset and five landmarks for each cell.

use super::{Detection, non_max_suppression};

/// Least score of a face. It may be low, because the presence head checks each detection again.
const SCORE: f32 = 0.35;
/// Two detections whose intersection over union is greater show the same face.
const OVERLAP: f32 = 0.3;
/// Names of the network's outputs: heat map, scale, offset, landmarks.
pub(super) const OUTPUTS: [&str; 4] = ["537", "538", "539", "540"];

/// The faces after non-max suppression, highest score first. `maps`: the four outputs in the order
/// of [`OUTPUTS`], each of shape [1, channels, height / 4, width / 4]; `canvas`: width and height.
/// Boxes are in canvas pixels, measured from the canvas's corner.
pub(super) fn faces(maps: &[&[f32]], canvas: [i32; 2]) -> Vec<Detection> {
    non_max_suppression(decode(maps, canvas), OVERLAP)
}

/// One detection for each cell with a sufficient score; none if an output is too short.
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
            // Landmarks: y, then x, in units of the box's size, from its corner.
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

/// The in-plane rotation in radians, clockwise as seen, from an upright face's five points (eyes,
/// nose, corners of the mouth, left to right as seen) to the given ones. Least squares over all
/// five, so that it also works for profiles, whose eyes alone do not determine it.
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
