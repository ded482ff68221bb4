//! Follows the faces of one video.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use mmface::smooth::Strength;
use mmface::{Device, Mode, Precision, TrackerOptions};
use pyo3::prelude::*;

use crate::arguments::{choice, number, text, whole};
use crate::error::{fail, guarded, of_library};
use crate::face::Face;
use crate::frame::Frame;
use crate::model::{FaceModel, Model, folder, place};
use crate::process::{self, AtHome};
use crate::shared::{self, Settings, Shared};

/// Longest side of the detector's canvas for stills, as in the program: a picture may show many small
/// faces, and nobody waits for it.
const DETECT_SIZE_OF_PICTURES: u32 = 960;

/// Follows the faces of one video, camera or series of pictures.
///
/// Parameters
/// ----------
/// faces : most faces to follow, 1 to 64.
/// mode : "recording" (waits for the detector, so that the same frames give the same faces), "live"
///     (never waits for it) or "stills" (pictures that have nothing to do with each other).
/// smooth : strength of the smoothing over time: "off", "light", "medium", "strong" or
///     "avatar" (eyelids and jaw fast, the head calm).
/// device : "auto" or "cpu". This package has no GPU support.
/// variant : name of the networks in the manifest.
/// precision : "f32", "bf16", "int8", or None for the fastest that the machine computes in.
/// threads : CPU threads; None for all cores.
/// detect_every : seconds between two searches for further faces.
/// detect_size : longest side, in pixels, of the picture that the detector sees; None: automatic.
///     For stills that is 960.
/// reidentify : seconds for which somebody who left is remembered.
/// models : a folder with a manifest.toml, for networks of your own; None for the package's.
///
/// All trackers with the same device, variant, precision, threads and models share the networks; the
/// first one takes a second to open them.
#[pyclass(frozen, module = "mmface")]
pub(crate) struct Tracker {
    state: Mutex<State>,
    mode: Mode,
    model: Arc<Model>,
    shared: Arc<Shared>,
    faces: u32,
}

struct State {
    /// None after a panic.
    tracker: Option<AtHome<mmface::Tracker>>,
    /// Time of the last frame.
    last: Option<f64>,
    /// The first frame of a live stream, from which its time counts.
    started: Option<Instant>,
}

#[pymethods]
impl Tracker {
    #[new]
    #[pyo3(signature = (
        faces = None, *, mode = None, smooth = None, device = None, variant = None, precision = None,
        threads = None, detect_every = None, detect_size = None, reidentify = None, models = None
    ))]
    #[pyo3(text_signature = "(faces=4, *, mode='recording', smooth='medium', device='auto', \
        variant='mmface-lite', precision=None, threads=None, detect_every=1.0, detect_size=None, \
        reidentify=3.0, models=None)")]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        py: Python<'_>,
        faces: Option<&Bound<'_, PyAny>>,
        mode: Option<&Bound<'_, PyAny>>,
        smooth: Option<&Bound<'_, PyAny>>,
        device: Option<&Bound<'_, PyAny>>,
        variant: Option<&Bound<'_, PyAny>>,
        precision: Option<&Bound<'_, PyAny>>,
        threads: Option<&Bound<'_, PyAny>>,
        detect_every: Option<&Bound<'_, PyAny>>,
        detect_size: Option<&Bound<'_, PyAny>>,
        reidentify: Option<&Bound<'_, PyAny>>,
        models: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        guarded(|| {
            process::check()?;
            let modes =
                [("recording", Mode::Recording), ("live", Mode::Live), ("stills", Mode::Stills)];
            let strengths = [
                Strength::Off,
                Strength::Light,
                Strength::Medium,
                Strength::Strong,
                Strength::Avatar,
            ]
            .map(|s| (s, s.to_string()));
            let strengths: Vec<_> = strengths.iter().map(|(s, name)| (name.as_str(), *s)).collect();
            let devices = [("auto", Device::Auto), ("cpu", Device::Cpu)];
            let precisions =
                [("f32", Precision::F32), ("bf16", Precision::Bf16), ("int8", Precision::Int8)];
            let defaults = TrackerOptions::default();
            let mode = mode.map_or(Ok(Mode::Recording), |m| choice("mode", m, &modes))?;
            let faces = faces.map_or(Ok(defaults.faces as u32), |n| whole("faces", n, 1, 64))?;
            let positive = |name, value: Option<&Bound<'_, PyAny>>, default| match value {
                None => Ok(default),
                Some(value) => match number(name, value)? {
                    seconds if seconds >= 0.0 => Ok(seconds),
                    seconds => Err(fail(format!("{name} cannot be negative, as {seconds} is"))),
                },
            };
            let options = TrackerOptions {
                mode,
                faces: faces as usize,
                smoothing: smooth
                    .map_or(Ok(defaults.smoothing), |s| choice("smooth", s, &strengths))?,
                detect_every: positive("detect_every", detect_every, defaults.detect_every)?,
                reidentify: positive("reidentify", reidentify, defaults.reidentify)?,
                detect_size: detect_size
                    .map(|n| {
                        let (least, most) = (mmface::detect::MIN_SIZE, mmface::detect::MAX_SIZE);
                        whole("detect_size", n, least, most)
                    })
                    .transpose()?
                    .or((mode == Mode::Stills).then_some(DETECT_SIZE_OF_PICTURES)),
                ..defaults
            };
            let settings = Settings {
                device: device.map_or(Ok(Device::Auto), |d| choice("device", d, &devices))?,
                variant: variant.map_or(Ok("mmface-lite".into()), |v| text("variant", v))?,
                precision: precision.map(|p| choice("precision", p, &precisions)).transpose()?,
                threads: threads.map(|n| whole("threads", n, 1, 1024)).transpose()?,
                models: folder(py, models)?,
                detector: place(py, "detector")?,
                openvino: place(py, "openvino")?,
            };
            py.detach(|| guarded(|| Self::open(&settings, options, faces)))
        })
    }

    /// The faces in the next frame, sorted by id.
    ///
    /// frame : NumPy array of uint8, with any strides: (height, width, 3), or (height, width) for
    ///     grey. With format="i420" or "nv12": (3 * height / 2, width), or a tuple of the planes. It is
    ///     not kept; do not write to it before the call returns.
    /// time : seconds since the start of the video; needed, and never smaller than the last one,
    ///     for mode="recording". Live frames without a time get that of the clock.
    /// format : order of the channels: "bgr" (OpenCV's, the default), "rgb", "grey", "i420", "nv12".
    /// matrix, full_range : how "i420" and "nv12" are coded: "bt601" (the default) or "bt709"; whether
    ///     luma has the range 0…255 instead of 16…235.
    ///
    /// Other Python threads run meanwhile. Of two threads that call the same tracker one waits.
    #[pyo3(signature = (frame, time = None, *, format = None, matrix = None, full_range = false))]
    #[pyo3(
        text_signature = "($self, frame, time=None, *, format=None, matrix=None, full_range=False)"
    )]
    fn process(
        &self,
        py: Python<'_>,
        frame: &Bound<'_, PyAny>,
        time: Option<&Bound<'_, PyAny>>,
        format: Option<&Bound<'_, PyAny>>,
        matrix: Option<&Bound<'_, PyAny>>,
        full_range: bool,
    ) -> PyResult<Vec<Face>> {
        guarded(|| {
            process::check()?;
            let time = time.map(|time| number("time", time)).transpose()?;
            if time.is_none() && self.mode == Mode::Recording {
                return Err(fail(
                    "process() needs the time of each frame of a recording: pass time=seconds, or \
                     make the tracker with mode=\"live\" or mode=\"stills\"",
                ));
            }
            let frame = Frame::new(frame, format, matrix, full_range)?;
            let image = frame.image().map_err(|e| of_library(&e))?;
            let faces = py.detach(|| guarded(|| self.next(&image, time)))?;
            Ok(faces.into_iter().map(|face| Face::new(face, self.model.clone())).collect())
        })
    }

    /// Forgets all faces and the time: the next frame may be of another video. Ids are not reused.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            process::check()?;
            py.detach(|| {
                self.with(|state| {
                    state.tracker.as_mut().and_then(AtHome::get_mut).ok_or_else(broken)?.reset();
                    (state.last, state.started) = (None, None);
                    Ok(())
                })
            })
        })
    }

    /// "recording", "live" or "stills".
    #[getter]
    fn mode(&self) -> &'static str {
        match self.mode {
            Mode::Recording => "recording",
            Mode::Live => "live",
            Mode::Stills => "stills",
        }
    }

    /// Most faces that are followed.
    #[getter]
    fn faces(&self) -> u32 {
        self.faces
    }

    /// The face model of the networks.
    #[getter]
    fn face_model(&self) -> FaceModel {
        FaceModel::new(self.model.clone())
    }

    /// The device that runs the networks: "cpu".
    #[getter]
    fn device(&self) -> &'static str {
        self.shared.get().map_or("", |runtime| runtime.describe().device)
    }

    /// The precision in which the networks compute: "f32", "bf16" or "int8".
    #[getter]
    fn precision(&self) -> String {
        self.shared.get().map_or_else(String::new, |r| r.describe().precision.to_string())
    }

    /// Name of the networks.
    #[getter]
    fn variant(&self) -> &str {
        self.shared.get().map_or("", |runtime| &runtime.variant().name)
    }

    fn __repr__(&self) -> String {
        format!(
            "<Tracker of up to {} faces: {}, {} on {} in {}>",
            self.faces,
            self.mode(),
            self.variant(),
            self.device(),
            self.precision()
        )
    }
}

impl Tracker {
    fn open(settings: &Settings, options: TrackerOptions, faces: u32) -> PyResult<Self> {
        let shared = shared::runtime(settings)?;
        let runtime = shared.get().ok_or_else(broken)?;
        let mode = options.mode;
        let tracker = runtime.tracker(options).map_err(|e| of_library(&e))?;
        let model = Arc::new(Model {
            model: runtime.face_model().clone(),
            hash: runtime.face_model_hash().to_string(),
        });
        let state = State { tracker: Some(AtHome::new(tracker)), last: None, started: None };
        Ok(Self { state: Mutex::new(state), mode, model, shared, faces })
    }

    /// Works on the state; called without the GIL, so that waiting for another thread stops nobody.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> PyResult<T>) -> PyResult<T> {
        work(&mut *self.state.lock().map_err(|_| broken())?)
    }

    fn next(&self, image: &mmface::Image<'_>, time: Option<f64>) -> PyResult<Vec<mmface::Face>> {
        self.with(|state| {
            let time = match (time, self.mode) {
                (Some(time), _) => time,
                (None, Mode::Live) => {
                    state.started.get_or_insert_with(Instant::now).elapsed().as_secs_f64()
                }
                (None, _) => state.last.map_or(0.0, |last| last + 1.0),
            };
            if let Some(last) = state.last
                && time < last
                && self.mode != Mode::Stills
            {
                return Err(fail(format!(
                    "time goes backwards, from {last} to {time} seconds: call reset() before \
                     another video, or use a Tracker for each"
                )));
            }
            let tracker = state.tracker.as_mut().and_then(AtHome::get_mut).ok_or_else(broken)?;
            let faces = tracker.process(image, time).map_err(|e| of_library(&e))?.faces;
            state.last = Some(time);
            Ok(faces)
        })
    }
}

/// After a panic nobody knows in what state a tracker is.
fn broken() -> PyErr {
    fail("this Tracker stopped after an internal error: make a new one")
}
