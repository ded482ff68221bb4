//! Draws faces: boxes, landmarks, axes and labels.

use super::canvas::{Canvas, Colour};
use super::text::Font;
use crate::meta::Seen;

/// What is drawn of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) bounds: bool,
    pub(super) landmarks: bool,
    pub(super) axes: bool,
    pub(super) labels: bool,
}

/// Colours of faces, chosen by id modulo their number.
const TINTS: [[f32; 3]; 8] = [
    [110.0, 190.0, 255.0],
    [255.0, 184.0, 96.0],
    [130.0, 226.0, 160.0],
    [196.0, 160.0, 255.0],
    [255.0, 146.0, 140.0],
    [110.0, 224.0, 222.0],
    [255.0, 158.0, 214.0],
    [240.0, 222.0, 110.0],
];

/// Colours of the axes x (to the subject's left), y (up) and z (out of the face).
const AXES: [[f32; 3]; 3] = [[255.0, 70.0, 70.0], [80.0, 220.0, 90.0], [70.0, 130.0, 255.0]];

/// Lines between landmarks: first and last index, and whether the line is closed. Contour, brows,
/// nose, eyes, lips.
const LINES: [(usize, usize, bool); 9] = [
    (0, 16, false),
    (17, 21, false),
    (22, 26, false),
    (27, 30, false),
    (31, 35, false),
    (36, 41, true),
    (42, 47, true),
    (48, 59, true),
    (60, 67, true),
];

const NOSE_TIP: usize = 30;
const WHITE: [f32; 3] = [255.0; 3];
const DARK: [f32; 3] = [16.0, 18.0, 22.0];

/// Draws all faces, smaller ones first (they are farther away).
pub(super) fn faces(canvas: &mut Canvas, faces: &[Seen], parts: Parts) {
    let mut order: Vec<_> = faces.iter().collect();
    order.sort_by(|a, b| size(a).total_cmp(&size(b)));
    let font = Font::for_height(canvas.height);
    for face in order {
        if parts.bounds {
            let width = (size(face) / 150.0).clamp(1.0, 3.0);
            canvas.frame(face.bounds, width, Colour::new(tint(face.id), 0.8));
        }
        if parts.landmarks {
            landmarks(canvas, face);
        }
        if parts.axes {
            axes(canvas, face);
        }
        if parts.labels {
            label(canvas, font, face);
        }
    }
}

fn tint(id: u64) -> [f32; 3] {
    TINTS[(id % TINTS.len() as u64) as usize]
}

/// Longer side of a face's box in pixels.
fn size(face: &Seen) -> f32 {
    face.bounds[2].max(face.bounds[3])
}

fn landmarks(canvas: &mut Canvas, face: &Seen) {
    let width = (size(face) / 200.0).clamp(0.6, 3.0);
    let points = &face.landmarks;
    if points.len() == ::mmface::face::LANDMARKS {
        for (first, last, closed) in LINES {
            let line = points[first..=last].iter().chain(closed.then(|| &points[first]));
            for (a, b) in line.clone().zip(line.skip(1)) {
                canvas.line(*a, *b, width, Colour::new(WHITE, 0.4));
            }
        }
    }
    let dot = 2.4 * width.max(0.8);
    for point in points {
        canvas.dot(*point, dot + 1.0, Colour::new(DARK, 0.35));
        canvas.dot(*point, dot, Colour::new(WHITE, 0.95));
    }
}

fn axes(canvas: &mut Canvas, face: &Seen) {
    let [left, top, width, height] = face.bounds;
    let middle = [left + width / 2.0, top + height / 2.0];
    let origin = face.landmarks.get(NOSE_TIP).copied().unwrap_or(middle);
    let [right, up, near] = face.rotation;
    let (length, thickness) = (size(face) / 3.0, (size(face) / 90.0).clamp(1.5, 6.0));
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| near[a].total_cmp(&near[b]));
    for axis in order {
        let end = [origin[0] + right[axis] * length, origin[1] - up[axis] * length];
        canvas.line(origin, end, thickness + 1.5, Colour::new(DARK, 0.35));
        canvas.line(origin, end, thickness, Colour::new(AXES[axis], 0.95));
    }
}

fn label(canvas: &mut Canvas, font: Font, face: &Seen) {
    let text = format!("id {}  {:.0} %", face.id, 100.0 * face.confidence);
    let [x, y, width, height] = face.bounds;
    let (wide, line) = (font.width(&text) as f32, font.height() as f32);
    let room = |size: usize, needed: f32| (size as f32 - needed).max(0.0);
    let x = (x + (width - wide) / 2.0).round().clamp(0.0, room(canvas.width, wide));
    let (above, below) = (y - 1.4 * line, y + height + 0.4 * line);
    let y = if above > 0.0 { above } else { below };
    let y = y.round().clamp(0.0, room(canvas.height, line));
    let pad = (line / 4.0).round();
    canvas.fill([x - pad, y, wide + 2.0 * pad, line], Colour::new(DARK, 0.6));
    font.write(canvas, [x, y], &text, Colour::new(tint(face.id), 1.0));
}
