//! A z-buffered triangle rasteriser for one face: small smooth triangles, drawn with four samples a
//! pixel where the face is small enough to show its edges and to be cheap, laid on the picture at
//! the end.

use super::canvas::Canvas;

/// Faces up to this many pixels wide or high get four samples a pixel. On larger ones jagged edges
/// are small beside the face, and four times the samples would cost too much.
const FINE: f32 = 400.0;

/// A transparent picture of the nearest surface over a part of a canvas.
#[derive(Default)]
pub struct Layer {
    /// Canvas pixel of the top left corner.
    left: usize,
    top: usize,
    /// Samples in a row of a pixel: 1 or 2.
    scale: usize,
    /// In samples.
    width: usize,
    height: usize,
    colour: Vec<[u8; 4]>,
    depth: Vec<f32>,
    corners: Vec<[f32; 3]>,
}

impl Layer {
    /// Draws a mesh. `points` are in canvas pixels, z toward the viewer; `colours` (0…255) are
    /// those of the points, R, G, B already multiplied by the fourth, the opacity. Triangles run
    /// counter-clockwise seen from outside; those seen from inside are left out.
    pub fn draw(
        &mut self,
        canvas: &mut Canvas,
        points: &[[f32; 3]],
        colours: &[[f32; 4]],
        triangles: &[[u32; 3]],
    ) {
        self.clear(bounds(points, colours), canvas);
        let scale = self.scale as f32;
        // Samples lie in the middle of the parts of a pixel, and 0 is the middle of the first one.
        let place = |v: f32, origin: usize| (v - origin as f32 + 0.5) * scale - 0.5;
        let mut corners = std::mem::take(&mut self.corners);
        corners.clear();
        corners
            .extend(points.iter().map(|&[x, y, z]| [place(x, self.left), place(y, self.top), z]));
        for triangle in triangles {
            let [a, b, c] = triangle.map(|i| i as usize);
            self.triangle(
                [corners[a], corners[b], corners[c]],
                [colours[a], colours[b], colours[c]],
            );
        }
        self.corners = corners;
        match self.scale {
            1 => self.lay_on::<1>(canvas),
            _ => self.lay_on::<2>(canvas),
        }
    }

    /// Makes room for the part of the box (left, top, right, bottom) that is on the canvas.
    fn clear(&mut self, [left, top, right, bottom]: [f32; 4], canvas: &Canvas) {
        let columns = super::canvas::inside(left - 1.0, right + 1.0, canvas.width);
        let rows = super::canvas::inside(top - 1.0, bottom + 1.0, canvas.height);
        self.scale = if (right - left).max(bottom - top) <= FINE { 2 } else { 1 };
        (self.left, self.top) = (columns.start, rows.start);
        (self.width, self.height) = (columns.len() * self.scale, rows.len() * self.scale);
        self.colour.clear();
        self.colour.resize(self.width * self.height, [0; 4]);
        self.depth.clear();
        self.depth.resize(self.width * self.height, f32::NEG_INFINITY);
    }

    fn triangle(&mut self, [a, b, c]: [[f32; 3]; 3], [ca, cb, cc]: [[f32; 4]; 3]) {
        let (bx, by, cx, cy) = (b[0] - a[0], b[1] - a[1], c[0] - a[0], c[1] - a[1]);
        let area = bx * cy - cx * by;
        // y points down, so what is counter-clockwise has a negative area.
        if area.is_nan() || area > -1e-6 {
            return;
        }
        // How a value that is linear over the triangle changes by one sample to the right and down.
        let inverse = 1.0 / area;
        let slope = |a: f32, b: f32, c: f32| {
            let (b, c) = ((b - a) * inverse, (c - a) * inverse);
            (b * cy - c * by, c * bx - b * cx)
        };
        let (zx, zy) = slope(a[2], b[2], c[2]);
        let slopes: [_; 4] = std::array::from_fn(|i| slope(ca[i], cb[i], cc[i]));
        let right = slopes.map(|(x, _)| x);

        let mut corners = [a, b, c];
        corners.sort_unstable_by(|p, q| p[1].total_cmp(&q[1]));
        let [high, middle, low] = corners;
        let lean = |p: [f32; 3], q: [f32; 3]| (q[0] - p[0]) / (q[1] - p[1]);
        let (long, upper, lower) = (lean(high, low), lean(high, middle), lean(middle, low));
        // A sample on an edge belongs to the triangle below or right of it: no gap, none twice.
        for row in up(high[1])..up(low[1]).min(self.height) {
            let y = row as f32;
            let one = high[0] + (y - high[1]) * long;
            let lean = if y < middle[1] { upper } else { lower };
            let other = middle[0] + (y - middle[1]) * lean;
            let end = up(one.max(other)).min(self.width);
            let start = up(one.min(other)).min(end);
            let (dx, dy) = (start as f32 - a[0], y - a[1]);
            let mut z = a[2] + zx * dx + zy * dy;
            let mut value: [f32; 4] =
                std::array::from_fn(|i| ca[i] + slopes[i].0 * dx + slopes[i].1 * dy);
            let samples = row * self.width + start..row * self.width + end;
            let depths = &mut self.depth[samples.clone()];
            for (depth, out) in depths.iter_mut().zip(&mut self.colour[samples]) {
                if z > *depth {
                    *depth = z;
                    *out = value.map(|v| (v + ROUND).to_bits() as u8);
                }
                z += zx;
                value.iter_mut().zip(right).for_each(|(v, x)| *v += x);
            }
        }
    }

    /// Lays the layer on the canvas, `N` × `N` samples to a pixel.
    fn lay_on<const N: usize>(&self, canvas: &mut Canvas) {
        let count = (N * N) as u32;
        for (y, rows) in (self.top..).zip(self.colour.chunks_exact((self.width * N).max(1))) {
            let row = canvas.row_mut(y).iter_mut().skip(self.left);
            for (x, pixel) in (0..self.width / N).zip(row) {
                let mut sum = [0u32; 4];
                for line in rows.chunks_exact(self.width) {
                    for sample in &line[x * N..][..N] {
                        sum.iter_mut().zip(sample).for_each(|(s, v)| *s += u32::from(*v));
                    }
                }
                if sum[3] > 0 {
                    let [r, g, b, opacity] = sum.map(|s| (s + count / 2) / count);
                    for (below, over) in pixel.iter_mut().zip([r, g, b]) {
                        let through = (u32::from(*below) * (255 - opacity) + 127) / 255;
                        *below = (through + over).min(255) as u8;
                    }
                }
            }
        }
    }
}

/// Added to a number from 0 to 255, it leaves the rounded number in the lowest byte of the f32:
/// several times faster than a conversion that saturates.
const ROUND: f32 = (1 << 23) as f32;

/// The next whole number, from 0 on.
fn up(value: f32) -> usize {
    let value = value.clamp(0.0, 1e6);
    let whole = value as i32;
    (whole + i32::from((whole as f32) < value)) as usize
}

/// left, top, right, bottom of what can be seen.
fn bounds(points: &[[f32; 3]], colours: &[[f32; 4]]) -> [f32; 4] {
    let seen = points.iter().zip(colours).filter(|(_, colour)| colour[3] >= 1.0);
    seen.fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |[l, t, r, b], (&[x, y, _], _)| {
        [l.min(x), t.min(y), r.max(x), b.max(y)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [f32; 4] = [255.0, 0.0, 0.0, 255.0];
    const BLUE: [f32; 4] = [0.0, 0.0, 255.0, 255.0];

    fn drawn(
        size: usize,
        points: &[[f32; 3]],
        colours: &[[f32; 4]],
        triangles: &[[u32; 3]],
    ) -> Canvas {
        let mut canvas = Canvas::black(size, size);
        Layer::default().draw(&mut canvas, points, colours, triangles);
        canvas
    }

    fn at(canvas: &Canvas, x: usize, y: usize) -> [u8; 3] {
        let at = (y * canvas.width + x) * 4;
        [canvas.bytes[at], canvas.bytes[at + 1], canvas.bytes[at + 2]]
    }

    #[test]
    fn a_square_of_two_triangles_covers_its_pixels_once() {
        // Half transparent, so that a pixel that both cover would show.
        let points = [[1.5, 1.5, 0.0], [1.5, 5.5, 0.0], [5.5, 5.5, 0.0], [5.5, 1.5, 0.0]];
        let half = [128.0, 128.0, 128.0, 128.0];
        let canvas = drawn(8, &points, &[half; 4], &[[0, 1, 2], [0, 2, 3]]);
        for y in 0..8 {
            for x in 0..8 {
                let covered = (2..=5).contains(&x) && (2..=5).contains(&y);
                assert_eq!(at(&canvas, x, y), [if covered { 128 } else { 0 }; 3], "{x} {y}");
            }
        }
    }

    #[test]
    fn edges_through_a_pixel_cover_part_of_it() {
        let points = [[1.5, 1.5, 0.0], [1.5, 5.5, 0.0], [3.0, 5.5, 0.0], [3.0, 1.5, 0.0]];
        let canvas = drawn(8, &points, &[[255.0; 4]; 4], &[[0, 1, 2], [0, 2, 3]]);
        assert_eq!(at(&canvas, 2, 3), [255; 3]);
        assert_eq!(at(&canvas, 3, 3), [128; 3]);
        assert_eq!(at(&canvas, 4, 3), [0; 3]);
    }

    #[test]
    fn the_nearer_surface_hides_the_other_in_either_order() {
        let square = |z: f32| [[0.0, 0.0, z], [0.0, 8.0, z], [8.0, 8.0, z], [8.0, 0.0, z]];
        let points = [square(1.0), square(2.0)].concat();
        let colours = [[RED; 4], [BLUE; 4]].concat();
        let (far, near) = ([[0, 1, 2], [0, 2, 3]], [[4, 5, 6], [4, 6, 7]]);
        for triangles in [[far, near].concat(), [near, far].concat()] {
            assert_eq!(at(&drawn(9, &points, &colours, &triangles), 4, 4), [0, 0, 255]);
        }
    }

    #[test]
    fn surfaces_seen_from_inside_are_left_out() {
        let points = [[0.0, 0.0, 0.0], [0.0, 8.0, 0.0], [8.0, 8.0, 0.0]];
        assert_eq!(at(&drawn(9, &points, &[RED; 3], &[[0, 1, 2]]), 2, 5), [255, 0, 0]);
        assert_eq!(at(&drawn(9, &points, &[RED; 3], &[[0, 2, 1]]), 2, 5), [0; 3]);
    }

    #[test]
    fn what_leaves_the_canvas_or_is_no_number_does_no_harm() {
        let nan = f32::NAN;
        for points in [
            [[-50.0, -50.0, 0.0], [-50.0, 90.0, 0.0], [90.0, 90.0, 0.0]],
            [[1e9, 1e9, 0.0], [1e9, 2e9, 0.0], [2e9, 2e9, 0.0]],
            [[nan, nan, nan], [0.0, 8.0, nan], [8.0, 8.0, nan]],
            [[f32::INFINITY, 0.0, 0.0], [f32::NEG_INFINITY, 8.0, 0.0], [8.0, 8.0, 0.0]],
        ] {
            drawn(9, &points, &[RED; 3], &[[0, 1, 2], [2, 1, 0]]);
        }
    }

    #[test]
    fn large_faces_are_drawn_with_one_sample_a_pixel() {
        let points = [
            [-400.0, -400.0, 0.0],
            [-400.0, 400.0, 0.0],
            [400.0, 400.0, 0.0],
            [400.0, -400.0, 0.0],
        ];
        let canvas = drawn(9, &points, &[RED; 4], &[[0, 1, 2], [0, 2, 3]]);
        assert_eq!([at(&canvas, 0, 0), at(&canvas, 8, 8)], [[255, 0, 0]; 2]);
    }
}
