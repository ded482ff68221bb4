//! CenterFace, run by OpenCV's dnn module.

use std::collections::HashMap;

use opencv::core::{CV_8UC3, Mat, Scalar, Vector};
use opencv::dnn::{self, Net};
use opencv::prelude::*;

use super::failed;
use crate::detect::centerface::{OUTPUTS, faces};
use crate::detect::{Canvas, Detection, Detector};
use crate::error::Result;

/// Most networks to keep. Images of different sizes make canvases of different sizes, and each size
/// needs a network of its own (see [`CenterFace::net`]).
const MAX_NETS: usize = 6;

pub(crate) struct CenterFace {
    model: Vec<u8>,
    nets: HashMap<[i32; 2], Net>,
    /// The network that `open` read to check the file; used for the first canvas size.
    first: Option<Net>,
}

impl CenterFace {
    /// Reads the network. The error is a reason, to be used within a sentence.
    pub(crate) fn open(model: Vec<u8>) -> std::result::Result<Self, String> {
        let first = Some(read(&model).map_err(|e| e.message.trim().to_string())?);
        Ok(Self { model, nets: HashMap::new(), first })
    }

    fn run(&mut self, canvas: &Canvas) -> opencv::Result<Vec<Detection>> {
        let [width, height] = canvas.scaling.canvas;
        let pixels =
            Mat::new_rows_cols_with_bytes::<opencv::core::Vec3b>(height, width, &canvas.pixels)?;
        debug_assert_eq!(pixels.typ(), CV_8UC3);
        let blob = dnn::blob_from_image_def(&pixels)?;
        let mut outputs = Vector::<Mat>::new();
        let net = self.net(canvas.scaling.canvas)?;
        net.set_input(&blob, "", 1.0, Scalar::default())?;
        net.forward(&mut outputs, &Vector::<String>::from_iter(OUTPUTS))?;
        let maps: Vec<Mat> = outputs.iter().collect();
        let maps: Vec<&[f32]> =
            maps.iter().map(|m| m.data_typed()).collect::<opencv::Result<_>>()?;
        Ok(faces(&maps, canvas.scaling.canvas))
    }

    /// The network for a canvas size. One per size, because OpenCV 4.6 returns wrong outputs,
    /// without an error, after the input size of a network has changed.
    fn net(&mut self, canvas: [i32; 2]) -> opencv::Result<&mut Net> {
        if self.nets.len() >= MAX_NETS && !self.nets.contains_key(&canvas) {
            self.nets.clear();
        }
        match self.nets.entry(canvas) {
            std::collections::hash_map::Entry::Occupied(slot) => Ok(slot.into_mut()),
            std::collections::hash_map::Entry::Vacant(slot) => {
                let net = self.first.take().map_or_else(|| read(&self.model), Ok)?;
                Ok(slot.insert(net))
            }
        }
    }
}

fn read(model: &[u8]) -> opencv::Result<Net> {
    dnn::read_net_from_onnx_buffer(&Vector::from_slice(model))
}

impl Detector for CenterFace {
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
        self.run(canvas).map_err(|e| failed(&e))
    }
}
