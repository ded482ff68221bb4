//! Networks, opened once for all trackers with the same settings.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mmface::detect::Kind;
use mmface::{Device, Models, Precision, Runtime};
use pyo3::prelude::*;

use crate::error::of_library;
use crate::process::{self, AtHome};

/// A runtime that several trackers share.
pub(crate) type Shared = AtHome<Runtime>;

/// What a runtime is made of.
#[derive(Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) models: PathBuf,
    pub(crate) detector: PathBuf,
    pub(crate) openvino: PathBuf,
    pub(crate) variant: String,
    pub(crate) device: Device,
    pub(crate) precision: Option<Precision>,
    pub(crate) threads: Option<u32>,
}

/// The runtimes in use, and the last one that was: a program that makes a tracker for each of many
/// videos, one after the other, opens the networks once.
struct Open {
    used: Vec<(Settings, Weak<Shared>)>,
    last: Option<Arc<Shared>>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { used: Vec::new(), last: None });

/// The runtime with these settings; takes a second if nobody has it open. Must be called without
/// holding the GIL: it waits for others who open one.
pub(crate) fn runtime(settings: &Settings) -> PyResult<Arc<Shared>> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.used.retain(|(_, shared)| shared.strong_count() > 0);
    let same = open.used.iter().find(|(known, _)| known == settings);
    if let Some(shared) = same.and_then(|(_, shared)| shared.upgrade()) {
        open.last = Some(shared.clone());
        return Ok(shared);
    }
    process::is_home();
    let shared = Arc::new(AtHome::new(build(settings).map_err(|e| of_library(&e))?));
    open.used.push((settings.clone(), Arc::downgrade(&shared)));
    open.last = Some(shared.clone());
    Ok(shared)
}

fn build(settings: &Settings) -> mmface::Result<Runtime> {
    mmface::backend::library::load_from(&settings.openvino).map_err(|why| match why {
        mmface::Error::Library(why) => mmface::Error::Library(format!(
            "{why}; install the one that mmface was made for: pip install --force-reinstall mmface"
        )),
        other => other,
    })?;
    Runtime::builder(Models::open(&settings.models)?)
        .variant(settings.variant.clone())
        .device(settings.device)
        .precision(settings.precision)
        .threads(settings.threads)
        .detector(Kind::CenterFaceOpenVino, Some(settings.detector.clone()))
        .build()
}
