//! The CPU backend: OpenVINO.

mod compiled;
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

use self::compiled::Compiled;
use super::cache::Cache;
use super::{Backend, Batch, Description, Inference, Options, Output, Precision, Session};
use crate::crop::{CROP, sample};
use crate::error::{Error, Result};
use crate::models::{Models, Variant, sha256};

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
    floats: Floats,
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

/// What the networks compute in where they compute in floats, and the type of the features between
/// them: in one precision they need no conversion to f32 and back.
#[derive(Debug, Clone, Copy)]
enum Floats {
    F32,
    Bf16,
}

impl Floats {
    /// OpenVINO's name.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// A tensor for the features of one crop.
    fn features(self) -> Inferred<Tensor> {
        let element = match self {
            Self::F32 => ElementType::F32,
            Self::Bf16 => ElementType::Bf16,
        };
        Tensor::new(element, &Shape::new(&FEATURES)?)
    }
}

/// Memory of one crop: pixels, u8 [1, 3, 256, 256], and features [1, 64, 64, 64].
struct Buffers {
    pixels: Tensor,
    features: Tensor,
}

impl Buffers {
    fn new(floats: Floats) -> Inferred<Self> {
        let pixels = Tensor::new(ElementType::U8, &Shape::new(&IMAGE)?)?;
        Ok(Self { pixels, features: floats.features()? })
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
        let precision = precision(variant, options, &abilities)?;
        let floats = match precision {
            Precision::Int8 if abilities.contains("BF16") => Floats::Bf16,
            Precision::Bf16 => Floats::Bf16,
            _ => Floats::F32,
        };
        let volume = options.volume.map(|resolution| variant.volume(resolution)).transpose()?;
        let networks = [precision.network("vmn"), precision.network("pmn")];
        let used: Vec<_> = networks.iter().chain(&volume).cloned().collect();
        let compiled = Compiled::take(
            Cache::new(options.engine_cache.as_deref()),
            cache_names(&core, variant, floats, &abilities, used)?,
        );
        let compiler =
            Compiler { variant, floats, threads: options.threads, compiled: compiled.as_ref() };
        let read = |network: &String| Ok((network.clone(), models.network(variant, network)?));
        let [vmn, pmn] = networks.each_ref().map(read);
        let (vmn, pmn): (Source, Source) = (vmn?, pmn?);
        let latency = || compiler.lanes("LATENCY", &vmn, &pmn);
        let throughput = || compiler.lanes("THROUGHPUT", &vmn, &pmn);
        let ((mut latency, mut in_use), (throughput, others)) =
            if compiled.as_ref().is_some_and(|compiled| !compiled.is_complete()) {
                // The second time, OpenVINO reads what it compiled the first time.
                (latency()?, throughput()?)
            } else {
                std::thread::scope(|scope| {
                    let throughput = scope.spawn(throughput);
                    let latency = latency();
                    let throughput =
                        throughput.join().map_err(|_| Error::Bug("a compilation ended".into()))?;
                    Ok::<_, Error>((latency?, throughput?))
                })?
            };
        in_use.extend(others);
        let volume = match volume {
            Some(network) => {
                let source = (network.clone(), models.network(variant, &network)?);
                let (model, mut requests) =
                    compiler.compile(&mut compiler.core("LATENCY")?, &source, &FEATURES)?;
                in_use.push(model);
                requests.pop()
            }
            None => None,
        };
        if let Some(compiled) = &compiled {
            compiled.keep();
        }
        let latency =
            latency.pop().ok_or_else(|| Error::Bug("no request for the networks".into()))?;
        let networks = Networks {
            latency: Mutex::new(latency),
            throughput: Lanes::new(throughput),
            points: variant.has_points(),
            volume: volume.map(Mutex::new),
            _models: Mutex::new(in_use),
        };
        let (networks, sessions) = (Arc::new(networks), AtomicU64::new(0));
        Ok(Self { precision, floats, networks, sessions })
    }
}

/// The names of networks in the manifest and in the cache. The latter say what a compiled network
/// depends on: its file, OpenVINO's version, the CPU and what OpenVINO may use of it.
fn cache_names(
    core: &Core,
    variant: &Variant,
    floats: Floats,
    abilities: &str,
    networks: Vec<String>,
) -> Result<Vec<(String, String)>> {
    let versions = core.versions("CPU").map_err(|e| failed("naming its version", &e))?;
    let versions: Vec<_> = versions.into_iter().map(|(_, version)| version.build_number).collect();
    let limit = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"].map(std::env::var_os);
    let machine = sha256(format!("{versions:?} {} {abilities} {limit:?}", cpu_name()?).as_bytes());
    let named = networks.into_iter().map(|network| {
        let (variant, onnx, floats) =
            (&variant.name, variant.network_hash(&network)?, floats.name());
        let (onnx, machine) = (&onnx[..onnx.len().min(12)], &machine[..12]);
        let name = format!("{variant}-{network}-{onnx}-openvino-{machine}-{floats}.compiled");
        Ok((network, name))
    });
    named.collect()
}

/// The precision for these options on a CPU with these abilities, as OpenVINO names them.
fn precision(variant: &Variant, options: &Options, abilities: &str) -> Result<Precision> {
    let unsupported = |why: String| Err(Error::Precision(why));
    let int8 = ["vmn", "pmn"].iter().all(|n| variant.has_network(&Precision::Int8.network(n)));
    match options.precision {
        None if int8 && abilities.contains("INT8") => Ok(Precision::Int8),
        None if abilities.contains("BF16") => Ok(Precision::Bf16),
        None => Ok(Precision::F32),
        Some(Precision::Bf16) if !abilities.contains("BF16") => {
            unsupported("this CPU does not compute in bf16".into())
        }
        Some(Precision::Int8) if !abilities.contains("INT8") => {
            unsupported("this CPU does not compute in int8".into())
        }
        Some(Precision::Int8) if !int8 => {
            unsupported(format!("{} has no networks in int8", variant.name))
        }
        Some(Precision::F16) => {
            unsupported("f16 is for the GPU; the CPU computes in int8, bf16 or f32".into())
        }
        Some(precision) => Ok(precision),
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

/// The volume of one crop as bytes. They take a quarter of the memory of f32, and displace the
/// surface by less than a hundredth of a voxel.
fn volume(head: &mut InferRequest, features: &Tensor) -> Inferred<Vec<u8>> {
    head.set_input_tensor(features)?;
    head.infer()?;
    let occupancy = head.get_output_tensor()?;
    // `as` saturates, and converts NaN to 0.
    Ok(occupancy.get_data::<f32>()?.iter().map(|p| (255.0 * p).round() as u8).collect())
}

/// A network's name in the manifest and the contents of its ONNX file.
type Source = (String, Vec<u8>);

/// Compiles networks for a batch of one.
struct Compiler<'a> {
    variant: &'a Variant,
    floats: Floats,
    threads: Option<u32>,
    compiled: Option<&'a Compiled>,
}

impl Compiler<'_> {
    /// Both networks, with as many requests as OpenVINO recommends for the performance hint `mode`.
    fn lanes(
        &self,
        mode: &str,
        vmn: &Source,
        pmn: &Source,
    ) -> Result<(Vec<Lane>, Vec<CompiledModel>)> {
        let mut core = self.core(mode)?;
        let (vmn, vmns) = self.compile(&mut core, vmn, &IMAGE)?;
        let (pmn, pmns) = self.compile(&mut core, pmn, &FEATURES)?;
        let lanes = vmns.into_iter().zip(pmns).map(|(vmn, pmn)| Lane { vmn, pmn }).collect();
        Ok((lanes, vec![vmn, pmn]))
    }

    fn core(&self, mode: &str) -> Result<Core> {
        let mut core = library::core()?;
        let mut settings = vec![
            (RwPropertyKey::HintInferencePrecision, self.floats.name().to_string()),
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

    /// Compiles a network whose input has this shape: the VMN makes features of images, all others
    /// read features.
    fn compile(
        &self,
        core: &mut Core,
        (network, bytes): &Source,
        input: &[i64; 4],
    ) -> Result<(CompiledModel, Vec<InferRequest>)> {
        let mut run = || -> Inferred<_> {
            if let Some(folder) = self.compiled.map(|compiled| compiled.folder(network)) {
                let folder = folder.to_string_lossy();
                core.set_property(&DeviceType::CPU, &RwPropertyKey::CacheDir, &folder)?;
            }
            let mut model = core.read_model_from_buffer(bytes, None)?;
            model.reshape_single_input(&PartialShape::new_static(4, input)?)?;
            let features = self.floats.features()?;
            let ends = Pipeline::new(&model)?;
            if *input == IMAGE {
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
            floats: self.floats,
            networks: self.networks.clone(),
            idle: Vec::new(),
        }))
    }
}

/// One stream's access to the networks.
struct CpuSession {
    id: u64,
    floats: Floats,
    networks: Arc<Networks>,
    /// Buffers for reuse: as many as the largest batch had crops.
    idle: Vec<Buffers>,
}

impl CpuSession {
    fn cut(&mut self, batch: &Batch) -> Inferred<Vec<Crop>> {
        let mut crops = Vec::with_capacity(batch.crops.len());
        for map in batch.crops {
            let mut buffers = self.idle.pop().map_or_else(|| Buffers::new(self.floats), Ok)?;
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
