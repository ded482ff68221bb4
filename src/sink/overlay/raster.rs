//! A triangle rasteriser with a depth buffer, for one face at a time: small, smooth triangles. A
//! face is drawn on a layer of its own that is then blended over the image. Each pixel is the mean
//! of four samples (anti-aliasing).

use super::canvas::Canvas;

/// For faces up to this many pixels wide or high, each pixel has four samples of its own. For
/// larger ones that would be too slow, so neighbouring pixels share samples, which is softer but
/// not jagged.
const FINE: f32 = 400.0;

/// A transparent image of the nearest surfaces, covering a part of a canvas.
#[derive(Default)]
pub(super) struct Layer {
    /// Column of the canvas at the left edge.
    left: usize,
    /// Row of the canvas at the top edge.
    top: usize,
    /// Samples per pixel in each direction: 1 or 2.
    scale: usize,
    /// Width in samples.
    width: usize,
    /// Height in samples.
    height: usize,
    colour: Vec<[u8; 4]>,
    depth: Vec<f32>,
    corners: Vec<[f32; 3]>,
}

impl Layer {
    /// Draws a mesh. `points`: canvas pixels, z toward the viewer. `colours` of the points: R, G, B
    /// (0…255) premultiplied by the opacity, which is the fourth value (0…255). Triangles are
    /// counter-clockwise as seen from outside; back faces are culled.
    pub(super) fn draw(
        &mut self,
        canvas: &mut Canvas,
        points: &[[f32; 3]],
        colours: &[[f32; 4]],
        triangles: &[[u32; 3]],
    ) {
        self.clear(bounds(points, colours), canvas);
        let scale = self.scale as f32;
        let place = |v: f32, origin: usize| place(v, origin, scale);
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
        self.lay_on(canvas);
    }

    /// Depth of the nearest surface at a place on the canvas, as of the last [`draw`](Self::draw).
    pub(super) fn depth(&self, [x, y]: [f32; 2]) -> f32 {
        let scale = self.scale as f32;
        let sample =
            |v: f32, origin: usize| (place(v, origin, scale) + 0.5).clamp(0.0, 1e6) as usize;
        let (column, row) = (sample(x, self.left), sample(y, self.top));
        let inside = column < self.width && row < self.height;
        if inside { self.depth[row * self.width + column] } else { f32::NEG_INFINITY }
    }

    /// Clears the layer and makes it cover the part of the box (left, top, right, bottom) that is
    /// on the canvas.
    fn clear(&mut self, [left, top, right, bottom]: [f32; 4], canvas: &Canvas) {
        let columns = super::canvas::inside(left - 1.0, right + 1.0, canvas.width);
        let rows = super::canvas::inside(top - 1.0, bottom + 1.0, canvas.height);
        self.scale = if (right - left).max(bottom - top) <= FINE { 2 } else { 1 };
        (self.left, self.top) = (columns.start, rows.start);
        // Two samples per pixel in each direction; with a scale of 1 neighbours share them.
        let samples = |pixels: usize| if pixels > 0 { (pixels - 1) * self.scale + 2 } else { 0 };
        (self.width, self.height) = (samples(columns.len()), samples(rows.len()));
        self.colour.clear();
        self.colour.resize(self.width * self.height, [0; 4]);
        self.depth.clear();
        self.depth.resize(self.width * self.height, f32::NEG_INFINITY);
    }

    fn triangle(&mut self, [a, b, c]: [[f32; 3]; 3], [ca, cb, cc]: [[f32; 4]; 3]) {
        let (bx, by, cx, cy) = (b[0] - a[0], b[1] - a[1], c[0] - a[0], c[1] - a[1]);
        let area = bx * cy - cx * by;
        // y points down, so counter-clockwise triangles have a negative area.
        if area.is_nan() || area > -1e-6 {
            return;
        }
        // Derivatives of a value that is linear over the triangle, per sample to the right and
        // down.
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
        // A sample on an edge belongs to the triangle below or right of it, so no sample is left
        // out or drawn twice.
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

    /// Blends the layer over the canvas. A pixel is the mean of the four samples around its centre.
    fn lay_on(&self, canvas: &mut Canvas) {
        let line = |y: usize| &self.colour[y * self.width..(y + 1) * self.width];
        for (y, lower) in (1..self.height).step_by(self.scale).enumerate() {
            let (upper, lower) = (line(lower - 1), line(lower));
            let row = canvas.row_mut(self.top + y).iter_mut().skip(self.left);
            let fours = upper.windows(2).zip(lower.windows(2)).step_by(self.scale);
            for (pixel, (upper, lower)) in row.zip(fours) {
                *pixel = over(*pixel, [upper[0], upper[1], lower[0], lower[1]]);
            }
        }
    }
}

/// Blends the mean of four samples over a pixel. Runs for every pixel of a face, so R and B, and G
/// and opacity, are processed together in the halves of one integer each.
#[inline(always)]
fn over(below: [u8; 4], samples: [[u8; 4]; 4]) -> [u8; 4] {
    const HALVES: u32 = 0x00ff_00ff;
    let split = |v: u32| [v & HALVES, v >> 8 & HALVES];
    let [rb, ga] = samples
        .map(u32::from_le_bytes)
        .map(split)
        .iter()
        .fold([0, 0], |sum, v| [sum[0] + v[0], sum[1] + v[1]]);
    if ga == 0 {
        return below;
    }
    let mean = [rb, ga].map(|sum| (sum + 0x0002_0002) >> 2 & HALVES);
    let through = 255 - (mean[1] >> 16);
    // For rounding: x / 255 is (y + (y >> 8)) >> 8 with y = x + 128.
    let [rb, ga] = split(u32::from_le_bytes(below)).map(|v| {
        let v = v * through + 0x0080_0080;
        (v + (v >> 8 & HALVES)) >> 8 & HALVES
    });
    let ([r, _, b, _], [g, ..]) = (rb.to_le_bytes(), ga.to_le_bytes());
    let ([mr, _, mb, _], [mg, ..]) = (mean[0].to_le_bytes(), mean[1].to_le_bytes());
    [r.saturating_add(mr), g.saturating_add(mg), b.saturating_add(mb), below[3]]
}

/// Converts a canvas coordinate to a sample coordinate.
fn place(v: f32, origin: usize, scale: f32) -> f32 {
    (v - origin as f32) * scale + 0.5
}

/// Adding this to a number from 0 to 255 leaves the rounded number in the lowest byte of the f32.
/// Several times faster than a saturating conversion.
const ROUND: f32 = (1 << 23) as f32;

/// The smallest integer that is not less than `value`, at least 0.
fn up(value: f32) -> usize {
    let value = value.clamp(0.0, 1e6);
    let whole = value as i32;
    (whole + i32::from((whole as f32) < value)) as usize
}

/// The box (left, top, right, bottom) around all visible points.
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
    fn large_faces_are_drawn_too() {
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
