//! The image that is drawn on: blending, lines, filled boxes, resizing.

/// An image with four bytes per pixel: R, G, B and an unused byte.
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

impl Canvas {
    /// A black image.
    pub(super) fn black(width: usize, height: usize) -> Self {
        Self { width, height, bytes: vec![0; width * height * 4] }
    }

    /// All rows, from the top.
    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [[u8; 4]]> {
        let width = self.width.max(1);
        self.bytes.as_chunks_mut().0.chunks_exact_mut(width)
    }

    /// Row `y`; empty if it is below the image.
    pub(super) fn row_mut(&mut self, y: usize) -> &mut [[u8; 4]] {
        let pixels = self.bytes.as_chunks_mut().0;
        pixels.get_mut(y * self.width..(y + 1) * self.width).unwrap_or_default()
    }

    fn row(&self, y: usize) -> &[[u8; 4]] {
        let pixels = self.bytes.as_chunks().0;
        pixels.get(y * self.width..(y + 1) * self.width).unwrap_or_default()
    }

    /// Resizes the image, keeping the aspect ratio, with black borders. If it is at most one row or
    /// column too large, that is cut off instead.
    pub(super) fn fitted(self, width: usize, height: usize) -> Self {
        let mut out = Self::black(width, height);
        if self.width.wrapping_sub(width) <= 1 && self.height.wrapping_sub(height) <= 1 {
            for (y, row) in out.rows_mut().enumerate() {
                row.copy_from_slice(&self.row(y)[..width]);
            }
            return out;
        }
        let (w, h) = (self.width as f32, self.height as f32);
        let scale = (width as f32 / w).min(height as f32 / h);
        let left = ((width as f32 - w * scale) / 2.0).round();
        let top = ((height as f32 - h * scale) / 2.0).round();
        for (y, row) in out.rows_mut().enumerate() {
            let v = (y as f32 - top + 0.5) / scale - 0.5;
            for (x, pixel) in row.iter_mut().enumerate() {
                let u = (x as f32 - left + 0.5) / scale - 0.5;
                if (-0.5..w - 0.5).contains(&u) && (-0.5..h - 0.5).contains(&v) {
                    *pixel = self.sample(u.clamp(0.0, w - 1.0), v.clamp(0.0, h - 1.0));
                }
            }
        }
        out
    }

    /// The bilinear value at a place inside the image.
    fn sample(&self, u: f32, v: f32) -> [u8; 4] {
        let (x, y) = (u as usize, v as usize);
        let (ax, ay) = (u.fract(), v.fract());
        let (top, bottom) = (self.row(y), self.row((y + 1).min(self.height - 1)));
        let right = (x + 1).min(self.width - 1);
        std::array::from_fn(|c| {
            let mix =
                |a: [u8; 4], b: [u8; 4], t: f32| f32::from(a[c]) * (1.0 - t) + f32::from(b[c]) * t;
            let (t, b) = (mix(top[x], top[right], ax), mix(bottom[x], bottom[right], ax));
            (t + (b - t) * ay).round() as u8
        })
    }

    /// Blends a colour over every pixel of a box; `coverage` is the covered share of a pixel, 0…1.
    fn cover(
        &mut self,
        [x0, y0, x1, y1]: [f32; 4],
        colour: Colour,
        coverage: impl Fn(f32, f32) -> f32,
    ) {
        let columns = inside(x0, x1, self.width);
        for y in inside(y0, y1, self.height) {
            let row = &mut self.row_mut(y)[columns.clone()];
            for (x, pixel) in columns.clone().zip(row) {
                blend(pixel, colour, coverage(x as f32, y as f32));
            }
        }
    }

    /// Draws a line with round ends, or a dot if both ends are equal.
    pub(super) fn line(&mut self, a: [f32; 2], b: [f32; 2], width: f32, colour: Colour) {
        let radius = width / 2.0;
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length2 = (dx * dx + dy * dy).max(1e-9);
        let reach = radius + 1.0;
        let bounds = [
            a[0].min(b[0]) - reach,
            a[1].min(b[1]) - reach,
            a[0].max(b[0]) + reach,
            a[1].max(b[1]) + reach,
        ];
        self.cover(bounds, colour, |x, y| {
            let (px, py) = (x - a[0], y - a[1]);
            let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let distance = (px - along * dx).hypot(py - along * dy);
            (radius + 0.5 - distance).clamp(0.0, 1.0) * (width.min(1.0))
        });
    }

    /// Draws a filled dot.
    pub(super) fn dot(&mut self, at: [f32; 2], diameter: f32, colour: Colour) {
        self.line(at, at, diameter, colour);
    }

    /// Draws a filled box (x, y, width, height) with round corners.
    pub(super) fn plate(&mut self, [x, y, width, height]: [f32; 4], radius: f32, colour: Colour) {
        let (half_w, half_h) = (width / 2.0, height / 2.0);
        let (cx, cy) = (x + half_w, y + half_h);
        self.cover([x - 1.0, y - 1.0, x + width + 1.0, y + height + 1.0], colour, |px, py| {
            let (dx, dy) = ((px - cx).abs() - half_w + radius, (py - cy).abs() - half_h + radius);
            let distance = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - radius;
            (0.5 - distance).clamp(0.0, 1.0)
        });
    }
}

/// A colour with its opacity, 0…1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    pub rgb: [f32; 3],
    pub alpha: f32,
}

impl Colour {
    /// `rgb`: 0…255 each.
    pub(super) const fn new(rgb: [f32; 3], alpha: f32) -> Self {
        Self { rgb, alpha }
    }
}

/// Blends a colour over a pixel; `coverage` (0…1) is the covered share of the pixel.
#[inline]
pub(super) fn blend(pixel: &mut [u8; 4], colour: Colour, coverage: f32) {
    let alpha = colour.alpha * coverage;
    if alpha > 0.0 {
        for (below, over) in pixel.iter_mut().zip(colour.rgb) {
            let b = f32::from(*below);
            *below = (b + (over - b) * alpha + 0.5) as u8;
        }
    }
}

/// The integers from `low` to `high` within 0…`size`; empty if a limit is NaN.
pub(super) fn inside(low: f32, high: f32, size: usize) -> std::ops::Range<usize> {
    // `as` saturates and turns NaN into 0.
    let end = ((high.floor() + 1.0) as usize).min(size);
    (low.ceil() as usize).min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Colour = Colour::new([255.0; 3], 1.0);

    /// Red of every pixel.
    fn reds(canvas: &Canvas) -> Vec<u8> {
        canvas.bytes.iter().step_by(4).copied().collect()
    }

    #[test]
    fn a_dot_is_round_and_keeps_its_area() {
        let mut canvas = Canvas::black(9, 9);
        canvas.dot([4.0, 4.0], 5.0, WHITE);
        let area = reds(&canvas).iter().map(|r| f32::from(*r) / 255.0).sum::<f32>();
        assert!((area - 19.6).abs() < 1.5, "{area}");
        assert_eq!([canvas.row(4)[4][0], canvas.row(0)[0][0]], [255, 0]);
    }

    #[test]
    fn lines_and_plates_may_leave_the_canvas_or_be_no_numbers() {
        let mut canvas = Canvas::black(4, 4);
        canvas.line([-9.0, 1.0], [1e9, 1.0], 2.0, WHITE);
        canvas.line([f32::NAN, 1.0], [2.0, f32::INFINITY], 2.0, WHITE);
        canvas.plate([-3.0, 3.0, 50.0, 1e12], 2.0, WHITE);
        canvas.plate([f32::NAN; 4], f32::NAN, WHITE);
        assert_eq!(canvas.row(1)[2][0], 255);
    }

    #[test]
    fn another_size_keeps_the_shape() {
        let mut canvas = Canvas::black(4, 2);
        canvas.bytes.fill(200);
        let tall = canvas.fitted(4, 6);
        let rows: Vec<u8> = reds(&tall).into_iter().step_by(4).collect();
        assert_eq!(rows, [0, 0, 200, 200, 0, 0]);
    }

    #[test]
    fn an_odd_row_and_column_are_cut_off() {
        let mut canvas = Canvas::black(3, 3);
        canvas.row_mut(1)[1] = [7; 4];
        let even = canvas.fitted(2, 2);
        assert_eq!(reds(&even), [0, 0, 0, 7]);
    }
}
