//! CenterFace, run by OpenVINO.

use openvino::{
    CompiledModel, Core, DeviceType, Dimension, ElementType, InferRequest, InferenceError,
    PartialShape, RwPropertyKey, Shape, Tensor,
};

use super::centerface::{OUTPUTS, faces};
use super::{Canvas, Detection, Detector};
use crate::error::{Error, Result};

/// Smallest and largest side of a canvas in pixels.
const SIDES: [i64; 2] = [32, super::MAX_SIZE as i64 + 32];

/// CenterFace with a dynamic input shape. Pictures of a folder have many sizes, and compiling a
/// network for each size takes longer than running one with a dynamic shape.
pub(super) struct CenterFace {
    request: InferRequest,
    /// Input tensor for the last canvas size: f32 [1, 3, height, width].
    input: Option<Tensor>,
    /// Width and height of the last canvas.
    size: [i32; 2],
    // A compiled model must outlive its requests.
    _model: CompiledModel,
}

impl CenterFace {
    /// Reads and compiles the network. The error is a reason, to be used within a sentence.
    pub(super) fn open(
        core: Core,
        model: &[u8],
        threads: Option<u32>,
    ) -> std::result::Result<Self, String> {
        Self::compile(core, model, threads).map_err(|e| e.to_string())
    }

    fn compile(
        mut core: Core,
        bytes: &[u8],
        threads: Option<u32>,
    ) -> std::result::Result<Self, InferenceError> {
        let mut settings = vec![(RwPropertyKey::HintPerformanceMode, "LATENCY".to_string())];
        if let Some(threads) = threads {
            settings.push((RwPropertyKey::InferenceNumThreads, threads.to_string()));
        }
        for (key, value) in &settings {
            core.set_property(&DeviceType::CPU, key, value)?;
        }
        let mut model = core.read_model_from_buffer(bytes, None)?;
        let fixed = |size| Dimension::new(size, size);
        let side = || Dimension::new(SIDES[0], SIDES[1]);
        let shape = PartialShape::new(4, &[fixed(1), fixed(3), side(), side()])?;
        model.reshape_single_input(&shape)?;
        let mut compiled = core.compile_model(&model, DeviceType::CPU)?;
        let request = compiled.create_infer_request()?;
        Ok(Self { request, input: None, size: [0; 2], _model: compiled })
    }

    fn run(&mut self, canvas: &Canvas) -> std::result::Result<Vec<Detection>, InferenceError> {
        let size = canvas.scaling.canvas;
        if self.size != size || self.input.is_none() {
            let [width, height] = size.map(i64::from);
            let input = Tensor::new(ElementType::F32, &Shape::new(&[1, 3, height, width])?)?;
            self.request.set_input_tensor(&input)?;
            (self.input, self.size) = (Some(input), size);
        }
        if let Some(input) = &mut self.input {
            let values = input.get_data_mut::<f32>()?;
            let area = canvas.pixels.len() / 3;
            for (channel, plane) in values.chunks_exact_mut(area).enumerate() {
                let samples = canvas.pixels.iter().skip(channel).step_by(3);
                plane.iter_mut().zip(samples).for_each(|(to, from)| *to = f32::from(*from));
            }
        }
        self.request.infer()?;
        let outputs = OUTPUTS.map(|name| self.request.get_tensor(name));
        let outputs = outputs.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        let maps = outputs.iter().map(|tensor| tensor.get_data::<f32>());
        let maps = maps.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(faces(&maps, size))
    }
}

impl Detector for CenterFace {
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
        self.run(canvas)
            .map_err(|e| Error::Device(format!("OpenVINO failed at detecting faces: {e}")))
    }
}
