//! CenterFace, run by OpenVINO.

use std::collections::HashMap;

use openvino::prepostprocess::Pipeline;
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, Layout,
    PartialShape, RwPropertyKey, Shape, Tensor,
};

use super::centerface::{OUTPUTS, faces};
use super::{Canvas, Detection, Detector};
use crate::backend::library;
use crate::{Error, Result};

/// Most compiled networks to keep. Images of different sizes make canvases of different sizes, and
/// a network is compiled for one canvas size.
const MAX_NETWORKS: usize = 6;

pub(super) struct CenterFace {
    core: Core,
    model: Vec<u8>,
    networks: HashMap<[i32; 2], Network>,
}

/// The network compiled for one canvas size.
struct Network {
    request: InferRequest,
    canvas: Tensor,
    // A compiled model must outlive its requests.
    _model: CompiledModel,
}

impl CenterFace {
    /// Reads the network. The error is a reason, to be used within a sentence.
    pub(super) fn open(model: Vec<u8>, threads: Option<u32>) -> std::result::Result<Self, String> {
        let mut core = library::core().map_err(|e| e.to_string())?;
        let mut settings = vec![(RwPropertyKey::HintPerformanceMode, "LATENCY".to_string())];
        if let Some(threads) = threads {
            settings.push((RwPropertyKey::InferenceNumThreads, threads.to_string()));
        }
        for (key, value) in &settings {
            core.set_property(&DeviceType::CPU, key, value).map_err(|e| e.to_string())?;
        }
        core.read_model_from_buffer(&model, None).map_err(|e| e.to_string())?;
        Ok(Self { core, model, networks: HashMap::new() })
    }

    fn run(&mut self, canvas: &Canvas) -> std::result::Result<Vec<Detection>, InferenceError> {
        let size = canvas.scaling.canvas;
        if !self.networks.contains_key(&size) {
            if self.networks.len() >= MAX_NETWORKS {
                self.networks.clear();
            }
            let network = Network::compile(&mut self.core, &self.model, size)?;
            self.networks.insert(size, network);
        }
        let Some(network) = self.networks.get_mut(&size) else { return Ok(Vec::new()) };
        network.canvas.get_raw_data_mut()?.copy_from_slice(&canvas.pixels);
        network.request.infer()?;
        let outputs = OUTPUTS.map(|name| network.request.get_tensor(name));
        let outputs = outputs.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        let maps = outputs.iter().map(|tensor| tensor.get_data::<f32>());
        let maps = maps.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(faces(&maps, size))
    }
}

impl Network {
    /// Compiles the network for canvases of bytes, shape [1, height, width, 3].
    fn compile(
        core: &mut Core,
        bytes: &[u8],
        [width, height]: [i32; 2],
    ) -> std::result::Result<Self, InferenceError> {
        let mut model = core.read_model_from_buffer(bytes, None)?;
        let (width, height) = (i64::from(width), i64::from(height));
        model.reshape_single_input(&PartialShape::new_static(4, &[1, 3, height, width])?)?;
        let canvas = Tensor::new(ElementType::U8, &Shape::new(&[1, height, width, 3])?)?;
        let ends = Pipeline::new(&model)?;
        let input = ends.get_input_info_by_index(0)?;
        let mut tensor = input.get_tensor_info()?;
        tensor.set_from(&canvas)?;
        tensor.set_layout(Layout::new("NHWC")?)?;
        input.get_model_info()?.set_layout(Layout::new("NCHW")?)?;
        let mut compiled = core.compile_model(&ends.build_new_model()?, DeviceType::CPU)?;
        let mut request = compiled.create_infer_request()?;
        request.set_input_tensor(&canvas)?;
        Ok(Self { request, canvas, _model: compiled })
    }
}

impl Detector for CenterFace {
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
        self.run(canvas)
            .map_err(|e| Error::Device(format!("OpenVINO failed at detecting faces: {e}")))
    }
}
