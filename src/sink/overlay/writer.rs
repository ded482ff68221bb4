//! Writes drawn frames with GStreamer: to a file through an encoder, or to a window.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::Target;
use super::canvas::Canvas;
use crate::sink::files::TruncateOnWrite;
use crate::{Error, Result, neutral};

/// Most frames queued for the encoder; then [`Writer::write`] waits.
const MAX_QUEUED: u64 = 4;

/// How long the encoder may take for the queued frames at the end.
const FLUSH_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(60);

const EXTENSIONS: &str = ".mp4, .mkv or .webm, or .png or .jpg for one picture";

/// Frame rate that files declare, although each frame has its own timestamp. Without it `mp4mux`
/// gives the last frame no duration, and players skip that frame.
const RATE: i32 = 25;
/// Duration of a frame at that rate in nanoseconds.
const STEP: u64 = 1_000_000_000 / RATE as u64;
/// Smallest width and height for a video. Encoders refuse smaller frames with messages that are no
/// help to users.
const MIN_SIDE: usize = 16;

/// H.264 encoders, in order of preference. The settings output each frame at once: frames that an
/// encoder holds back would be missing from the file of a run that is killed.
const H264: [(&str, &str); 2] = [
    (
        "x264enc",
        "speed-preset=veryfast tune=zerolatency pass=qual quantizer=21 bitrate=50000 key-int-max=KEY",
    ),
    ("openh264enc", "rate-control=quality gop-size=KEY"),
];

/// Video sinks for windows, each with the environment variable that it needs.
const SCREENS: [(&str, &str); 3] =
    [("WAYLAND_DISPLAY", "waylandsink"), ("DISPLAY", "xvimagesink"), ("DISPLAY", "ximagesink")];

/// The kind of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video,
    Picture,
    Window,
}

/// What happened to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was written or shown.
    Written,
    /// The user has closed the window.
    WindowClosed,
}

/// A message from the pipeline.
enum Message {
    Nothing,
    End,
    WindowClosed,
}

/// A GStreamer pipeline that receives frames.
pub(super) struct Writer {
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    kind: Kind,
    /// Name of the target in messages.
    name: String,
    timeline: Timeline,
    /// Width and height of the output, set by the first frame.
    size: Option<(usize, usize)>,
    /// Whether the user was warned that a picture file holds only the first frame.
    warned: bool,
    /// Keeps other processes from the file.
    _lock: Option<TruncateOnWrite>,
}

impl Writer {
    pub(super) fn open(target: &Target) -> Result<Self> {
        gst::init().map_err(|e| Error::Sink(format!("GStreamer does not start: {e}")))?;
        let mut lock = None;
        let (kind, chain, name) = match target {
            Target::Window => (Kind::Window, window()?, "the window".into()),
            Target::File(path) => {
                let (kind, chain) = chain_for(path)?;
                // Checks the path before the first frame is processed.
                lock = Some(TruncateOnWrite::open(path).map_err(|e| {
                    Error::Sink(format!("cannot write {}: {}", path.display(), reason(&e)))
                })?);
                // Unbuffered: what waits in a buffer is lost to a run that is killed.
                let out = "filesink name=out buffer-mode=unbuffered";
                (kind, format!("{chain} ! {out}"), path.display().to_string())
            }
        };
        let text = format!("appsrc name=in ! videoconvert ! {chain}");
        let pipeline = gst::parse::launch(&text)
            .map_err(|e| {
                let why = e.message();
                Error::Sink(format!(
                    "cannot write {name}: {why}; install gstreamer1.0-plugins-good and \
                     gstreamer1.0-plugins-bad"
                ))
            })?
            .downcast::<gst::Pipeline>()
            .map_err(|_| Error::Bug("a chain of elements is no pipeline".into()))?;
        let input = pipeline
            .by_name("in")
            .and_then(|e| e.downcast::<gst_app::AppSrc>().ok())
            .ok_or_else(|| Error::Bug("the writer's pipeline has no input".into()))?;
        input.set_format(gst::Format::Time);
        if kind == Kind::Window {
            on_key_n(&input, neutral::mark);
        }
        if let (Target::File(path), Some(out)) = (target, pipeline.by_name("out")) {
            out.set_property("location", path);
        }
        let timeline = Timeline::default();
        Ok(Self { pipeline, input, kind, name, timeline, size: None, warned: false, _lock: lock })
    }

    /// Writes a frame. `pts` is in seconds. If it does not increase, or restarts with another
    /// connection, the output's timestamps still increase.
    ///
    /// # Errors
    /// [`Error::Sink`] if the target cannot be written.
    pub(super) fn write(&mut self, canvas: Canvas, pts: f64, connection: u32) -> Result<Taken> {
        if self.kind == Kind::Picture && self.size.is_some() {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!("{} holds one picture: only the first frame is in it", self.name);
            }
            return self.check();
        }
        let (width, height) = match self.size {
            Some(size) => size,
            None => self.start(&canvas)?,
        };
        let canvas = if (canvas.width, canvas.height) == (width, height) {
            canvas
        } else {
            canvas.fitted(width, height)
        };
        if self.wait_for_room()? == Taken::WindowClosed {
            return Ok(Taken::WindowClosed);
        }
        let (at, step) = self.timeline.place(pts, connection);
        let mut buffer = gst::Buffer::from_mut_slice(canvas.bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(at));
            buffer.set_duration(gst::ClockTime::from_nseconds(step));
        }
        if self.input.push_buffer(buffer).is_err() {
            if self.check()? == Taken::WindowClosed {
                return Ok(Taken::WindowClosed);
            }
            return Err(Error::Sink(format!(
                "cannot write {}: it takes no more frames",
                self.name
            )));
        }
        self.check()
    }

    /// Starts the pipeline with the size of the first frame. Video codecs subsample chroma, so
    /// width and height are made even.
    fn start(&mut self, canvas: &Canvas) -> Result<(usize, usize)> {
        let side = |n: usize| if self.kind == Kind::Video && n > 1 { n & !1 } else { n };
        let (width, height) = (side(canvas.width), side(canvas.height));
        if self.kind == Kind::Video && width.min(height) < MIN_SIDE {
            return Err(Error::Sink(format!(
                "cannot write {}: frames of {}×{} are too small for a video; write a .png",
                self.name, canvas.width, canvas.height
            )));
        }
        let rate = gst::Fraction::new(RATE, 1);
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "RGBx")
            .field("width", i32::try_from(width).unwrap_or(i32::MAX))
            .field("height", i32::try_from(height).unwrap_or(i32::MAX))
            .field("framerate", rate)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        self.input.set_caps(Some(&caps));
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.check()?;
            return Err(Error::Sink(format!("cannot write {}: it does not start", self.name)));
        }
        self.size = Some((width, height));
        Ok((width, height))
    }

    /// Waits until the encoder's queue has room. `appsrc` could do that itself, but would wait for
    /// ever if the encoder or the disk has failed.
    fn wait_for_room(&self) -> Result<Taken> {
        while self.input.current_level_buffers() >= MAX_QUEUED {
            if let Message::WindowClosed = self.poll(gst::ClockTime::from_mseconds(1))? {
                return Ok(Taken::WindowClosed);
            }
        }
        Ok(Taken::Written)
    }

    /// Returns the pipeline's error, if there is one.
    fn check(&self) -> Result<Taken> {
        Ok(match self.poll(gst::ClockTime::ZERO)? {
            Message::WindowClosed => Taken::WindowClosed,
            Message::Nothing | Message::End => Taken::Written,
        })
    }

    /// Waits for the end of the stream or an error.
    fn poll(&self, timeout: gst::ClockTime) -> Result<Message> {
        let Some(bus) = self.pipeline.bus() else { return Ok(Message::Nothing) };
        let wanted = [gst::MessageType::Error, gst::MessageType::Eos];
        let Some(message) = bus.timed_pop_filtered(timeout, &wanted) else {
            return Ok(Message::Nothing);
        };
        let gst::MessageView::Error(error) = message.view() else { return Ok(Message::End) };
        let error = error.error();
        // The error that the sinks for X11, Wayland and OpenGL report when the user closes the
        // window.
        let closed = error.matches(gst::ResourceError::NotFound);
        if self.kind == Kind::Window && closed {
            return Ok(Message::WindowClosed);
        }
        Err(self.explain(&error))
    }

    fn explain(&self, error: &gst::glib::Error) -> Error {
        if error.matches(gst::ResourceError::NoSpaceLeft) {
            return Error::Sink(format!("cannot write {}: the disk is full", self.name));
        }
        Error::Sink(format!("cannot write {}: {}", self.name, error.message()))
    }

    /// Writes the queued frames and the end of the file.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn finish(self) -> Result<()> {
        if self.size.is_none() {
            if self.kind != Kind::Window {
                let state = crate::sink::files::untouched(Path::new(&self.name));
                tracing::warn!("no frame came, so {} {state}", self.name);
            }
            return Ok(());
        }
        if self.input.end_of_stream().is_err() {
            self.check()?;
        }
        if !matches!(self.poll(FLUSH_TIMEOUT)?, Message::Nothing) {
            return Ok(());
        }
        Err(Error::Sink(format!("cannot write the end of {}: the encoder hangs", self.name)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails only if the pipeline has failed before.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The first video sink that can open a window. Not `autovideosink`: without a screen it tries
/// sinks that crash.
fn window() -> Result<String> {
    let here = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let works = |name: &str| {
        let Ok(sink) = gst::ElementFactory::make(name).build() else { return false };
        let works = sink.set_state(gst::State::Ready).is_ok();
        // Closes the sink; also needed if it could not be opened.
        let _ = sink.set_state(gst::State::Null);
        works
    };
    let found = SCREENS.iter().find(|(variable, name)| here(variable) && works(name));
    found.map(|(_, name)| format!("videoscale ! {name} sync=false")).ok_or_else(|| {
        Error::Sink(
            "there is no screen to open a window on; write a file instead (--overlay FILE.mp4)"
                .into(),
        )
    })
}

/// Does this whenever the key N is pressed in the window. Windows send keys up the pipeline.
pub(super) fn on_key_n(input: &gst_app::AppSrc, work: impl Fn() + Send + Sync + 'static) {
    let Some(pad) = input.static_pad("src") else { return };
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(event) = info.event()
            && let Ok(gst_video::NavigationEvent::KeyPress { key, .. }) =
                gst_video::NavigationEvent::parse(event)
            && key.eq_ignore_ascii_case("n")
        {
            work();
        }
        gst::PadProbeReturn::Ok
    });
}

/// The elements between conversion and file, chosen by the file name's extension.
fn chain_for(path: &Path) -> Result<(Kind, String)> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    // Two fragments a second: a file without an end can be played up to its last fragment.
    const MP4: &str = "mp4mux fragment-duration=500 fragment-mode=first-moov-then-finalise";
    // A key frame every two seconds, so that players can seek.
    let key = 2 * RATE as u32;
    match extension.as_str() {
        "mp4" | "m4v" => Ok((Kind::Video, format!("{} ! {MP4}", h264(path, key)?))),
        "mkv" => Ok((Kind::Video, format!("{} ! matroskamux", h264(path, key)?))),
        "webm" => {
            let encoder = format!(
                "video/x-raw,format=I420 ! vp8enc deadline=1 cpu-used=8 threads=2 end-usage=cq \
                 cq-level=12 target-bitrate=8000000 lag-in-frames=0 keyframe-max-dist={key} ! webmmux"
            );
            Ok((Kind::Video, encoder))
        }
        "png" => Ok((Kind::Picture, "pngenc snapshot=true".into())),
        "jpg" | "jpeg" => Ok((Kind::Picture, "jpegenc snapshot=true quality=92".into())),
        _ => Err(Error::Usage(format!(
            "cannot tell what to write to {}: the file must end in {EXTENSIONS}",
            path.display()
        ))),
    }
}

/// The first installed H.264 encoder, with 4:2:0, because browsers play nothing else.
fn h264(path: &Path, key: u32) -> Result<String> {
    let installed = |name: &str| gst::ElementFactory::find(name).is_some();
    let Some((name, settings)) = H264.iter().find(|(name, _)| installed(name)) else {
        return Err(Error::Sink(format!(
            "cannot write {}: there is no H.264 encoder; install gstreamer1.0-plugins-ugly, or \
             write a .webm file",
            path.display()
        )));
    };
    let settings = settings.replace("KEY", &key.to_string());
    Ok(format!("video/x-raw,format=I420 ! {name} {settings} ! h264parse"))
}

/// The H.264 encoder for `.mp4` and `.mkv`.
///
/// # Errors
/// [`Error::Sink`] if none is installed.
pub fn health() -> Result<String> {
    gst::init().map_err(|e| Error::Sink(format!("GStreamer does not start: {e}")))?;
    let chain = h264(Path::new("a video"), 60)?;
    Ok(chain.split_whitespace().nth(2).unwrap_or("H.264").to_string())
}

/// An I/O error as text, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "its folder does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        std::io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => error.to_string(),
    }
}

/// Converts stream times to times in the file, which start at 0 and always increase.
#[derive(Default)]
struct Timeline {
    /// Stream time in seconds that corresponds to 0 in the file.
    zero: f64,
    /// Time of the last frame in nanoseconds, and its connection.
    last: Option<(u64, u32)>,
}

impl Timeline {
    /// Time and duration of a frame in nanoseconds.
    fn place(&mut self, pts: f64, connection: u32) -> (u64, u64) {
        let after = |last: u64, seconds: f64| last as f64 > (seconds + 1.0) * 1e9;
        let at = match self.last {
            Some((last, same)) if same == connection && !after(last, pts - self.zero) => {
                let at = ((pts - self.zero) * 1e9) as u64;
                // Frames with the same time are put a millisecond apart.
                if at > last { at } else { last + 1_000_000 }
            }
            // The stream starts or restarts: one frame after the last one.
            last => {
                let at = last.map_or(0, |(last, _)| last + STEP);
                self.zero = pts - at as f64 / 1e9;
                at
            }
        };
        self.last = Some((at, connection));
        (at, STEP)
    }
}
