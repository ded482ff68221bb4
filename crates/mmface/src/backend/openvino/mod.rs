//! The CPU backend: OpenVINO.

mod compiled;
mod compiler;
mod cpu;
mod gaze;
pub mod library;

pub use cpu::cpu_name;
pub(crate) use gaze::{GAZE, GazeNetwork};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use handoff::{Lanes, Panicked};
use openvino::{CompiledModel, ElementType, InferRequest, InferenceError, Shape, Tensor};

use self::compiler::{Compiler, Several, Source, Use};
use self::cpu::{Cpu, Floats};
use super::cache::Cache;
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
    floats: Floats,
    networks: Arc<Networks>,
    sessions: AtomicU64,
}

/// The compiled networks.
///
/// Each is compiled for a batch of one: with a fixed shape OpenVINO avoids copies that a dynamic
/// shape needs. Each is compiled twice, because two crops in parallel on one core each take less
/// time than two crops in sequence on both cores; the second time when there are several crops at
/// once for the first time.
struct Networks {
    /// For a session that is alone and has one crop: on all cores (OpenVINO's performance hint
    /// LATENCY).
    latency: Mutex<Lane>,
    /// For several crops in parallel, each on one core. `None` is a lane that was not needed yet.
    throughput: Lanes<Option<Lane>>,
    several: Several,
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

fn failed(doing: &str, error: &InferenceError) -> Error {
    Error::Device(format!("OpenVINO failed at {doing}: {error}"))
}

impl OpenVino {
    pub(super) fn open(models: &Models, variant: &Variant, options: &Options) -> Result<Self> {
        let cpu = Cpu::ask()?;
        let precision = cpu.precision(variant, options.precision)?;
        let floats = cpu.floats(precision);
        let volume = options.volume.map(|resolution| variant.volume(resolution)).transpose()?;
        let networks = [precision.network("vmn"), precision.network("pmn")];
        let used: Vec<_> = networks.iter().chain(&volume).cloned().collect();
        let names = compiler::cache_names(&cpu, variant, floats, used)?;
        let compiler = Compiler {
            variant: variant.clone(),
            floats,
            threads: options.threads,
            cache: Cache::new(options.engine_cache.as_deref()),
            names,
        };
        let read = |network: &String| -> Result<Source> {
            Ok((network.clone(), models.network(variant, network)?))
        };
        let [vmn, pmn] = networks.each_ref().map(read);
        let (vmn, pmn) = (vmn?, pmn?);
        let compiled = compiler.cached();
        let mut core = compiler.core(Use::Single)?;
        let mut in_use = vec![
            compiler.compile(&mut core, &vmn, &IMAGE, compiled.as_ref())?,
            compiler.compile(&mut core, &pmn, &FEATURES, compiled.as_ref())?,
        ];
        let [vmn_request, pmn_request] = [0, 1].map(|at| in_use[at].create_infer_request());
        let requests = || -> Inferred<Lane> { Ok(Lane { vmn: vmn_request?, pmn: pmn_request? }) };
        let latency = requests().map_err(|e| failed("making room for a crop", &e))?;
        let volume = match volume {
            Some(network) => {
                let source = read(&network)?;
                let mut model =
                    compiler.compile(&mut core, &source, &FEATURES, compiled.as_ref())?;
                let request = model.create_infer_request();
                in_use.push(model);
                Some(request.map_err(|e| failed("making room for a volume", &e))?)
            }
            None => None,
        };
        if let Some(compiled) = &compiled {
            compiled.keep();
        }
        let most = compiler.side_by_side();
        let networks = Networks {
            latency: Mutex::new(latency),
            throughput: Lanes::new((0..most).map(|_| None).collect()),
            several: Several { compiler, vmn, pmn, models: Mutex::default() },
            points: variant.has_points(),
            volume: volume.map(Mutex::new),
            _models: Mutex::new(in_use),
        };
        let (networks, sessions) = (Arc::new(networks), AtomicU64::new(0));
        Ok(Self { precision, floats, networks, sessions })
    }
}

impl Networks {
    /// Infers all crops of one session, which [entered](Lanes::enter) before it cut them.
    fn run(&self, visit: &handoff::Visit<Option<Lane>>, crops: &mut [Crop]) -> Result<()> {
        let mut left = &mut *crops;
        while !left.is_empty() {
            if let [crop] = left
                && let Some(mut lane) = visit.is_alone().then(|| self.latency()).flatten()
            {
                lane.run(crop, self.points).map_err(|e| failed(RUNNING, &e))?;
                break;
            }
            let mut taken = visit
                .take(left.len())
                .map_err(|Panicked| Error::Bug("the networks panicked".into()))?;
            for lane in taken.iter_mut().filter(|lane| lane.is_none()) {
                *lane = Some(self.several.lane()?);
            }
            let mut lanes: Vec<_> = taken.iter_mut().flatten().collect();
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
fn run_in_parallel(lanes: &mut [&mut Lane], crops: &mut [Crop], points: bool) -> Inferred<()> {
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

impl Drop for CpuSession {
    fn drop(&mut self) {
        self.networks.throughput.forget(self.id);
    }
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
