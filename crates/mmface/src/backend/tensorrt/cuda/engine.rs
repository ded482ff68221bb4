//! TensorRT engines: building them from ONNX, which needs no GPU, and checking them.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use trtx::interfaces::MonitorProgress;
use trtx::trtx_sys::Dims64;
use trtx::{Builder, Logger, OnnxParser, OptProfileSelector, Severity};

use super::library;
use crate::backend::tensorrt::Chip;
use crate::error::{Error, Result};

/// Most crops that the networks take at once. Larger batches are split into chunks of this size,
/// which keeps execution contexts small.
pub(super) const CHUNK: usize = 8;

/// Collects the errors that TensorRT logs, because its functions report only that they failed. One
/// operation at a time collects errors, so that those of two operations do not mix.
pub(super) struct ErrorLog {
    logger: Logger,
    lines: &'static Mutex<Vec<String>>,
    turn: Mutex<()>,
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a list of strings in a bad state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Listener;

impl trtx::LogHandler for Listener {
    fn log(&self, severity: Severity, message: &str) {
        match severity {
            Severity::InternalError | Severity::Error => {
                tracing::debug!("TensorRT: {message}");
                lock(&LINES).push(message.trim().to_string());
            }
            Severity::Warning => tracing::debug!("TensorRT: {message}"),
            _ => tracing::trace!("TensorRT: {message}"),
        }
    }
}

impl ErrorLog {
    /// The error log; loads TensorRT on the first call.
    ///
    /// # Errors
    /// [`Error::Library`] if TensorRT cannot be loaded or does not start.
    pub(super) fn get() -> Result<&'static Self> {
        static ONE: OnceLock<ErrorLog> = OnceLock::new();
        library::tensorrt()?;
        if let Some(one) = ONE.get() {
            return Ok(one);
        }
        let logger = Logger::new(Listener)
            .map_err(|e| Error::Library(format!("TensorRT does not start: {e}")))?;
        Ok(ONE.get_or_init(|| Self { logger, lines: &LINES, turn: Mutex::new(()) }))
    }

    /// The logger, for TensorRT's constructors.
    pub(super) fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Starts to collect errors, until the guard is dropped.
    pub(super) fn begin(&self) -> MutexGuard<'_, ()> {
        let turn = lock(&self.turn);
        lock(self.lines).clear();
        turn
    }

    /// The first logged error if there is one, else `error`.
    pub(super) fn explain(&self, error: &trtx::Error) -> String {
        lock(self.lines).first().cloned().unwrap_or_else(|| error.to_string())
    }
}

/// Logs the phases of an engine build.
struct Phases;

impl MonitorProgress for Phases {
    fn phase_start(&self, phase: &str, parent: Option<&str>, steps: i32) {
        if parent.is_none() {
            tracing::info!("TensorRT: {phase} ({steps} steps)");
        }
    }
    fn step_complete(&self, _: &str, _: i32) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Continue(())
    }
    fn phase_finish(&self, _: &str) {}
}

/// Builds an engine from ONNX for batches of 1 to 8, optimised for 1. The precision is that
/// of the ONNX file. `title` names the network in the log.
///
/// # Errors
/// [`Error::Library`] with TensorRT's reason if it fails.
pub fn build(title: &str, onnx: &[u8], chip: Chip) -> Result<Vec<u8>> {
    let errors = ErrorLog::get()?;
    let _turn = errors.begin();
    tracing::info!("building the engine of {title} for {chip}");
    let started = std::time::Instant::now();
    let built = serialized(errors.logger(), onnx, chip);
    let built = built.map_err(|e| {
        let why = errors.explain(&e);
        Error::Library(format!("TensorRT cannot build {title} for {chip}: {why}"))
    })?;
    let (seconds, size) = (started.elapsed().as_secs_f64(), built.len() as f64 / 1e6);
    tracing::info!("built in {seconds:.1} s, {size:.1} MB");
    Ok(built)
}

fn serialized(logger: &'static Logger, onnx: &[u8], chip: Chip) -> trtx::Result<Vec<u8>> {
    let mut builder = Builder::new(logger)?;
    let mut parser = OnnxParser::new(builder.create_network(0)?, logger)?;
    parser.parse(onnx)?;
    let mut config = builder.create_config()?;
    target(&mut config, chip)?;
    config.set_progress_monitor(Box::new(Phases))?;
    let mut profile = builder.creata_optimization_profile()?;
    let network = parser.network_mut();
    for index in 0..network.nb_inputs() {
        let input = network.input(index)?;
        let (name, mut shape) = (input.name(network)?, input.dimensions(network)?);
        for (which, batch) in [
            (OptProfileSelector::kMIN, 1),
            (OptProfileSelector::kOPT, 1),
            (OptProfileSelector::kMAX, CHUNK as i64),
        ] {
            if let Some(first) = shape.first_mut() {
                *first = batch;
            }
            profile.set_dimensions(&name, which, &Dims64::from_slice(&shape))?;
        }
    }
    config.add_optimization_profile(&mut profile)?;
    let engine = builder.build_serialized_network(network, &mut config)?;
    Ok(engine.to_vec())
}

#[cfg(not(feature = "tensorrt-enterprise"))]
fn target(config: &mut trtx::BuilderConfig<'_>, chip: Chip) -> trtx::Result<()> {
    use trtx::ComputeCapability as To;
    let to = match chip.number() {
        75 => To::kSM75,
        80 => To::kSM80,
        86 => To::kSM86,
        89 => To::kSM89,
        120 => To::kSM120,
        121 => To::kSM121,
        _ => return Err(trtx::Error::InvalidArgument(unknown(chip))),
    };
    config.set_nb_compute_capabilities(1)?;
    config.set_compute_capability(to, 0)
}

/// The full TensorRT always builds for the installed GPU.
#[cfg(feature = "tensorrt-enterprise")]
fn target(_: &mut trtx::BuilderConfig<'_>, _: Chip) -> trtx::Result<()> {
    Ok(())
}

/// The message for a chip that TensorRT-RTX does not support.
pub(super) fn unknown(chip: Chip) -> String {
    let known = Chip::TARGETS.map(|(chip, _)| chip.to_string()).join(", ");
    format!(
        "TensorRT-RTX has no {chip}, only {known}; data-centre chips such as the H100 (sm_90) need \
         the full TensorRT: build with the feature `tensorrt-enterprise`"
    )
}

/// Checks whether an engine can be used on this machine, judging by its header. Needs a GPU.
///
/// # Errors
/// [`Error::Library`] with the reasons.
#[cfg(not(feature = "tensorrt-enterprise"))]
pub fn check(engine: &[u8]) -> Result<()> {
    use trtx::{EngineInvalidityDiagnostics as Why, EngineValidity, Runtime};
    let errors = ErrorLog::get()?;
    let _turn = errors.begin();
    let failed = |e: trtx::Error| Error::Library(errors.explain(&e));
    let runtime = Runtime::new(errors.logger()).map_err(failed)?;
    let (validity, why) = runtime.engine_validity(engine).map_err(failed)?;
    if validity != EngineValidity::kINVALID {
        return Ok(());
    }
    let reasons = [
        (Why::VERSION_MISMATCH, "it is of another version of TensorRT"),
        (Why::UNSUPPORTED_CC, "it is for another chip"),
        (Why::OLD_CUDA_DRIVER, "the NVIDIA driver is too old"),
        (Why::OLD_CUDA_RUNTIME, "the CUDA runtime is too old"),
        (Why::INSUFFICIENT_GPU_MEMORY, "the GPU has too little memory"),
        (Why::MALFORMED_ENGINE, "it is damaged"),
        (Why::CUDA_ERROR, "CUDA is not installed as it should be"),
    ];
    let names: Vec<_> =
        reasons.iter().filter(|(flag, _)| why.contains(*flag)).map(|(_, name)| *name).collect();
    Err(Error::Library(if names.is_empty() { "it is not valid".into() } else { names.join(", ") }))
}

/// The full TensorRT can tell only when it opens the engine.
#[cfg(feature = "tensorrt-enterprise")]
pub fn check(_: &[u8]) -> Result<()> {
    Ok(())
}
