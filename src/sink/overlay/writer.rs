//! Hands drawn pictures to GStreamer: encoder and file, or a window.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::Target;
use super::canvas::Canvas;
use crate::{Error, Result};

/// Pictures that wait for the encoder at most; then [`Writer::write`] waits.
const WAITING: u64 = 4;

/// How long the encoder may take for what still waits at the end.
const FLUSH: gst::ClockTime = gst::ClockTime::from_seconds(60);

const EXTENSIONS: &str = ".mp4, .mkv or .webm, or .png or .jpg for one picture";

/// The frame rate that files announce, while each frame has its own time. Without any, `mp4mux` gives
/// the last frame no time, and players skip it.
const RATE: i32 = 25;
/// Nanoseconds from one frame to the next at that rate.
const STEP: u64 = 1_000_000_000 / RATE as u64;
/// Sides below which the encoders refuse frames, which they say in words that help nobody.
const SMALLEST: usize = 16;

/// H.264 encoders in the order in which they are tried. One frame in, one frame out at once: what
/// an encoder holds back is missing from the file of a run that is killed.
const H264: [(&str, &str); 2] = [
    (
        "x264enc",
        "speed-preset=veryfast tune=zerolatency pass=qual quantizer=21 bitrate=50000 key-int-max=KEY",
    ),
    ("openh264enc", "rate-control=quality gop-size=KEY"),
];

/// What shows windows, and the variable without which it cannot.
const SCREENS: [(&str, &str); 3] =
    [("WAYLAND_DISPLAY", "waylandsink"), ("DISPLAY", "xvimagesink"), ("DISPLAY", "ximagesink")];

/// What is made of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video,
    Picture,
    Window,
}

/// What became of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It goes where it should.
    Written,
    /// Nobody looks any more.
    WindowClosed,
}

/// What the pipeline says.
enum Said {
    Nothing,
    End,
    WindowClosed,
}

/// A GStreamer pipeline that takes pictures.
pub(super) struct Writer {
    pipeline: gst::Pipeline,
    input: gst_app::AppSrc,
    kind: Kind,
    /// What the user knows it by.
    name: String,
    timeline: Timeline,
    /// Width and height of the output, once known.
    size: Option<(usize, usize)>,
    /// More than one frame came for a picture.
    warned: bool,
}

impl Writer {
    pub(super) fn open(target: &Target) -> Result<Self> {
        gst::init().map_err(|e| Error::Sink(format!("GStreamer does not start: {e}")))?;
        let (kind, chain, name) = match target {
            Target::Window => (Kind::Window, window()?, "the window".into()),
            Target::File(path) => {
                let (kind, chain) = chain_for(path)?;
                // Whatever is wrong with the path is known before the first frame is.
                crate::sink::files::TruncateOnWrite::open(path).map_err(|e| {
                    Error::Sink(format!("cannot write {}: {}", path.display(), reason(&e)))
                })?;
                (kind, format!("{chain} ! filesink name=out"), path.display().to_string())
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
        if let (Target::File(path), Some(out)) = (target, pipeline.by_name("out")) {
            out.set_property("location", path);
        }
        let timeline = Timeline::default();
        Ok(Self { pipeline, input, kind, name, timeline, size: None, warned: false })
    }

    /// Hands one picture on. `pts` is in seconds; where it does not increase, or starts anew with
    /// another connection, time goes on all the same.
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

    /// The first frame sets the size. Video codecs halve the chroma, so they want even sides.
    fn start(&mut self, canvas: &Canvas) -> Result<(usize, usize)> {
        let side = |n: usize| if self.kind == Kind::Video && n > 1 { n & !1 } else { n };
        let (width, height) = (side(canvas.width), side(canvas.height));
        if self.kind == Kind::Video && width.min(height) < SMALLEST {
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

    /// Waits until the encoder has taken what waits for it. `appsrc` could do this itself, but it
    /// would wait for ever once the encoder or the disk has failed.
    fn wait_for_room(&self) -> Result<Taken> {
        while self.input.current_level_buffers() >= WAITING {
            if let Said::WindowClosed = self.poll(gst::ClockTime::from_mseconds(1))? {
                return Ok(Taken::WindowClosed);
            }
        }
        Ok(Taken::Written)
    }

    /// The pipeline's error, if there is one.
    fn check(&self) -> Result<Taken> {
        Ok(match self.poll(gst::ClockTime::ZERO)? {
            Said::WindowClosed => Taken::WindowClosed,
            Said::Nothing | Said::End => Taken::Written,
        })
    }

    /// Waits for the end or an error.
    fn poll(&self, timeout: gst::ClockTime) -> Result<Said> {
        let Some(bus) = self.pipeline.bus() else { return Ok(Said::Nothing) };
        let wanted = [gst::MessageType::Error, gst::MessageType::Eos];
        let Some(message) = bus.timed_pop_filtered(timeout, &wanted) else {
            return Ok(Said::Nothing);
        };
        let gst::MessageView::Error(error) = message.view() else { return Ok(Said::End) };
        let error = error.error();
        // What the sinks of X11, Wayland and OpenGL say when the user closes the window.
        let closed = error.matches(gst::ResourceError::NotFound);
        if self.kind == Kind::Window && closed {
            return Ok(Said::WindowClosed);
        }
        Err(self.explain(&error))
    }

    fn explain(&self, error: &gst::glib::Error) -> Error {
        if error.matches(gst::ResourceError::NoSpaceLeft) {
            return Error::Sink(format!("cannot write {}: the disk is full", self.name));
        }
        Error::Sink(format!("cannot write {}: {}", self.name, error.message()))
    }

    /// Writes what still waits and the end of the file.
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
        if !matches!(self.poll(FLUSH)?, Said::Nothing) {
            return Ok(());
        }
        Err(Error::Sink(format!("cannot write the end of {}: the encoder hangs", self.name)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Only fails where the pipeline has failed before.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The first way to open a window that works here. `autovideosink` is none: without a screen it
/// tries sinks that crash.
fn window() -> Result<String> {
    let here = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let works = |name: &str| {
        let Ok(sink) = gst::ElementFactory::make(name).build() else { return false };
        let works = sink.set_state(gst::State::Ready).is_ok();
        // What could not be opened is closed already.
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

/// The elements between conversion and file, by the extension of the file.
fn chain_for(path: &Path) -> Result<(Kind, String)> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    // A fragment a second: a file whose end was never written can be played up to its last one.
    const MP4: &str = "mp4mux fragment-duration=1000 fragment-mode=first-moov-then-finalise";
    // A picture that stands by itself every two seconds, so that players can jump there.
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

/// The first H.264 encoder that is installed. 4:2:0, because browsers play nothing else.
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

/// The H.264 encoder that `.mp4` and `.mkv` will get.
///
/// # Errors
/// [`Error::Sink`] if there is none.
pub fn health() -> Result<String> {
    gst::init().map_err(|e| Error::Sink(format!("GStreamer does not start: {e}")))?;
    let chain = h264(Path::new("a video"), 60)?;
    Ok(chain.split_whitespace().nth(2).unwrap_or("H.264").to_string())
}

/// An I/O error without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "its folder does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        std::io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => error.to_string(),
    }
}

/// Stream times become times in the file: from 0, always increasing.
#[derive(Default)]
struct Timeline {
    /// Seconds of the stream at which the file's time would be 0.
    zero: f64,
    /// Time of the last frame and the connection that it came over.
    last: Option<(u64, u32)>,
}

impl Timeline {
    /// Time and duration of a frame, in nanoseconds.
    fn place(&mut self, pts: f64, connection: u32) -> (u64, u64) {
        let after = |last: u64, seconds: f64| last as f64 > (seconds + 1.0) * 1e9;
        let at = match self.last {
            Some((last, same)) if same == connection && !after(last, pts - self.zero) => {
                let at = ((pts - self.zero) * 1e9) as u64;
                // Two frames of one time: a millisecond apart.
                if at > last { at } else { last + 1_000_000 }
            }
            // The stream starts (again): one step after what there is.
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
