//! What the element `mmface` does with buffers, events, queries and states.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use ::mmface::record::{self, FaceRecord, Record};
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer::{self as gst, glib};
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::BaseTransformMode;
use gstreamer_base::subclass::base_transform::GenerateOutputSuccess;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video::{VideoCapsBuilder, VideoFormat, VideoFrameRef, VideoInfo};

use super::runtimes::{self, Shared, explain};
use super::settings::{Mode, PROPERTIES, Settings};
use super::stream::{Measured, Stats, Stream, image};
use crate::meta;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("mmface", gst::DebugColorFlags::empty(), Some("Faces in video"))
});

/// Formats that are measured as they are.
const FORMATS: [VideoFormat; 5] =
    [VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Rgb, VideoFormat::Bgr, VideoFormat::Gray8];

/// The step between frames of a stream that tells neither times nor a rate.
const DEFAULT_STEP: f64 = 0.04;

/// The element. Each lock is held for a moment, but for that of `stream`: the streaming thread
/// holds it while it measures a frame.
#[derive(Default)]
pub(crate) struct Mmface {
    settings: Mutex<Settings>,
    networks: Mutex<Option<Shared>>,
    format: Mutex<Option<VideoInfo>>,
    stream: Mutex<Option<Stream>>,
    stats: Mutex<Stats>,
    /// Running time up to which frames would be too late for the sink.
    late_until: Mutex<Option<gst::ClockTime>>,
}

/// Where a buffer lies in time.
#[derive(Debug, Clone, Copy)]
struct Times {
    pts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    stream: Option<gst::ClockTime>,
    running: Option<gst::ClockTime>,
    /// Whether the stream is played backwards.
    backwards: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[glib::object_subclass]
impl ObjectSubclass for Mmface {
    const NAME: &'static str = "GstMmface";
    type Type = super::Mmface;
    type ParentType = gstreamer_base::BaseTransform;
}

impl ObjectImpl for Mmface {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_qos(true);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        if let Err(why) = settings.set(spec.name(), value) {
            gst::warning!(CAT, imp = self, "{} stays as it is: {why}", spec.name());
            return;
        }
        drop(settings);
        if spec.name() == "latency" {
            // The pipeline asks everybody for the latency again.
            let message = gst::message::Latency::builder().src(&*self.obj()).build();
            let _ = self.obj().post_message(message);
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match spec.name() {
            "stats" => lock(&self.stats).structure().to_value(),
            name => {
                let setting = lock(&self.settings).get(name);
                setting.unwrap_or_else(|| glib::Value::from_type(spec.value_type()))
            }
        }
    }
}

impl GstObjectImpl for Mmface {}

impl ElementImpl for Mmface {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "3D faces",
                "Filter/Analyzer/Video",
                "Fits a 3D morphable face model to the faces in video: pose, identity, expression \
                 and landmarks, as metas of each buffer (MmfaceMeta, and a region of interest for \
                 each face) and as element messages with JSON; pixels stay as they are. \
                 Example: v4l2src ! videoconvert ! mmface ! mmfaceoverlay ! videoconvert ! \
                 autovideosink",
                "The authors of mmface-live",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = VideoCapsBuilder::new().format_list(FORMATS).build();
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
            };
            let pads = [pad("src", gst::PadDirection::Src), pad("sink", gst::PadDirection::Sink)];
            pads.into_iter().flatten().collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::NullToReady
            && let Err(message) = self.load()
        {
            self.post_error_message(message);
            return Err(gst::StateChangeError);
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for Mmface {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        // Settings may have changed in the state READY.
        let networks = self.load()?;
        let settings = lock(&self.settings).clone();
        let tracker = runtimes::tracker(&networks, &settings)?;
        *lock(&self.stream) = Some(Stream::new(tracker, settings.reidentify));
        *lock(&self.stats) = Stats::default();
        *lock(&self.late_until) = None;
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.stream) = None;
        *lock(&self.format) = None;
        Ok(())
    }

    fn set_caps(&self, caps: &gst::Caps, _: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = VideoInfo::from_caps(caps)
            .map_err(|_| gst::loggable_error!(CAT, "no video format that is known: {caps}"))?;
        if info.par() != gst::Fraction::new(1, 1) {
            let (x, y) = (info.par().numer(), info.par().denom());
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                ("pixels are {x}:{y} and not square, so faces are measured in a distorted \
                     picture; put videoscale ! video/x-raw,pixel-aspect-ratio=1/1 in front")
            );
        }
        let before = lock(&self.format).replace(info.clone());
        let known = |b: &VideoInfo| (b.width(), b.height(), b.format(), b.fps());
        if before.is_some_and(|before| known(&before) != known(&info)) {
            self.reset();
            let has_begun = lock(&self.stream).as_ref().is_some_and(|stream| !stream.is_new());
            if has_begun {
                self.post_format(&info);
            }
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::FlushStop {
            self.reset();
            *lock(&self.late_until) = None;
        }
        self.parent_sink_event(event)
    }

    /// Takes note of how late frames come, and tells those upstream. The base class is not told: it
    /// would drop late frames, and here they are passed on unmeasured.
    fn src_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, late, timestamp) = qos.get();
            *lock(&self.late_until) = timestamp.filter(|_| late > 0).map(|time| {
                time.saturating_add(gst::ClockTime::from_nseconds(late.unsigned_abs()))
            });
            return self.obj().sink_pad().push_event(event);
        }
        self.parent_src_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        let answered = BaseTransformImplExt::parent_query(self, direction, query);
        if answered
            && direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(latency) = query.view_mut()
        {
            let own = lock(&self.settings).latency;
            let (live, least, most) = latency.result();
            latency.set(live, least.saturating_add(own), most.map(|most| most.saturating_add(own)));
        }
        answered
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(mut buffer) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        // A buffer that others hold too gets a copy that shares its pixels.
        self.process(buffer.make_mut())?;
        Ok(GenerateOutputSuccess::Buffer(buffer))
    }
}

impl Mmface {
    /// Opens the networks, or takes those that are open.
    fn load(&self) -> Result<Shared, gst::ErrorMessage> {
        let wanted = lock(&self.settings).networks.clone();
        let mut networks = lock(&self.networks);
        if let Some(shared) = networks.as_ref().filter(|shared| shared.is_of(&wanted)) {
            return Ok(shared.clone());
        }
        // Frees those of other settings first.
        *networks = None;
        let shared = runtimes::open(&wanted).map_err(|e| explain(&e))?;
        let about = shared.runtime().describe();
        gst::info!(CAT, imp = self, "{} on {} in {}", about.backend, about.device, about.precision);
        let variant = shared.runtime().variant();
        if !variant.trained {
            gst::warning!(
                CAT,
                imp = self,
                "{} is untrained: its numbers mean nothing",
                variant.name
            );
        }
        *networks = Some(shared.clone());
        Ok(shared)
    }

    /// Forgets all faces, if there was a frame.
    fn reset(&self) {
        if let Some(stream) = lock(&self.stream).as_mut().filter(|stream| !stream.is_new()) {
            gst::debug!(CAT, imp = self, "faces are forgotten: the stream goes on elsewhere");
            stream.reset();
            lock(&self.stats).resets += 1;
        }
    }

    /// Before the first frame: decides whether frames wait for detections, and posts what comes
    /// before the records of frames.
    fn begin(&self, stream: &mut Stream, settings: &Settings, info: &VideoInfo) {
        let live = match settings.mode {
            Mode::Live => true,
            Mode::Recording => false,
            Mode::Auto => runtimes::is_live(self.obj().sink_pad()),
        };
        gst::debug!(CAT, imp = self, "the source is live: {live}");
        if live {
            stream.go_live();
        }
        let networks = lock(&self.networks).clone();
        if let Some(networks) = networks {
            self.post_header(settings, networks.runtime());
        }
        self.post_format(info);
    }

    /// Measures a buffer and attaches what was found; passes it on as it is if it is late.
    fn process(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::FlowError> {
        let started = Instant::now();
        let settings = lock(&self.settings).clone();
        let info = lock(&self.format).clone().ok_or(gst::FlowError::NotNegotiated)?;
        let mut stream = lock(&self.stream);
        let stream = stream.as_mut().ok_or(gst::FlowError::Flushing)?;
        if stream.is_new() {
            self.begin(stream, &settings, &info);
        }
        let times = self.times(buffer);
        if self.is_late(&times) {
            stream.skip();
            lock(&self.stats).skipped += 1;
            gst::debug!(CAT, imp = self, "{:?} is late and not measured", times.pts);
            return Ok(());
        }
        let measured = self.measure(stream, buffer, &info, &times, started).map_err(|message| {
            self.post_error_message(message);
            gst::FlowError::Error
        })?;
        let (faces, structures) = self.attach(buffer, &info, &measured, &settings);
        let count = faces.len();
        let record = stream.record(self.stream_name(&settings), &measured, faces);
        let json = json(&Record::Frame(record));
        meta::attach_frame(buffer, &info, &json, structures);
        if settings.post_messages {
            self.post(&json, "frame", Some((&times, count)));
        }
        let mut stats = lock(&self.stats);
        stats.processed += 1;
        stats.faces += measured.new;
        stats.total += measured.took;
        stats.worst = stats.worst.max(measured.took);
        Ok(())
    }

    fn measure(
        &self,
        stream: &mut Stream,
        buffer: &gst::BufferRef,
        info: &VideoInfo,
        times: &Times,
        started: Instant,
    ) -> Result<Measured, gst::ErrorMessage> {
        let broken = || {
            gst::error_msg!(
                gst::StreamError::Format,
                ("a buffer does not hold the picture that its caps promise")
            )
        };
        let pts = times.stream.or(times.running).map(|time| time.nseconds() as f64 / 1e9);
        let sign = if times.backwards { -1.0 } else { 1.0 };
        let tick = stream.tick(pts.map(|pts| sign * pts), step(info));
        if tick.jumped {
            gst::debug!(CAT, imp = self, "faces are forgotten: time jumps to {} s", tick.seconds);
            lock(&self.stats).resets += 1;
        }
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| broken())?;
        let image = image(&frame, info).ok_or_else(broken)?;
        let pts = pts.unwrap_or(tick.seconds);
        stream.measure(&image, tick.seconds, pts, started).map_err(|e| explain(&e))
    }

    /// Attaches the faces to the buffer, and returns their records and structures.
    fn attach(
        &self,
        buffer: &mut gst::BufferRef,
        info: &VideoInfo,
        measured: &Measured,
        settings: &Settings,
    ) -> (Vec<FaceRecord>, Vec<gst::Structure>) {
        let networks = lock(&self.networks).clone();
        let Some(model) = networks.as_ref().map(|shared| shared.runtime().face_model()) else {
            return Default::default();
        };
        let attach = |face: &::mmface::Face| {
            let mut record = FaceRecord::from(face);
            if settings.landmarks {
                record.landmarks = Some(face.landmarks.clone());
                record.landmarks3d = Some(model.landmarks3d(&face.params));
            }
            record.raw = settings.raw.then(|| (&face.raw).into());
            let structure = meta::attach_face(buffer, info, face, &record, &model.expressions);
            (record, structure)
        };
        measured.result.faces.iter().map(attach).collect()
    }

    fn times(&self, buffer: &gst::BufferRef) -> Times {
        let segment = self.obj().segment();
        let time = segment.downcast_ref::<gst::ClockTime>();
        let pts = buffer.pts();
        Times {
            pts,
            duration: buffer.duration(),
            stream: time.and_then(|segment| segment.to_stream_time(pts)),
            running: time.and_then(|segment| segment.to_running_time(pts)),
            backwards: segment.rate() < 0.0,
        }
    }

    /// Whether the sink would show a frame too late if it were measured.
    fn is_late(&self, times: &Times) -> bool {
        let late_until = *lock(&self.late_until);
        let late = times.running.zip(late_until).is_some_and(|(time, limit)| time <= limit);
        late && self.obj().is_qos()
    }

    fn stream_name(&self, settings: &Settings) -> String {
        settings.stream.clone().unwrap_or_else(|| self.obj().name().into())
    }

    fn post_header(&self, settings: &Settings, runtime: &::mmface::Runtime) {
        let header = record::Header {
            schema: record::SCHEMA,
            program: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            stream: self.stream_name(settings),
            source: "GStreamer".into(),
            network: runtime.into(),
            face_model: runtime.into(),
            smoothing: settings.smooth.strength().to_string(),
            refine: None,
            lens: None,
            volume: None,
            volume_from: None,
            started: record::timestamp(SystemTime::now()),
            revision: None,
        };
        if settings.post_messages {
            self.post(&json(&Record::Header(Box::new(header))), "header", None);
        }
    }

    fn post_format(&self, info: &VideoInfo) {
        let settings = lock(&self.settings).clone();
        let record = record::Stream {
            stream: self.stream_name(&settings),
            width: info.width(),
            height: info.height(),
            fps: f64::from(info.fps().numer()) / f64::from(info.fps().denom().max(1)),
            codec: "raw".into(),
            connection: 1,
        };
        if settings.post_messages {
            self.post(&json(&Record::Stream(record)), "stream", None);
        }
    }

    /// Posts a record as an element message.
    fn post(&self, json: &str, kind: &str, frame: Option<(&Times, usize)>) {
        let mut structure =
            gst::Structure::builder("mmface").field("type", kind).field("json", json);
        if let Some((times, faces)) = frame {
            structure = structure
                .field("faces", u32::try_from(faces).unwrap_or(u32::MAX))
                .field("pts", times.pts)
                .field("stream-time", times.stream)
                .field("running-time", times.running)
                .field("duration", times.duration);
        }
        let message = gst::message::Element::builder(structure.build()).src(&*self.obj()).build();
        // Fails only where nobody has given the element a bus.
        let _ = self.obj().post_message(message);
    }
}

/// Seconds between frames.
fn step(info: &VideoInfo) -> f64 {
    let fps = info.fps();
    if fps.numer() > 0 { f64::from(fps.denom()) / f64::from(fps.numer()) } else { DEFAULT_STEP }
}

fn json(record: &Record) -> String {
    // Records hold nothing that JSON cannot.
    serde_json::to_string(record).unwrap_or_default()
}
