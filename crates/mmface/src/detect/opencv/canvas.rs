//! Canvases, scaled by OpenCV.

use opencv::core::{self, Mat, Rect, Scalar, Size, Vec2b, Vec3b};
use opencv::imgproc;
use opencv::prelude::*;

use super::failed;
use crate::detect::{Canvas, Scaling};
use crate::error::Result;
use crate::image::{Image, Layout};

/// Scales an image by area averaging, which avoids flicker, and puts it on a black canvas as R, G,
/// B.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) for an image whose planes are too short,
/// [`Error::Device`](crate::Error::Device) if OpenCV fails.
pub(crate) fn rgb(image: &Image, scaling: Scaling) -> Result<Canvas> {
    image.check()?;
    let canvas = || -> opencv::Result<Vec<u8>> {
        let ([w, h], [cw, ch]) = (scaling.scaled, scaling.canvas);
        let (mut canvas, constant) = (Mat::default(), core::BORDER_CONSTANT);
        let small = small_rgb(image, scaling)?;
        core::copy_make_border(
            &small,
            &mut canvas,
            0,
            ch - h,
            0,
            cw - w,
            constant,
            Scalar::all(0.0),
        )?;
        Ok(canvas.data_bytes()?.to_vec())
    };
    Ok(Canvas { scaling, pixels: canvas().map_err(|e| failed(&e))? })
}

/// The image's luma, scaled, one byte per pixel, without a black border.
///
/// # Errors
/// As [`rgb`].
pub(crate) fn grey(image: &Image, scaling: Scaling) -> Result<Canvas> {
    image.check()?;
    let grey = || -> opencv::Result<Vec<u8>> {
        let mut small = Mat::default();
        if image.layout == Layout::Rgb || image.layout == Layout::Bgr {
            imgproc::cvt_color_def(
                &small_rgb(image, scaling)?,
                &mut small,
                imgproc::COLOR_RGB2GRAY,
            )?;
        } else {
            shrink::<u8>(image, 0, &mut small, scaling.scaled)?;
        }
        Ok(small.data_bytes()?.to_vec())
    };
    Ok(Canvas { scaling, pixels: grey().map_err(|e| failed(&e))? })
}

/// The scaled image as R, G, B.
fn small_rgb(image: &Image, scaling: Scaling) -> opencv::Result<Mat> {
    let [w, h] = scaling.scaled;
    let (mut small, mut converted) = (Mat::default(), Mat::default());
    let code = match image.layout {
        Layout::Rgb => {
            shrink::<Vec3b>(image, 0, &mut small, scaling.scaled)?;
            return Ok(small);
        }
        Layout::Bgr => {
            shrink::<Vec3b>(image, 0, &mut small, scaling.scaled)?;
            imgproc::COLOR_BGR2RGB
        }
        Layout::Grey => {
            shrink::<u8>(image, 0, &mut small, scaling.scaled)?;
            imgproc::COLOR_GRAY2RGB
        }
        Layout::I420 | Layout::Nv12 => {
            // OpenCV expects the chroma planes below the luma, in one matrix 1.5 times as high.
            let (size, black) = (Size::new(w, h / 2 * 3), Scalar::all(0.0));
            small = Mat::new_size_with_default(size, core::CV_8UC1, black)?;
            let mut luma = Mat::roi_mut(&mut small, Rect::new(0, 0, w, h))?;
            shrink::<u8>(image, 0, &mut luma, scaling.scaled)?;
            let mut start = (w * h) as usize;
            for index in 1..image.layout.planes(image.width, image.height).len() {
                let (mut half, size) = (Mat::default(), [w / 2, h / 2]);
                match image.layout {
                    Layout::Nv12 => shrink::<Vec2b>(image, index, &mut half, size)?,
                    _ => shrink::<u8>(image, index, &mut half, size)?,
                }
                let bytes = half.data_bytes()?;
                small.data_bytes_mut()?[start..start + bytes.len()].copy_from_slice(bytes);
                start += bytes.len();
            }
            match image.layout {
                Layout::Nv12 => imgproc::COLOR_YUV2RGB_NV12,
                _ => imgproc::COLOR_YUV2RGB_I420,
            }
        }
    };
    imgproc::cvt_color_def(&small, &mut converted, code)?;
    Ok(converted)
}

/// Scales a plane by area averaging; `T` is the type of its pixels.
fn shrink<T: core::DataType>(
    image: &Image,
    plane: usize,
    to: &mut impl core::ToOutputArray,
    [w, h]: [i32; 2],
) -> opencv::Result<()> {
    let size = image.layout.planes(image.width, image.height)[plane];
    let (rows, columns) = (size.rows as i32, (size.row / size_of::<T>()) as i32);
    let short = || opencv::Error::new(core::StsBadSize, "a plane is shorter than it says");
    let packed = image.packed(plane).ok_or_else(short)?;
    let from = Mat::new_rows_cols_with_bytes::<T>(rows, columns, &packed)?;
    imgproc::resize(&from, to, Size::new(w, h), 0.0, 0.0, imgproc::INTER_AREA)
}
