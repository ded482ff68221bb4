//! Draws the overlay: meshes, landmarks, axes, labels and the status line.

use mmface::face::rotation;
use mmface::mesh::Mesh;
use mmface::volume::surface;

use super::Drawn;
use super::canvas::{Canvas, Colour};
use super::raster::Layer;
use super::skin::Skin;
use super::style::{self, Style};
use super::text::Font;

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

/// Draws faces of one face model; reuses its buffers from frame to frame.
pub(super) struct Painter {
    skin: Skin,
    style: Style,
    layer: Layer,
    colours: Vec<[f32; 4]>,
}

impl Painter {
    pub(super) fn new(skin: Skin, style: Style) -> Self {
        Self { skin, style, layer: Layer::default(), colours: Vec::new() }
    }

    /// Draws all faces, smaller ones first (they are farther away), then the status line.
    pub(super) fn paint(&mut self, canvas: &mut Canvas, faces: &[Drawn], status: &str) {
        let mut order: Vec<_> = faces.iter().collect();
        order.sort_by(|a, b| size(a).total_cmp(&size(b)));
        for drawn in &order {
            self.mesh(canvas, drawn);
        }
        for drawn in &order {
            landmarks(canvas, drawn);
            axes(canvas, drawn);
        }
        let font = Font::for_height(canvas.height);
        for drawn in &order {
            label(canvas, font, drawn);
        }
        if !status.is_empty() {
            let margin = font.height() / 2;
            plate(canvas, font, [margin, margin], status, WHITE);
        }
    }

    fn mesh(&mut self, canvas: &mut Canvas, drawn: &Drawn) {
        if self.style == Style::Volume {
            let mesh = drawn.volume.as_deref().map(surface).unwrap_or_default();
            let colours = style::directions(&mesh, SOLID);
            self.layer.draw(canvas, &mesh.points, &colours, &mesh.triangles);
            return;
        }
        if drawn.vertices.len() != self.skin.len() {
            return;
        }
        let (points, skin) = (drawn.vertices, &mut self.skin);
        match self.style {
            Style::Depth => {
                let colours = style::depths(points, |i| skin.reach(i) > 0.5);
                self.colours = paint(colours, skin);
            }
            Style::Normals => {
                let (points, triangles) = (points.to_vec(), skin.triangles.clone());
                let normals = Mesh { points, triangles, colours: Vec::new() }.normals();
                self.colours = paint(normals.into_iter().map(style::direction).collect(), skin);
            }
            Style::Wire => {
                let width = (size(drawn) / 500.0).clamp(0.5, 1.5);
                let colour = Colour::new(tint(drawn.face.id), 0.7);
                for [a, b] in style::edges(points, &skin.triangles, |i| skin.reach(i) > 0.2) {
                    let at = |i: u32| [points[i as usize][0], points[i as usize][1]];
                    canvas.line(at(a), at(b), width, colour);
                }
                return;
            }
            _ => skin.shade(points, tint(drawn.face.id), &mut self.colours),
        }
        self.layer.draw(canvas, points, &self.colours, &self.skin.triangles);
    }
}

/// Opacity of a mesh whose colours show measurements.
const SOLID: f32 = 0.9;

/// Adds opacity to the colours of vertices: opaque on the face, transparent elsewhere.
fn paint(colours: Vec<[f32; 3]>, skin: &Skin) -> Vec<[f32; 4]> {
    let opaque = |(i, colour)| style::opaque(colour, SOLID * skin.reach(i));
    colours.into_iter().enumerate().map(opaque).collect()
}

fn tint(id: u64) -> [f32; 3] {
    TINTS[(id % TINTS.len() as u64) as usize]
}

/// Longer side of a face's box in pixels.
fn size(drawn: &Drawn) -> f32 {
    drawn.face.bounds[2].max(drawn.face.bounds[3])
}

fn landmarks(canvas: &mut Canvas, drawn: &Drawn) {
    let width = (size(drawn) / 200.0).clamp(0.6, 3.0);
    let points = &drawn.face.landmarks;
    if points.len() == mmface::face::LANDMARKS {
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

fn axes(canvas: &mut Canvas, drawn: &Drawn) {
    let [left, top, width, height] = drawn.face.bounds;
    let middle = [left + width / 2.0, top + height / 2.0];
    let origin = drawn.face.landmarks.get(NOSE_TIP).copied().unwrap_or(middle);
    let matrix = rotation::matrix(&drawn.face.params.rotation);
    let (length, thickness) = (size(drawn) / 3.0, (size(drawn) / 90.0).clamp(1.5, 6.0));
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| matrix[(2, a)].total_cmp(&matrix[(2, b)]));
    for axis in order {
        let (dx, dy) = (matrix[(0, axis)] * length, -matrix[(1, axis)] * length);
        let end = [origin[0] + dx, origin[1] + dy];
        canvas.line(origin, end, thickness + 1.5, Colour::new(DARK, 0.35));
        canvas.line(origin, end, thickness, Colour::new(AXES[axis], 0.95));
    }
}

fn label(canvas: &mut Canvas, font: Font, drawn: &Drawn) {
    let text = format!("id {}  {:.0} %", drawn.face.id, 100.0 * drawn.face.confidence);
    let [x, y, width, height] = drawn.face.bounds;
    let line = font.height() as f32;
    let room = |size: usize, needed: usize| size.saturating_sub(needed) as f32;
    let x = x + (width - font.width(&text) as f32) / 2.0;
    let x = x.clamp(0.0, room(canvas.width, font.width(&text)));
    // Above the face, or below it where it would cover the status line.
    let (above, below) = (y - 2.2 * line, y + height + 0.8 * line);
    let y = if above > 2.0 * line { above } else { below };
    let y = y.clamp(0.0, room(canvas.height, font.height() * 5 / 4));
    plate(canvas, font, [x as usize, y as usize], &text, tint(drawn.face.id));
}

/// Draws a line of text on a dark box; `at` is the top left corner of the text.
fn plate(canvas: &mut Canvas, font: Font, at: [usize; 2], text: &str, rgb: [f32; 3]) {
    let [x, y] = at;
    let (height, pad) = (font.height() as f32, font.height() as f32 / 3.0);
    let bounds = [
        x as f32 - pad - 0.5,
        y as f32 - pad / 2.0 - 0.5,
        font.width(text) as f32 + 2.0 * pad,
        height + pad,
    ];
    canvas.plate(bounds, pad, Colour::new(DARK, 0.6));
    font.write(canvas, x, y, text, Colour::new(rgb, 1.0));
}
