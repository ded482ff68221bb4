//! NumPy arrays as images.

use std::borrow::Cow;

use mmface::Image;
use mmface::image::{Colour, Layout, Matrix, Plane};
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::arguments::{choice, shown};
use crate::error::fail;

/// Largest side of a frame, pixels.
const LARGEST: usize = 1 << 16;

/// The pixels of a frame, borrowed from NumPy for as long as this lives.
pub(crate) struct Frame<'py> {
    arrays: Vec<PyReadonlyArrayDyn<'py, u8>>,
    layout: Layout,
    width: usize,
    height: usize,
    colour: Colour,
}

impl<'py> Frame<'py> {
    /// Reads `frame`: an array, or for `i420` and `nv12` a tuple of planes.
    pub(crate) fn new(
        frame: &Bound<'py, PyAny>,
        format: Option<&Bound<'py, PyAny>>,
        matrix: Option<&Bound<'py, PyAny>>,
        full_range: bool,
    ) -> PyResult<Self> {
        let formats = [
            ("bgr", Layout::Bgr),
            ("rgb", Layout::Rgb),
            ("grey", Layout::Grey),
            ("i420", Layout::I420),
            ("nv12", Layout::Nv12),
        ];
        let asked = format.map(|format| choice("format", format, &formats)).transpose()?;
        let matrices = [("bt601", Matrix::Bt601), ("bt709", Matrix::Bt709)];
        let matrix = matrix.map(|matrix| choice("matrix", matrix, &matrices)).transpose()?;
        let colour = Colour { matrix: matrix.unwrap_or(Matrix::Bt601), full_range };
        if frame.is_instance_of::<PyTuple>() || frame.is_instance_of::<PyList>() {
            return Self::of_planes(frame, asked, colour);
        }
        let array = bytes(frame, "the frame")?;
        let (layout, width, height) = match (asked, array.shape()) {
            (Some(Layout::Grey) | None, &[height, width]) => (Layout::Grey, width, height),
            (Some(Layout::Grey), &[height, width, 1]) => (Layout::Grey, width, height),
            (Some(Layout::Bgr | Layout::Rgb) | None, &[height, width, 3]) => {
                (asked.unwrap_or(Layout::Bgr), width, height)
            }
            (Some(layout @ (Layout::I420 | Layout::Nv12)), &[rows, width])
                if rows % 3 == 0 && width % 2 == 0 && (rows / 3 * 2) % 2 == 0 =>
            {
                (layout, width, rows / 3 * 2)
            }
            (_, shape) => return Err(wrong_shape(asked, shape)),
        };
        Self { arrays: vec![array], layout, width, height, colour }.checked()
    }

    /// A frame whose planes are arrays of their own, [height, width] and half of it, rounded up.
    fn of_planes(
        planes: &Bound<'py, PyAny>,
        asked: Option<Layout>,
        colour: Colour,
    ) -> PyResult<Self> {
        let Some(layout) = asked.filter(|layout| layout.is_yuv()) else {
            return Err(fail(
                "a tuple of arrays is a frame only with format=\"i420\" or \"nv12\"; else pass one \
                 array",
            ));
        };
        let arrays = planes
            .try_iter()?
            .map(|plane| bytes(&plane?, "a plane"))
            .collect::<PyResult<Vec<_>>>()?;
        let (height, width) = match arrays.first().map(|luma| luma.shape()) {
            Some(&[height, width]) => (height, width),
            _ => (0, 0),
        };
        let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
        let fits = |plane: Option<&PyReadonlyArrayDyn<'py, u8>>, shape: &[usize]| {
            plane.is_some_and(|plane| plane.shape() == shape)
        };
        let right = match layout {
            Layout::I420 => {
                arrays.len() == 3
                    && fits(arrays.get(1), &[rows, columns])
                    && fits(arrays.get(2), &[rows, columns])
            }
            _ => {
                arrays.len() == 2
                    && (fits(arrays.get(1), &[rows, columns, 2])
                        || fits(arrays.get(1), &[rows, 2 * columns]))
            }
        };
        if !right {
            let shapes: Vec<_> = arrays.iter().map(|plane| tuple(plane.shape())).collect();
            return Err(fail(format!(
                "the planes have the shapes {}; a frame is Y (height, width) and, at half width and \
                 height rounded up, Cb and Cr (\"i420\") or both interleaved (\"nv12\")",
                shapes.join(", ")
            )));
        }
        Self { arrays, layout, width, height, colour }.checked()
    }

    fn checked(self) -> PyResult<Self> {
        let (width, height) = (self.width, self.height);
        if width == 0 || height == 0 {
            let shape = self.arrays.first().map_or(&[][..], |array| array.shape());
            return Err(fail(format!("the frame is empty (shape {})", tuple(shape))));
        }
        if width > LARGEST || height > LARGEST {
            return Err(fail(format!(
                "the frame has {width}x{height} pixels; a side can have {LARGEST} at most"
            )));
        }
        Ok(self)
    }

    /// The image. Pixels are borrowed where rows follow each other without gaps, else copied.
    pub(crate) fn image(&self) -> mmface::Result<Image<'_>> {
        let (width, height) = (self.width as u32, self.height as u32);
        let sizes = self.layout.planes(width, height);
        let pixels: Vec<Cow<'_, [u8]>> = self.arrays.iter().map(samples).collect();
        let planes: Vec<_> = match (&pixels[..], sizes.len()) {
            // All planes in one array, one after the other.
            ([all], count) if count > 1 => {
                let mut rest = &all[..];
                let mut planes = Vec::new();
                for size in &sizes {
                    let (now, later) =
                        rest.split_at_checked(size.row * size.rows).unwrap_or((rest, &[]));
                    planes.push(Plane::new(now.to_vec(), size.row));
                    rest = later;
                }
                planes
            }
            _ => {
                let planes = pixels.into_iter().zip(&sizes);
                planes.map(|(bytes, size)| Plane { bytes, stride: size.row }).collect()
            }
        };
        Ok(Image::new(self.layout, width, height, planes)?.with_colour(self.colour))
    }
}

/// The samples of an array in the order of its indices.
fn samples<'a>(array: &'a PyReadonlyArrayDyn<'_, u8>) -> Cow<'a, [u8]> {
    // Of an array in Fortran's order `as_slice` would give the samples in another order.
    if array.is_c_contiguous()
        && let Ok(samples) = array.as_slice()
    {
        return Cow::Borrowed(samples);
    }
    let view = array.as_array();
    let mut copy = Vec::with_capacity(view.len());
    // Rows of a part of a larger image are whole pieces of memory.
    for row in view.rows() {
        match row.as_slice() {
            Some(row) => copy.extend_from_slice(row),
            None => copy.extend(row.iter()),
        }
    }
    Cow::Owned(copy)
}

/// An array of bytes.
fn bytes<'py>(value: &Bound<'py, PyAny>, what: &str) -> PyResult<PyReadonlyArrayDyn<'py, u8>> {
    let Ok(array) = value.cast::<PyUntypedArray>() else {
        let cure = match value.get_type().module().map(|module| module.to_string()) {
            Ok(module) if module.starts_with("PIL") => {
                ": pass numpy.asarray(image.convert(\"RGB\")) with format=\"rgb\""
            }
            Ok(module) if module.starts_with("torch") => {
                ": pass (image.permute(1, 2, 0) * 255).byte().cpu().numpy() with format=\"rgb\""
            }
            _ if value.is_none() => ": was the picture or frame read at all?",
            _ => "",
        };
        return Err(fail(format!(
            "{what} must be a NumPy array of uint8, not {}{cure}",
            shown(value)
        )));
    };
    let Ok(array) = value.cast::<PyArrayDyn<u8>>() else {
        let kind = array.dtype();
        let cure = match kind.kind() {
            b'f' => ": if it holds 0…1, pass (255 * frame).round().astype(numpy.uint8)",
            b'u' if kind.itemsize() == 2 => {
                ": of 16 bits take the upper eight, (frame >> 8).astype(numpy.uint8)"
            }
            _ => ": convert it with .astype(numpy.uint8) if its values are 0 to 255",
        };
        return Err(fail(format!("{what} must be of dtype uint8, not {kind}{cure}")));
    };
    array.try_readonly().map_err(|_| fail(format!("{what} is being written to by another thread")))
}

fn wrong_shape(asked: Option<Layout>, shape: &[usize]) -> PyErr {
    let (name, wanted) = match asked {
        Some(Layout::Grey) => ("grey", "(height, width)"),
        Some(Layout::Rgb) => ("rgb", "(height, width, 3)"),
        Some(Layout::Bgr) => ("bgr", "(height, width, 3)"),
        Some(Layout::I420) => ("i420", "(3 * height / 2, width) with even sides, or three planes"),
        Some(Layout::Nv12) => ("nv12", "(3 * height / 2, width) with even sides, or two planes"),
        None => ("bgr", "(height, width, 3), or (height, width) for grey"),
    };
    let cure = match shape {
        [3, _, _] => ": put the channels last with numpy.moveaxis(frame, 0, 2)",
        [_, _, 4] => ": leave out the fourth channel with frame[:, :, :3]",
        [1, _, _, 3] => ": pass frame[0]",
        [_, _, _, 3] => ": pass one frame after the other",
        [_, _] if asked.is_some() => ": leave out format=, and it is read as grey",
        _ => "",
    };
    fail(format!("a \"{name}\" frame has the shape {wanted}, this one has {}{cure}", tuple(shape)))
}

/// A shape as Python writes it.
fn tuple(shape: &[usize]) -> String {
    let sides: Vec<_> = shape.iter().map(ToString::to_string).collect();
    format!("({}{})", sides.join(", "), if shape.len() == 1 { "," } else { "" })
}
