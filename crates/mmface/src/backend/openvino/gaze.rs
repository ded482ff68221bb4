//! The gaze network on the CPU. It is small enough to run there whatever device runs the others: a
//! third of a millisecond for both eyes.

use std::sync::{Mutex, PoisonError};

use openvino::{
    CompiledModel, DeviceType, ElementType, InferRequest, PartialShape, RwPropertyKey, Shape,
    Tensor,
};

use super::cpu::Cpu;
use super::{Inferred, failed, library};
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::gaze::{COLUMNS, PatchMap, ROWS, Sight, sample};
use crate::image::Image;
use crate::models::{Models, Variant};

/// Name of the network in the manifest.
pub(crate) const GAZE: &str = "gaze";
/// Shape of its input: the right eye, mirrored, and the left.
const PATCHES: [i64; 4] = [2, 3, ROWS as i64, COLUMNS as i64];
/// Points that it gives for each eye: iris, outer corner, inner corner.
const POINTS: usize = 3;

/// The gaze network, shared by all streams.
pub(crate) struct GazeNetwork {
    request: Mutex<Request>,
}

struct Request {
    infer: InferRequest,
    patches: Tensor,
    // A compiled model must outlive its requests.
    _model: CompiledModel,
}

impl GazeNetwork {
    /// Opens the gaze network of a variant; `None` if it has none. It computes in f32 if `precision`
    /// says so, else in what suits the CPU.
    ///
    /// # Errors
    /// [`Error::Library`], [`Error::Models`], [`Error::ModelHash`] or [`Error::Device`] if it cannot
    /// be opened.
    pub(crate) fn open(
        models: &Models,
        variant: &Variant,
        precision: Option<Precision>,
    ) -> Result<Option<Self>> {
        if variant.gaze.is_none() || !variant.has_network(GAZE) {
            return Ok(None);
        }
        let bytes = models.network(variant, GAZE)?;
        let mut core = library::core()?;
        let floats = Cpu::ask()?.floats(precision.unwrap_or(Precision::Bf16));
        // One thread: a second one would cost more than it gains.
        for (key, value) in [
            (RwPropertyKey::HintInferencePrecision, floats.name()),
            (RwPropertyKey::HintPerformanceMode, "LATENCY"),
            (RwPropertyKey::InferenceNumThreads, "1"),
            (RwPropertyKey::HintEnableCpuPinning, "NO"),
        ] {
            core.set_property(&DeviceType::CPU, &key, value)
                .map_err(|e| failed("setting up the CPU", &e))?;
        }
        let mut run = || -> Inferred<Request> {
            let mut model = core.read_model_from_buffer(&bytes, None)?;
            model.reshape_single_input(&PartialShape::new_static(4, &PATCHES)?)?;
            let mut model = core.compile_model(&model, DeviceType::CPU)?;
            let mut infer = model.create_infer_request()?;
            let patches = Tensor::new(ElementType::U8, &Shape::new(&PATCHES)?)?;
            infer.set_input_tensor(&patches)?;
            Ok(Request { infer, patches, _model: model })
        };
        let request = run().map_err(|e| {
            Error::Models(format!("OpenVINO cannot use {GAZE} of {}: {e}", variant.name))
        })?;
        let network = Self { request: Mutex::new(request) };
        network.run([[0; 3 * ROWS * COLUMNS]; 2].as_flattened())?;
        Ok(Some(network))
    }

    /// What it sees of the right eye and the left in patches of an image.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub(crate) fn look(&self, image: &Image, maps: &[PatchMap; 2]) -> Result<[Sight; 2]> {
        let mut patches = vec![0; 2 * 3 * ROWS * COLUMNS];
        for (map, patch) in maps.iter().zip(patches.chunks_exact_mut(3 * ROWS * COLUMNS)) {
            sample(image, map, patch);
        }
        let (points, confidence) = self.run(&patches)?;
        Ok(std::array::from_fn(|side| {
            let point = |at: usize| {
                let from = 2 * (POINTS * side + at);
                let half = [COLUMNS as f32 / 2.0, ROWS as f32 / 2.0];
                let place = [0, 1].map(|k| points[from + k] * half[k] + half[k] - 0.5);
                maps[side].image_from_patch(place)
            };
            Sight {
                iris: point(0),
                corners: [point(1), point(2)],
                // False if it is NaN.
                confidence: if confidence[side] >= 0.0 { confidence[side].min(1.0) } else { 0.0 },
            }
        }))
    }

    /// Points, −1…1 of a patch, and confidences of both eyes.
    fn run(&self, patches: &[u8]) -> Result<([f32; 4 * POINTS], [f32; 2])> {
        // A run that panicked leaves nothing behind that the next one reads.
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = || -> Inferred<(Vec<f32>, Vec<f32>)> {
            let Request { infer, patches: input, .. } = &mut *request;
            input.get_raw_data_mut()?.copy_from_slice(patches);
            infer.infer()?;
            let read = |name| -> Inferred<Vec<f32>> {
                Ok(infer.get_tensor(name)?.get_data::<f32>()?.to_vec())
            };
            Ok((read("points")?, read("confidence")?))
        };
        let (points, confidence) = run().map_err(|e| failed("running the gaze network", &e))?;
        let wrong = |_| {
            Error::Models("the network gaze gives too many or too few numbers; restore it".into())
        };
        Ok((
            points.try_into().map_err(|v: Vec<f32>| wrong(v.len()))?,
            confidence.try_into().map_err(|v: Vec<f32>| wrong(v.len()))?,
        ))
    }
}
