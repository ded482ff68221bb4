//! Frames as OpenCV wants them: small, RGB, on a canvas whose sides are multiples of 32.

use opencv::core::{self, Mat, Rect, Scalar, Size};
use opencv::imgproc;
use opencv::prelude::*;

use crate::frame::{Image, Layout};

/// Sides of a scaled picture and of the canvas that it lies on, top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Scaled picture, width and height, even.
    pub inner: [i32; 2],
    /// Canvas, multiples of 32.
    pub canvas: [i32; 2],
}

impl Fit {
    /// The longer side at most `size`, which is a third of it within limits if nobody says; pictures
    /// are never enlarged.
    pub fn new(width: u32, height: u32, size: Option<u32>) -> Self {
        let longer = width.max(height);
        let size = size.unwrap_or((longer / 3).clamp(512, 960));
        let scale = (f64::from(size) / f64::from(longer)).min(1.0);
        let even = |v: u32| (((f64::from(v) * scale / 2.0).round() as i32) * 2).max(2);
        let inner = [even(width), even(height)];
        Self { inner, canvas: inner.map(|v| (v + 31) / 32 * 32) }
    }

    /// A point of the canvas (pixels from its corner, not from the middle of the first pixel) in
    /// pixels of the frame.
    fn point(self, image: &Image, [x, y]: [f32; 2]) -> [f32; 2] {
        let scale = |v: f32, all: u32, inner: i32| v * all as f32 / inner as f32 - 0.5;
        [scale(x, image.width, self.inner[0]), scale(y, image.height, self.inner[1])]
    }

    /// A box of the canvas in pixels of the frame.
    pub fn bounds(self, image: &Image, [x, y, w, h]: [f32; 4]) -> [f32; 4] {
        let [x0, y0] = self.point(image, [x, y]);
        let [x1, y1] = self.point(image, [x + w, y + h]);
        [x0, y0, x1 - x0, y1 - y0]
    }
}

/// The picture scaled (by area, so that nothing flickers) and put on its canvas, RGB.
pub fn rgb(image: &Image, fit: &Fit) -> opencv::Result<Mat> {
    let [w, h] = fit.inner;
    let mut small = Mat::default();
    match image.layout {
        Layout::Rgb => {
            let row = plane(image, 0, image.width as usize * 3, image.height as usize)?;
            shrink(&row.reshape(3, 0)?, &mut small, w, h)?;
        }
        Layout::I420 => {
            let (cw, ch) = (image.width.div_ceil(2) as usize, image.height.div_ceil(2) as usize);
            let luma = plane(image, 0, image.width as usize, image.height as usize)?;
            let mut yuv = Mat::new_size_with_default(
                Size::new(w, h / 2 * 3),
                core::CV_8UC1,
                Scalar::all(0.0),
            )?;
            shrink(&luma, &mut Mat::roi_mut(&mut yuv, Rect::new(0, 0, w, h))?, w, h)?;
            // OpenCV's I420 has the chroma planes after the luma, half a width to a row, two rows
            // of chroma in one row of the matrix.
            for index in [1, 2] {
                let mut half = Mat::default();
                shrink(&plane(image, index, cw, ch)?, &mut half, w / 2, h / 2)?;
                let size = (w / 2 * (h / 2)) as usize;
                let start = (w * h) as usize + (index - 1) * size;
                yuv.data_bytes_mut()?[start..start + size].copy_from_slice(half.data_bytes()?);
            }
            imgproc::cvt_color_def(&yuv, &mut small, imgproc::COLOR_YUV2RGB_I420)?;
        }
    }
    let mut canvas = Mat::default();
    let [cw, ch] = fit.canvas;
    core::copy_make_border(
        &small,
        &mut canvas,
        0,
        ch - h,
        0,
        cw - w,
        core::BORDER_CONSTANT,
        Scalar::all(0.0),
    )?;
    Ok(canvas)
}

/// The picture's luma (or green, for RGB), scaled.
pub fn grey(image: &Image, fit: &Fit) -> opencv::Result<Mat> {
    let mut small = Mat::default();
    match image.layout {
        Layout::I420 => {
            let luma = plane(image, 0, image.width as usize, image.height as usize)?;
            shrink(&luma, &mut small, fit.inner[0], fit.inner[1])?;
        }
        Layout::Rgb => {
            let whole = rgb(image, fit)?;
            imgproc::cvt_color_def(&whole, &mut small, imgproc::COLOR_RGB2GRAY)?;
        }
    }
    Ok(small)
}

fn shrink(
    from: &impl core::ToInputArray,
    to: &mut impl core::ToOutputArray,
    w: i32,
    h: i32,
) -> opencv::Result<()> {
    imgproc::resize(from, to, Size::new(w, h), 0.0, 0.0, imgproc::INTER_AREA)
}

/// A view of a plane's bytes: `rows` rows of `columns` bytes.
fn plane(image: &Image, index: usize, columns: usize, rows: usize) -> opencv::Result<Mat> {
    let (bytes, stride) = (image.planes.plane(index), image.planes.stride(index));
    let short = || opencv::Error::new(core::StsBadSize, "a frame is shorter than it says");
    if stride < columns {
        return Err(short());
    }
    let mut copy = Mat::new_rows_cols_with_default(
        rows as i32,
        columns as i32,
        core::CV_8UC1,
        Scalar::all(0.0),
    )?;
    for (row, out) in copy.data_bytes_mut()?.chunks_exact_mut(columns).enumerate() {
        out.copy_from_slice(bytes.get(row * stride..row * stride + columns).ok_or_else(short)?);
    }
    Ok(copy)
}
