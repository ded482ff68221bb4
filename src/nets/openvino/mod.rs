//! The CPU backend: OpenVINO.

mod library;

use openvino::prepostprocess::Pipeline;
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, PartialShape,
    PropertyKey, RwPropertyKey, Shape, Tensor,
};

use super::{Backend, Description, Engines, Options, Output, Precision, Ticket, Variant};
use crate::crop::{CROP, CropMap, sample};
use crate::frame::Image;
use crate::{Error, Result};

/// What OpenVINO says of a step.
type Inferred<T> = std::result::Result<T, InferenceError>;

const IMAGE: [i64; 4] = [1, 3, CROP as i64, CROP as i64];
const FEATURES: [i64; 4] = [1, 64, 64, 64];
/// Milliseconds. A wait without end would hang the program with the device.
const FOR_EVER: i64 = 60_000;

/// VMN and PMN on the CPU, one batch in flight, computed when it is collected.
///
/// The networks are compiled for one crop: with a fixed shape OpenVINO leaves out copies that a
/// shape not yet known needs. They are compiled twice, because two crops side by side on a core
/// each take less time than one after the other on both.
pub struct OpenVino {
    precision: Precision,
    /// For a single crop, on all cores.
    alone: Lane,
    /// For several, as many at once as the CPU does best.
    together: Vec<Lane>,
    /// Whether the PMN says where the landmarks are.
    points: bool,
    /// Runs when volumes are asked for, one crop at a time.
    volume: Option<InferRequest>,
    // A compiled model must outlive its requests.
    _models: Vec<CompiledModel>,
    /// As many as the largest batch so far had crops.
    slots: Vec<Slot>,
    in_flight: Option<(u64, usize)>,
    tickets: u64,
}

/// Both networks, for one crop at a time.
struct Lane {
    vmn: InferRequest,
    pmn: InferRequest,
}

/// What one crop of a batch keeps: its pixels, u8 [1,3,256,256], and its features [1,64,64,64] in
/// the precision that the networks compute in, which the volume head may still ask for.
struct Slot {
    pixels: Tensor,
    features: Tensor,
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
        let core = library::core()?;
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
        let compiler = Compiler { variant, precision, threads: options.threads };
        let (vmn, pmn) = (engines.network(variant, "vmn")?, engines.network(variant, "pmn")?);
        // Side by side, since the program cannot begin before both are done.
        let ((mut alone, mut models), (together, others)) = std::thread::scope(|scope| {
            let together = scope.spawn(|| compiler.lanes("THROUGHPUT", &vmn, &pmn));
            let alone = compiler.lanes("LATENCY", &vmn, &pmn);
            let together = together.join().map_err(|_| Error::Bug("a compilation ended".into()));
            Ok::<_, Error>((alone?, together??))
        })?;
        models.extend(others);
        let mut volume = None;
        if let Some(resolution) = options.volume {
            let network = variant.volume(resolution)?;
            let bytes = engines.network(variant, &network)?;
            let (model, mut requests) =
                compiler.compile(&mut compiler.core("LATENCY")?, &network, &bytes)?;
            models.push(model);
            volume = requests.pop();
        }
        Ok(Self {
            precision,
            alone: alone.pop().ok_or_else(|| Error::Bug("no request for the networks".into()))?,
            together,
            points: variant.has_points(),
            volume,
            _models: models,
            slots: Vec::new(),
            in_flight: None,
            tickets: 0,
        })
    }

    fn cut(&mut self, image: &Image, crops: &[CropMap]) -> Inferred<()> {
        while self.slots.len() < crops.len() {
            self.slots.push(Slot {
                pixels: Tensor::new(ElementType::U8, &Shape::new(&IMAGE)?)?,
                features: features(self.precision)?,
            });
        }
        for (map, slot) in crops.iter().zip(&mut self.slots) {
            sample(image, map, slot.pixels.get_raw_data_mut()?);
        }
        Ok(())
    }

    fn run(&mut self, batch: usize) -> Inferred<Vec<Output>> {
        let slots = self.slots.get(..batch).unwrap_or_default();
        let mut outputs = Vec::with_capacity(batch);
        for round in slots.chunks(self.together.len().max(1)) {
            if let [slot] = round {
                // On this thread: to hand both networks to others costs a tenth of their time.
                self.alone.give(slot)?;
                self.alone.vmn.infer()?;
                self.alone.pmn.infer()?;
                outputs.push(self.alone.output(self.points)?);
                continue;
            }
            for (slot, lane) in round.iter().zip(&mut self.together) {
                lane.give(slot)?;
                lane.vmn.infer_async()?;
            }
            let lanes = &mut self.together[..round.len()];
            for lane in &mut *lanes {
                lane.vmn.wait(FOR_EVER)?;
                lane.pmn.infer_async()?;
            }
            for lane in lanes {
                lane.pmn.wait(FOR_EVER)?;
                outputs.push(lane.output(self.points)?);
            }
        }
        Ok(outputs)
    }
}

impl Lane {
    fn give(&mut self, slot: &Slot) -> Inferred<()> {
        self.vmn.set_input_tensor(&slot.pixels)?;
        self.vmn.set_output_tensor(&slot.features)?;
        self.pmn.set_input_tensor(&slot.features)
    }

    /// What the PMN said of the crop that it was given last.
    fn output(&self, points: bool) -> Inferred<Output> {
        let read = |name| -> Inferred<Vec<f32>> {
            Ok(self.pmn.get_tensor(name)?.get_data::<f32>()?.to_vec())
        };
        let (pose, presence) = (read("pose")?, read("presence")?);
        let points = if points { read("points")? } else { Vec::new() };
        Ok(Output {
            pose: std::array::from_fn(|k| pose.get(k).copied().unwrap_or(f32::NAN)),
            identity: read("identity")?,
            expression: read("expression")?,
            presence: presence.first().copied().unwrap_or(0.0),
            points: super::points(&points),
        })
    }
}

/// Room for the features of one crop: between the networks they stay in what these compute in,
/// which saves turning them into f32 and back.
fn features(precision: Precision) -> Inferred<Tensor> {
    let element = match precision {
        Precision::Bf16 => ElementType::Bf16,
        _ => ElementType::F32,
    };
    Tensor::new(element, &Shape::new(&FEATURES)?)
}

/// The volume of one crop, in bytes: a quarter of the memory, and the surface moves by less than a
/// hundredth of a voxel.
fn volume(head: &mut InferRequest, features: &Tensor) -> Inferred<Vec<u8>> {
    head.set_input_tensor(features)?;
    head.infer()?;
    let occupancy = head.get_output_tensor()?;
    // A number as cast saturates, and what is none becomes 0.
    Ok(occupancy.get_data::<f32>()?.iter().map(|p| (255.0 * p).round() as u8).collect())
}

/// Compiles networks, each for one crop.
struct Compiler<'a> {
    variant: &'a Variant,
    precision: Precision,
    threads: Option<u32>,
}

impl Compiler<'_> {
    /// Both networks, as often as OpenVINO thinks best to have in flight.
    fn lanes(&self, mode: &str, vmn: &[u8], pmn: &[u8]) -> Result<(Vec<Lane>, Vec<CompiledModel>)> {
        let mut core = self.core(mode)?;
        let (vmn, vmns) = self.compile(&mut core, "vmn", vmn)?;
        let (pmn, pmns) = self.compile(&mut core, "pmn", pmn)?;
        let lanes = vmns.into_iter().zip(pmns).map(|(vmn, pmn)| Lane { vmn, pmn }).collect();
        Ok((lanes, vec![vmn, pmn]))
    }

    fn core(&self, mode: &str) -> Result<Core> {
        let mut core = library::core()?;
        let mut settings = vec![
            (RwPropertyKey::HintInferencePrecision, self.precision.to_string()),
            (RwPropertyKey::HintPerformanceMode, mode.to_string()),
        ];
        if let Some(threads) = self.threads {
            settings.push((RwPropertyKey::InferenceNumThreads, threads.to_string()));
        }
        for (key, value) in &settings {
            core.set_property(&DeviceType::CPU, key, value)
                .map_err(|e| failed("setting up the CPU", &e))?;
        }
        Ok(core)
    }

    fn compile(
        &self,
        core: &mut Core,
        network: &str,
        bytes: &[u8],
    ) -> Result<(CompiledModel, Vec<InferRequest>)> {
        let mut run = || -> Inferred<_> {
            let mut model = core.read_model_from_buffer(bytes, None)?;
            let shape = if network == "vmn" { IMAGE } else { FEATURES };
            model.reshape_single_input(&PartialShape::new_static(4, &shape)?)?;
            let features = features(self.precision)?;
            let ends = Pipeline::new(&model)?;
            if network == "vmn" {
                let mut end = ends.get_output_info_by_index(0)?.get_tensor_info()?;
                end.set_element_type(features.get_element_type()?)?;
            } else {
                ends.get_input_info_by_index(0)?.get_tensor_info()?.set_from(&features)?;
            }
            let mut compiled = core.compile_model(&ends.build_new_model()?, DeviceType::CPU)?;
            let most = compiled.get_property(&PropertyKey::OptimalNumberOfInferRequests)?;
            let requests = (0..most.parse().unwrap_or(1))
                .map(|_| compiled.create_infer_request())
                .collect::<Inferred<_>>()?;
            Ok((compiled, requests))
        };
        run().map_err(|e| {
            Error::Engine(format!("OpenVINO cannot use {network} of {}: {e}", self.variant.name))
        })
    }
}

impl Backend for OpenVino {
    fn describe(&self) -> Description {
        Description { backend: "openvino", device: "cpu", precision: self.precision }
    }

    fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket> {
        if self.in_flight.is_some() || crops.is_empty() {
            return Err(Error::Bug("a batch was submitted out of turn".into()));
        }
        self.cut(image, crops).map_err(|e| failed("making room for the crops", &e))?;
        self.tickets += 1;
        self.in_flight = Some((self.tickets, crops.len()));
        Ok(Ticket(self.tickets))
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>> {
        match self.in_flight.take() {
            Some((number, batch)) if number == ticket.0 => {
                self.run(batch).map_err(|e| failed("running the networks", &e))
            }
            _ => Err(Error::Bug("a batch was collected that is not in flight".into())),
        }
    }

    fn volume(&mut self, crop: usize) -> Result<Vec<u8>> {
        let (Some(head), Some(slot), None) =
            (self.volume.as_mut(), self.slots.get(crop), self.in_flight)
        else {
            return Err(Error::Bug("a volume was asked for out of turn".into()));
        };
        volume(head, &slot.features).map_err(|e| failed("running the volume head", &e))
    }
}
