//! What all streams share: networks, face detector and face model.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::{self, Backend, Batch, Description, Device, GazeNetwork, Precision};
use crate::crop::{CROP, CropMap, DetectorRule};
use crate::detect::{self, MAX_SIZE, MIN_SIZE, Service};
use crate::error::{Error, Result};
use crate::face::FaceModel;
use crate::gaze::GazeRule;
use crate::image::Image;
use crate::models::{self, Models, Variant};
use crate::record;
use crate::smooth::Strength;
use crate::track::{Settings, Tracks};
use crate::tracker::{Eyes, Fitter, Mode, Observer, Tracker, TrackerOptions};

/// Networks, face detector and face model, opened once for any number of streams. Clones are cheap
/// and share them.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    variant: Variant,
    face_model: Arc<FaceModel>,
    face_model_hash: String,
    backend: Box<dyn Backend>,
    gaze: Option<Arc<GazeNetwork>>,
    detector: Arc<Service>,
    detector_rule: DetectorRule,
    has_volumes: bool,
}

impl Inner {
    /// What an observer needs to see where eyes look.
    fn gaze_eyes(&self) -> Option<Eyes> {
        let (network, rule) = (self.gaze.clone()?, self.gaze_rule()?);
        Some(Eyes { network, rule, model: self.face_model.clone() })
    }

    fn gaze_rule(&self) -> Option<GazeRule> {
        self.variant.gaze.filter(|_| self.gaze.is_some())
    }
}

/// Settings of a [`Runtime`].
#[derive(Debug)]
pub struct RuntimeBuilder {
    models: Models,
    variant: String,
    backend: backend::Options,
    detector: detect::Options,
}

impl Runtime {
    /// Starts to build a runtime on these models.
    #[must_use]
    pub fn builder(models: Models) -> RuntimeBuilder {
        RuntimeBuilder {
            models,
            variant: "mmface-lite".into(),
            backend: backend::Options::default(),
            detector: detect::Options::default(),
        }
    }

    /// A tracker for one stream.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid option, [`Error::Device`] or [`Error::Gpu`] if the device
    /// fails.
    pub fn tracker(&self, options: TrackerOptions) -> Result<Tracker> {
        let TrackerOptions { mode, faces, detect_every, .. } = options;
        if faces == 0 || !detect_every.is_finite() || detect_every < 0.0 {
            return Err(Error::Setting(format!(
                "a tracker cannot follow {faces} faces and detect every {detect_every} seconds"
            )));
        }
        if !options.reidentify.is_finite() || options.reidentify < 0.0 {
            return Err(Error::Setting(format!(
                "a tracker cannot remember people for {} seconds",
                options.reidentify
            )));
        }
        if let Some(size) = options.detect_size.filter(|size| !(MIN_SIZE..=MAX_SIZE).contains(size))
        {
            return Err(Error::Setting(format!(
                "a detector's canvas of {size} pixels is not within {MIN_SIZE} to {MAX_SIZE}"
            )));
        }
        let wants_volumes = options.volumes || options.refine;
        if wants_volumes && !self.0.has_volumes {
            return Err(Error::Setting(
                "volumes and their alignment need a runtime with a volume head".into(),
            ));
        }
        let inner = &self.0;
        let settings = Settings {
            max_faces: faces,
            detect_every,
            reidentify: options.reidentify,
            presence: inner.variant.presence_threshold,
            points: inner.variant.points_weight,
            immediate: mode == Mode::Stills,
            crop: inner.variant.crop,
            detector: inner.detector_rule,
        };
        let tracks = Tracks::new(settings, inner.face_model.clone());
        // A picture is all there is of a face: a detector that misses it gets no second chance.
        let thorough = options.mode == Mode::Stills;
        let detector = inner.detector.client(options.detect_size, thorough);
        let session = inner.backend.session()?;
        let smoothing = if mode == Mode::Stills { Strength::Off } else { options.smoothing };
        Ok(Tracker::new(
            Observer::new(tracks, session, detector, mode, wants_volumes)
                .with_gaze(inner.gaze_eyes()),
            Fitter::new(&inner.face_model, smoothing, options.refine).with_gaze(inner.gaze_rule()),
        ))
    }

    /// The face model of the networks.
    #[must_use]
    pub fn face_model(&self) -> &Arc<FaceModel> {
        &self.0.face_model
    }

    /// SHA-256 of the face model's file, hexadecimal.
    #[must_use]
    pub fn face_model_hash(&self) -> &str {
        &self.0.face_model_hash
    }

    /// The variant of the networks.
    #[must_use]
    pub fn variant(&self) -> &Variant {
        &self.0.variant
    }

    /// Describes the backend that runs the networks.
    #[must_use]
    pub fn describe(&self) -> Description {
        self.0.backend.describe()
    }
}

impl From<&Runtime> for record::Network {
    fn from(runtime: &Runtime) -> Self {
        let (about, variant) = (runtime.describe(), runtime.variant());
        Self {
            variant: variant.name.clone(),
            hash: variant.hash(),
            backend: about.backend.into(),
            device: about.device.into(),
            precision: about.precision.to_string(),
            trained: variant.trained,
        }
    }
}

impl From<&Runtime> for record::FaceModel {
    fn from(runtime: &Runtime) -> Self {
        let model = runtime.face_model();
        Self {
            name: model.name.clone(),
            hash: runtime.face_model_hash().into(),
            identity: model.identities,
            expressions: model.expressions.clone(),
        }
    }
}

impl RuntimeBuilder {
    /// The variant of the networks [default: `mmface-lite`].
    #[must_use]
    pub fn variant(self, name: impl Into<String>) -> Self {
        Self { variant: name.into(), ..self }
    }

    /// The device that runs the networks [default: the best that works on this machine].
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.backend.device = device;
        self
    }

    /// The precision of the networks; `None` is the fastest that the device supports.
    #[must_use]
    pub fn precision(mut self, precision: Option<Precision>) -> Self {
        self.backend.precision = precision;
        self
    }

    /// Number of CPU threads; `None` uses all cores.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<u32>>) -> Self {
        self.backend.threads = threads.into();
        self.detector.threads = self.backend.threads;
        self
    }

    /// Resolution of the volume head, needed by trackers that want volumes; `None` opens no volume
    /// head.
    #[must_use]
    pub fn volume(mut self, resolution: impl Into<Option<u32>>) -> Self {
        self.backend.volume = resolution.into();
        self
    }

    /// The face detector, and its file if that is not in the usual place.
    #[must_use]
    pub fn detector(mut self, kind: detect::Kind, file: Option<PathBuf>) -> Self {
        self.detector.kind = kind;
        self.detector.file = file;
        self
    }

    /// Folder for compiled networks; `None` is the user's cache folder.
    #[must_use]
    pub fn engine_cache(mut self, folder: Option<PathBuf>) -> Self {
        self.backend.engine_cache = folder;
        self
    }

    /// Whether the GPU replays a CUDA graph instead of launching every operation anew
    /// [default: yes].
    #[must_use]
    pub fn cuda_graphs(mut self, wanted: bool) -> Self {
        self.backend.no_cuda_graph = !wanted;
        self
    }

    /// Opens networks, detector and face model.
    ///
    /// # Errors
    /// [`Error::Models`] and [`Error::ModelHash`] for model files; [`Error::Detector`] for the
    /// detector's file; [`Error::Library`], [`Error::Device`], [`Error::Gpu`] and
    /// [`Error::Volumes`] for the backend; [`Error::Setting`] and [`Error::Precision`] for invalid
    /// settings.
    pub fn build(self) -> Result<Runtime> {
        let Self { models, variant, backend, detector } = self;
        let variant = models.variant(&variant)?;
        let (face_model, face_model_hash) = models.face_model()?;
        variant.check(&face_model)?;
        let detector_rule = models.detector(detector.kind.name())?;
        let has_volumes = backend.volume.is_some();
        let precision = backend.precision;
        let backend = backend::open(&models, &variant, &backend)?;
        probe(&*backend, &variant, &face_model)?;
        let gaze = GazeNetwork::open(&models, &variant, precision)?.map(Arc::new);
        let detector = Arc::new(Service::start(detect::open(&detector)?)?);
        Ok(Runtime(Arc::new(Inner {
            variant,
            face_model: Arc::new(face_model),
            face_model_hash,
            backend,
            gaze,
            detector,
            detector_rule,
            has_volumes,
        })))
    }
}

/// Runs the networks once, on grey, and checks what comes: the manifest may promise anything.
fn probe(backend: &dyn Backend, variant: &Variant, model: &FaceModel) -> Result<()> {
    let side = CROP as u32;
    let image = Image::rgb(side, side, vec![128; 3 * CROP * CROP])?;
    let middle = CROP as f32 / 2.0 - 0.5;
    let crops = [CropMap::square([middle; 2], CROP as f32, 0.0)];
    let batch = Batch { image: &image, frame: 0, crops: &crops, volumes: false, next: None };
    let seen = backend.session()?.infer(&batch)?;
    let first = seen.first().ok_or_else(|| Error::Bug("a crop without outputs".into()))?;
    models::check_outputs(variant, model, first)
}
