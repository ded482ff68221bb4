//! The networks of this process: elements with the same settings share them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ::mmface::detect::Kind;
use ::mmface::{Error, Fitter, Mode, Models, Observer, Runtime, Tracker, TrackerOptions};
use gstreamer as gst;
use gstreamer::prelude::*;

use super::settings::{Networks, Settings};

/// Open networks, and what they were opened with.
#[derive(Clone)]
pub(super) struct Shared(Arc<(Networks, Runtime)>);

impl Shared {
    pub(super) fn runtime(&self) -> &Runtime {
        &self.0.1
    }

    pub(super) fn is_of(&self, networks: &Networks) -> bool {
        self.0.0 == *networks
    }
}

/// Networks that some element holds. An element holds them until it is freed or its settings
/// change, so that states can change without loading them again.
static OPEN: Mutex<Vec<Weak<(Networks, Runtime)>>> = Mutex::new(Vec::new());

/// The networks for these settings: those of another element, or new ones, which takes about a
/// second. Elements that start at the same time wait for the first of them.
pub(super) fn open(networks: &Networks) -> Result<Shared, Error> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|weak| weak.strong_count() > 0);
    let same = open.iter().filter_map(Weak::upgrade).find(|shared| shared.0 == *networks);
    if let Some(shared) = same {
        return Ok(Shared(shared));
    }
    let shared = Arc::new((networks.clone(), load(networks)?));
    open.push(Arc::downgrade(&shared));
    Ok(Shared(shared))
}

fn load(networks: &Networks) -> Result<Runtime, Error> {
    let variable = || std::env::var_os("MMFACE_ENGINES").filter(|value| !value.is_empty());
    let models = match networks.engines.clone().or_else(|| variable().map(Into::into)) {
        Some(folder) => Models::open(&folder)?,
        None => Models::find()?,
    };
    Runtime::builder(models)
        .variant(&networks.variant)
        .device(networks.device.device())
        .precision(networks.precision.precision())
        .threads((networks.threads > 0).then_some(networks.threads))
        .detector(Kind::CenterFaceOpenVino, networks.detector_model.clone())
        .build()
}

/// The two halves of a new tracker. It waits for detections, as for a recording, until the observer
/// is told to go live.
pub(super) fn tracker(
    shared: &Shared,
    settings: &Settings,
) -> Result<(Observer, Fitter), gst::ErrorMessage> {
    let options = TrackerOptions {
        mode: Mode::Recording,
        faces: settings.faces as usize,
        detect_size: (settings.detect_size > 0).then_some(settings.detect_size),
        detect_every: settings.detect_every,
        reidentify: settings.reidentify,
        smoothing: settings.smooth.strength(),
        ..TrackerOptions::default()
    };
    shared.runtime().tracker(options).map(Tracker::split).map_err(|e| explain(&e))
}

/// An error of the library as GStreamer's, with the property that helps.
pub(super) fn explain(error: &Error) -> gst::ErrorMessage {
    use gst::ResourceError::{Failed, NotFound, OpenRead};
    let (kind, cure) = match error {
        Error::Setting(_) => (gst::ResourceError::Settings, "see gst-inspect-1.0 mmface"),
        Error::Precision(_) => (
            gst::ResourceError::Settings,
            "choose another with the property precision, or leave it at auto",
        ),
        Error::Models(_) | Error::ModelHash { .. } => (
            NotFound,
            "or name another folder with the property engines or the variable MMFACE_ENGINES",
        ),
        Error::Detector(_) => (NotFound, "or name another file with the property detector-model"),
        Error::Gpu(_) => (OpenRead, "the CPU is chosen by device=cpu"),
        Error::Library(_) => (NotFound, ""),
        _ => (Failed, ""),
    };
    let text = if cure.is_empty() { error.to_string() } else { format!("{error}; {cure}") };
    // Reasons of libraries come in several lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    gst::error_msg!(kind, ("{text}"))
}

/// Whether the source behind this pad is live.
pub(super) fn is_live(pad: &gst::Pad) -> bool {
    let mut query = gst::query::Latency::new();
    pad.peer_query(&mut query) && query.result().0
}
