//! The CPU backend: OpenVINO.

mod library;

use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, PropertyKey,
    RwPropertyKey, Shape, Tensor,
};

use super::{Backend, Description, Engines, Options, Output, Precision, Ticket, Variant};
use crate::crop::{CROP, CropMap, sample};
use crate::frame::Image;
use crate::{Error, Result};

/// VMN and PMN on the CPU, one batch in flight: two cores have no time to spare for a second.
pub struct OpenVino {
    precision: Precision,
    vmn: InferRequest,
    pmn: InferRequest,
    /// Whether the PMN says where the landmarks are.
    points: bool,
    /// Runs when volumes are asked for, one crop at a time.
    volume: Option<InferRequest>,
    // A compiled model must outlive its requests.
    _models: Vec<CompiledModel>,
    input: Option<(usize, Tensor)>,
    in_flight: Option<(u64, usize)>,
    tickets: u64,
}

/// The CPU's name, as OpenVINO knows it.
///
/// # Errors
/// [`Error::Engine`] if OpenVINO is not there.
pub fn cpu_name() -> Result<String> {
    let core = library::core()?;
    core.get_property(&DeviceType::CPU, &PropertyKey::DeviceFullName)
        .map(|name| name.trim().to_string())
        .map_err(|e| failed("naming the CPU", &e))
}

fn failed(doing: &str, error: &InferenceError) -> Error {
    Error::Device(format!("OpenVINO failed at {doing}: {error}"))
}

impl OpenVino {
    pub(super) fn open(engines: &Engines, variant: &Variant, options: &Options) -> Result<Self> {
        let mut core = library::core()?;
        let abilities = core
            .get_property(&DeviceType::CPU, &PropertyKey::DeviceCapabilities)
            .map_err(|e| failed("asking what the CPU can do", &e))?;
        let precision = match options.precision {
            None if abilities.contains("BF16") => Precision::Bf16,
            None => Precision::F32,
            Some(Precision::Bf16) if !abilities.contains("BF16") => {
                return Err(Error::Device(
                    "this CPU does not compute in bf16; use --precision f32 (or auto)".into(),
                ));
            }
            Some(Precision::F16) => {
                return Err(Error::Usage(
                    "--precision f16 is for the GPU; the CPU computes in f32 or bf16 (or auto)"
                        .into(),
                ));
            }
            Some(precision) => precision,
        };
        let mut settings = vec![
            (RwPropertyKey::HintInferencePrecision, precision.to_string()),
            (RwPropertyKey::HintPerformanceMode, "LATENCY".into()),
        ];
        if let Some(threads) = options.threads {
            settings.push((RwPropertyKey::InferenceNumThreads, threads.to_string()));
        }
        for (key, value) in &settings {
            core.set_property(&DeviceType::CPU, key, value)
                .map_err(|e| failed("setting up the CPU", &e))?;
        }
        let mut open = |network| compile(&mut core, engines, variant, network);
        let (vmn_model, vmn) = open("vmn")?;
        let (pmn_model, pmn) = open("pmn")?;
        let mut models = vec![vmn_model, pmn_model];
        let mut volume = None;
        if let Some(resolution) = options.volume {
            let (model, request) = open(&variant.volume(resolution)?)?;
            models.push(model);
            volume = Some(request);
        }
        Ok(Self {
            precision,
            vmn,
            pmn,
            points: variant.has_points(),
            volume,
            _models: models,
            input: None,
            in_flight: None,
            tickets: 0,
        })
    }

    fn start(
        &mut self,
        image: &Image,
        crops: &[CropMap],
    ) -> std::result::Result<(), InferenceError> {
        if self.input.as_ref().is_none_or(|(batch, _)| *batch != crops.len()) {
            let side = CROP as i64;
            let shape = Shape::new(&[crops.len() as i64, 3, side, side])?;
            self.input = Some((crops.len(), Tensor::new(ElementType::U8, &shape)?));
        }
        if let Some((_, tensor)) = &mut self.input {
            let pixels = tensor.get_raw_data_mut()?;
            for (map, out) in crops.iter().zip(pixels.chunks_exact_mut(3 * CROP * CROP)) {
                sample(image, map, out);
            }
            self.vmn.set_input_tensor(tensor)?;
        }
        self.vmn.infer_async()
    }

    fn finish(&mut self, batch: usize) -> std::result::Result<Vec<Output>, InferenceError> {
        // A minute is for ever: a wait without end would hang the program with the device.
        self.vmn.wait(60_000)?;
        // The features stay in the VMN's own memory.
        self.pmn.set_input_tensor(&self.vmn.get_output_tensor()?)?;
        self.pmn.infer()?;
        let read = |name| -> std::result::Result<Vec<f32>, InferenceError> {
            Ok(self.pmn.get_tensor(name)?.get_data::<f32>()?.to_vec())
        };
        let (pose, presence) = (read("pose")?, read("presence")?);
        let (identity, expression) = (read("identity")?, read("expression")?);
        let points = if self.points { read("points")? } else { Vec::new() };
        let row = |all: &[f32], i: usize| {
            all[i * all.len() / batch..(i + 1) * all.len() / batch].to_vec()
        };
        Ok((0..batch)
            .map(|i| Output {
                pose: std::array::from_fn(|k| pose.get(7 * i + k).copied().unwrap_or(f32::NAN)),
                identity: row(&identity, i),
                expression: row(&expression, i),
                presence: presence.get(i).copied().unwrap_or(0.0),
                points: super::points(&row(&points, i)),
            })
            .collect())
    }
}

/// The volume of one row of the VMN's features, in bytes: a quarter of the memory, and the surface
/// moves by less than a hundredth of a voxel.
fn volume(
    vmn: &InferRequest,
    head: &mut InferRequest,
    crop: usize,
) -> std::result::Result<Vec<u8>, InferenceError> {
    let features = vmn.get_output_tensor()?;
    let batch = features.get_shape()?.get_dimensions().first().copied().unwrap_or(1);
    if batch == 1 {
        head.set_input_tensor(&features)?;
    } else {
        let all = features.get_data::<f32>()?;
        let size = all.len() / usize::try_from(batch).unwrap_or(1).max(1);
        let mut one = Tensor::new(ElementType::F32, &Shape::new(&[1, 64, 64, 64])?)?;
        let row = all.chunks_exact(size.max(1)).nth(crop).unwrap_or_default();
        one.get_data_mut::<f32>()?.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
        head.set_input_tensor(&one)?;
    }
    head.infer()?;
    let occupancy = head.get_output_tensor()?;
    // A number as cast saturates, and what is none becomes 0.
    Ok(occupancy.get_data::<f32>()?.iter().map(|p| (255.0 * p).round() as u8).collect())
}

fn compile(
    core: &mut Core,
    engines: &Engines,
    variant: &Variant,
    network: &str,
) -> Result<(CompiledModel, InferRequest)> {
    let bytes = engines.network(variant, network)?;
    let run = || -> std::result::Result<_, InferenceError> {
        let model = core.read_model_from_buffer(&bytes, None)?;
        let mut compiled = core.compile_model(&model, DeviceType::CPU)?;
        let request = compiled.create_infer_request()?;
        Ok((compiled, request))
    };
    let mut run = run;
    run().map_err(|e| {
        Error::Engine(format!("OpenVINO cannot use {network} of {}: {e}", variant.name))
    })
}

impl Backend for OpenVino {
    fn describe(&self) -> Description {
        Description { backend: "openvino", device: "cpu", precision: self.precision }
    }

    fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket> {
        if self.in_flight.is_some() || crops.is_empty() {
            return Err(Error::Bug("a batch was submitted out of turn".into()));
        }
        self.start(image, crops).map_err(|e| failed("running the VMN", &e))?;
        self.tickets += 1;
        self.in_flight = Some((self.tickets, crops.len()));
        Ok(Ticket(self.tickets))
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>> {
        match self.in_flight.take() {
            Some((number, batch)) if number == ticket.0 => {
                self.finish(batch).map_err(|e| failed("running the networks", &e))
            }
            _ => Err(Error::Bug("a batch was collected that is not in flight".into())),
        }
    }

    fn volume(&mut self, crop: usize) -> Result<Vec<u8>> {
        let Some(head) = self.volume.as_mut().filter(|_| self.in_flight.is_none()) else {
            return Err(Error::Bug("a volume was asked for out of turn".into()));
        };
        volume(&self.vmn, head, crop).map_err(|e| failed("running the volume head", &e))
    }
}
