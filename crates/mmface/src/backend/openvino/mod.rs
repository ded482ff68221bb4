//! The CPU backend: OpenVINO.

mod gaze;
pub mod library;

pub(crate) use gaze::{GAZE, GazeNetwork};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use handoff::{Lanes, Panicked};
use openvino::prepostprocess::Pipeline;
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, PartialShape,
    PropertyKey, RwPropertyKey, Shape, Tensor,
};

use super::{Backend, Batch, Description, Inference, Options, Output, Precision, Session};
use crate::crop::{CROP, sample};
use crate::error::{Error, Result};
use crate::models::{Models, Variant};

/// A result of OpenVINO's API.
type Inferred<T> = std::result::Result<T, InferenceError>;

/// Shape of the VMN's input.
const IMAGE: [i64; 4] = [1, 3, CROP as i64, CROP as i64];
/// Shape of the features.
const FEATURES: [i64; 4] = [1, 64, 64, 64];
/// Longest wait for an inference in milliseconds, so that a hanging device does not hang the
/// program.
const LONGEST_WAIT: i64 = 60_000;
/// What failed, in the message of a failure.
const RUNNING: &str = "running the networks";

/// VMN and PMN on the CPU, shared by all sessions. Each session cuts its own crops; crops of
/// several sessions are inferred at the same time.
pub(super) struct OpenVino {
    precision: Precision,
    networks: Arc<Networks>,
    sessions: AtomicU64,
}

/// The compiled networks.
///
/// Each is compiled for a batch of one: with a fixed shape OpenVINO avoids copies that a dynamic
/// shape needs. Each is compiled twice, because two crops in parallel on one core each take less
/// time than two crops in sequence on both cores.
struct Networks {
    /// For a session that is alone and has one crop: on all cores (OpenVINO's performance hint
    /// LATENCY).
    latency: Mutex<Lane>,
    /// For several crops in parallel, as many as OpenVINO recommends for the CPU (hint THROUGHPUT).
    throughput: Lanes<Lane>,
    /// Whether the PMN has the output `points`.
    points: bool,
    /// The volume head's request; runs one crop at a time if volumes are requested.
    volume: Option<Mutex<InferRequest>>,
    // A compiled model must outlive its requests. The lock is never taken: it makes `Networks` Sync.
    _models: Mutex<Vec<CompiledModel>>,
}

/// Infer requests of both networks, for one crop at a time.
struct Lane {
    vmn: InferRequest,
    pmn: InferRequest,
}

/// A crop to be inferred, and its results.
struct Crop {
    buffers: Buffers,
    wants_volume: bool,
    output: Option<Output>,
    volume: Option<Vec<u8>>,
}

/// Memory of one crop: pixels, u8 [1, 3, 256, 256], and features [1, 64, 64, 64] in the precision
/// of the networks.
struct Buffers {
    pixels: Tensor,
    features: Tensor,
}

impl Buffers {
    fn new(precision: Precision) -> Inferred<Self> {
        let pixels = Tensor::new(ElementType::U8, &Shape::new(&IMAGE)?)?;
        Ok(Self { pixels, features: features(precision)? })
    }
}

/// The CPU's name, as reported by OpenVINO.
///
/// # Errors
/// [`Error::Library`] if OpenVINO cannot be loaded, [`Error::Device`] if it fails.
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
    pub(super) fn open(models: &Models, variant: &Variant, options: &Options) -> Result<Self> {
        let core = library::core()?;
        let abilities = core
            .get_property(&DeviceType::CPU, &PropertyKey::DeviceCapabilities)
            .map_err(|e| failed("asking what the CPU can do", &e))?;
        let precision = match options.precision {
            None if abilities.contains("BF16") => Precision::Bf16,
            None => Precision::F32,
            Some(Precision::Bf16) if !abilities.contains("BF16") => {
                return Err(Error::Precision(
                    "this CPU does not compute in bf16, only in f32".into(),
                ));
            }
            Some(Precision::F16) => {
                return Err(Error::Precision(
                    "f16 is for the GPU; the CPU computes in f32 or bf16".into(),
                ));
            }
            Some(precision) => precision,
        };
        let compiler = Compiler { variant, precision, threads: options.threads };
        let (vmn, pmn) = (models.network(variant, "vmn")?, models.network(variant, "pmn")?);
        // In parallel: the program cannot start before both are compiled.
        let ((mut latency, mut compiled), (throughput, others)) = std::thread::scope(|scope| {
            let throughput = scope.spawn(|| compiler.lanes("THROUGHPUT", &vmn, &pmn));
            let latency = compiler.lanes("LATENCY", &vmn, &pmn);
            let throughput =
                throughput.join().map_err(|_| Error::Bug("a compilation ended".into()));
            Ok::<_, Error>((latency?, throughput??))
        })?;
        compiled.extend(others);
        let mut volume = None;
        if let Some(resolution) = options.volume {
            let network = variant.volume(resolution)?;
            let bytes = models.network(variant, &network)?;
            let (model, mut requests) =
                compiler.compile(&mut compiler.core("LATENCY")?, &network, &bytes)?;
            compiled.push(model);
            volume = requests.pop();
        }
        let latency =
            latency.pop().ok_or_else(|| Error::Bug("no request for the networks".into()))?;
        let networks = Networks {
            latency: Mutex::new(latency),
            throughput: Lanes::new(throughput),
            points: variant.has_points(),
            volume: volume.map(Mutex::new),
            _models: Mutex::new(compiled),
        };
        Ok(Self { precision, networks: Arc::new(networks), sessions: AtomicU64::new(0) })
    }
}

impl Networks {
    /// Infers all crops of one session, which [entered](Lanes::enter) before it cut them.
    fn run(&self, visit: &handoff::Visit<Lane>, crops: &mut [Crop]) -> Result<()> {
        let mut left = &mut *crops;
        while !left.is_empty() {
            if let [crop] = left
                && let Some(mut lane) = visit.is_alone().then(|| self.latency()).flatten()
            {
                lane.run(crop, self.points).map_err(|e| failed(RUNNING, &e))?;
                break;
            }
            let mut lanes = visit
                .take(left.len())
                .map_err(|Panicked| Error::Bug("the networks panicked".into()))?;
            let (now, later) = left.split_at_mut(lanes.len());
            run_in_parallel(&mut lanes, now, self.points).map_err(|e| failed(RUNNING, &e))?;
            left = later;
        }
        if let Some(head) = &self.volume {
            for crop in crops.iter_mut().filter(|crop| crop.wants_volume) {
                // An inference that panicked leaves nothing behind that the next one reads.
                let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
                let volume = volume(&mut head, &crop.buffers.features);
                crop.volume = Some(volume.map_err(|e| failed("running the volume head", &e))?);
            }
        }
        Ok(())
    }

    /// The lane on all cores, if it is idle.
    fn latency(&self) -> Option<std::sync::MutexGuard<'_, Lane>> {
        match self.latency.try_lock() {
            Ok(lane) => Some(lane),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Infers one crop on each lane.
fn run_in_parallel(lanes: &mut [Lane], crops: &mut [Crop], points: bool) -> Inferred<()> {
    if let ([lane], [crop]) = (&mut *lanes, &mut *crops) {
        return lane.run(crop, points);
    }
    for (crop, lane) in crops.iter().zip(&mut *lanes) {
        lane.give(&crop.buffers)?;
        lane.vmn.infer_async()?;
    }
    for lane in &mut *lanes {
        lane.vmn.wait(LONGEST_WAIT)?;
        lane.pmn.infer_async()?;
    }
    for (crop, lane) in crops.iter_mut().zip(lanes) {
        lane.pmn.wait(LONGEST_WAIT)?;
        crop.output = Some(lane.output(points)?);
    }
    Ok(())
}

impl Lane {
    /// Infers one crop, synchronously: asynchronous inference takes a tenth more time.
    fn run(&mut self, crop: &mut Crop, points: bool) -> Inferred<()> {
        self.give(&crop.buffers)?;
        self.vmn.infer()?;
        self.pmn.infer()?;
        crop.output = Some(self.output(points)?);
        Ok(())
    }

    fn give(&mut self, buffers: &Buffers) -> Inferred<()> {
        self.vmn.set_input_tensor(&buffers.pixels)?;
        self.vmn.set_output_tensor(&buffers.features)?;
        self.pmn.set_input_tensor(&buffers.features)
    }

    /// The PMN's outputs for the last crop.
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
            points: super::points_in_crop(&points),
        })
    }
}

/// A tensor for the features of one crop. Between the networks features keep the networks'
/// precision, which avoids conversions to f32 and back.
fn features(precision: Precision) -> Inferred<Tensor> {
    let element = match precision {
        Precision::Bf16 => ElementType::Bf16,
        _ => ElementType::F32,
    };
    Tensor::new(element, &Shape::new(&FEATURES)?)
}

/// The volume of one crop as bytes. They take a quarter of the memory of f32, and displace the
/// surface by less than a hundredth of a voxel.
fn volume(head: &mut InferRequest, features: &Tensor) -> Inferred<Vec<u8>> {
    head.set_input_tensor(features)?;
    head.infer()?;
    let occupancy = head.get_output_tensor()?;
    // `as` saturates, and converts NaN to 0.
    Ok(occupancy.get_data::<f32>()?.iter().map(|p| (255.0 * p).round() as u8).collect())
}

/// Compiles networks for a batch of one.
struct Compiler<'a> {
    variant: &'a Variant,
    precision: Precision,
    threads: Option<u32>,
}

impl Compiler<'_> {
    /// Both networks, with as many requests as OpenVINO recommends for the performance hint `mode`.
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
            // Threads that may move get out of the way of decoders and of other programs.
            (RwPropertyKey::HintEnableCpuPinning, "NO".to_string()),
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
            Error::Models(format!("OpenVINO cannot use {network} of {}: {e}", self.variant.name))
        })
    }
}

impl Backend for OpenVino {
    fn describe(&self) -> Description {
        Description { backend: "openvino", device: "cpu", precision: self.precision }
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(CpuSession {
            id: self.sessions.fetch_add(1, Ordering::Relaxed),
            precision: self.precision,
            networks: self.networks.clone(),
            idle: Vec::new(),
        }))
    }
}

/// One stream's access to the networks.
struct CpuSession {
    id: u64,
    precision: Precision,
    networks: Arc<Networks>,
    /// Buffers for reuse: as many as the largest batch had crops.
    idle: Vec<Buffers>,
}

impl CpuSession {
    fn cut(&mut self, batch: &Batch) -> Inferred<Vec<Crop>> {
        let mut crops = Vec::with_capacity(batch.crops.len());
        for map in batch.crops {
            let mut buffers = self.idle.pop().map_or_else(|| Buffers::new(self.precision), Ok)?;
            sample(batch.image, map, buffers.pixels.get_raw_data_mut()?);
            let wants_volume = batch.volumes;
            crops.push(Crop { buffers, wants_volume, output: None, volume: None });
        }
        Ok(crops)
    }
}

impl Session for CpuSession {
    fn infer(&mut self, batch: &Batch) -> Result<Vec<Inference>> {
        if batch.volumes && self.networks.volume.is_none() {
            return Err(Error::Setting("the networks were opened without a volume head".into()));
        }
        let networks = self.networks.clone();
        let visit = networks.throughput.enter(self.id);
        let mut crops = self.cut(batch).map_err(|e| failed("making room for the crops", &e))?;
        networks.run(&visit, &mut crops)?;
        drop(visit);
        let seen = crops.into_iter().map(|crop| {
            self.idle.push(crop.buffers);
            let output = crop.output.ok_or_else(|| Error::Bug("a crop was left out".into()))?;
            Ok(Inference { output, volume: crop.volume })
        });
        seen.collect()
    }
}
