//! Elements that this program's own pipelines have in common.

use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

use super::mask;
use super::still::{JpegHeader, MaxPixels};
use crate::{Error, Result};

/// The end of every pipeline. All elements but the `appsink` pass frames through unless they are
/// needed: for other pixel formats, interlaced video, and pixels that are not square. Frames that a tag
/// says are turned go through one more ([`turn_when_told`]).
pub(super) const SINK_CHAIN: &str = "videoconvert name=mmface-convert \
    ! deinterlace name=mmface-deinterlace fields=top ! videoscale \
    ! video/x-raw,format=I420,pixel-aspect-ratio=1/1 ! appsink";
/// Finds a decoder for any input; see [`video_only`].
pub(super) const DECODEBIN: &str = "decodebin name=mmface-decoder";
/// Name of that element.
pub(super) const DECODER_NAME: &str = "mmface-decoder";
/// Name of an element that receives RTSP.
pub(super) const RTSP_SOURCE: &str = "mmface-rtsp";
/// Name of an element that reads a file.
pub(super) const FILE_SOURCE: &str = "mmface-file";

/// Puts an element that turns frames behind `mmface-deinterlace` as soon as a tag says that they are
/// turned. It is not there before, because it copies every frame twice, also where it turns nothing.
pub(super) fn turn_when_told(pipeline: &gst::Pipeline) {
    let before = pipeline.by_name("mmface-deinterlace");
    let Some(pad) = before.and_then(|before| before.static_pad("src")) else { return };
    let pipeline = pipeline.downgrade();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let turned = |tags: &gst::TagListRef| {
            let tag = tags.get::<gst::tags::ImageOrientation>();
            tag.is_some_and(|tag| tag.get() != "rotate-0")
        };
        match info.event().map(|event| event.view()) {
            Some(gst::EventView::Tag(event)) if turned(event.tag()) => {}
            _ => return gst::PadProbeReturn::Ok,
        }
        if let Some(pipeline) = pipeline.upgrade()
            && let Err(error) = turn_behind(&pipeline, pad)
        {
            tracing::warn!("frames are shown as they are stored, not turned: {error}");
        }
        gst::PadProbeReturn::Remove
    });
}

fn turn_behind(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
) -> std::result::Result<(), glib::BoolError> {
    let flip = gst::ElementFactory::make("videoflip").build()?;
    flip.set_property_from_str("video-direction", "auto");
    pipeline.add(&flip)?;
    flip.sync_state_with_parent()?;
    let next = pad.peer().ok_or_else(|| glib::bool_error!("the pipeline ends there"))?;
    let pads = flip.static_pad("sink").zip(flip.static_pad("src"));
    let (sink, source) = pads.ok_or_else(|| glib::bool_error!("videoflip has no pads"))?;
    let failed = |_| glib::bool_error!("videoflip cannot be linked");
    pad.unlink(&next)?;
    pad.link(&sink).map_err(failed)?;
    source.link(&next).map_err(failed)?;
    Ok(())
}

/// Builds one of this program's own pipelines. An element that is missing means a missing package.
///
/// # Errors
/// [`Error::Source`] if an element is not installed.
pub(super) fn pipeline(description: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(description).map_err(|e| {
        Error::Source(format!(
            "a part of GStreamer is missing ({}); install it with: apt-get install \
             gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad",
            mask(e.message())
        ))
    })?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| Error::Bug("a description of several elements is no pipeline".into()))?;
    video_only(&pipeline);
    Ok(pipeline)
}

/// Stops a pipeline before it decodes frames that are larger than `limit`. Their size is known from
/// containers and from parsers; for other streams the first frame is looked at.
pub(super) fn limit_pixels(pipeline: &gst::Pipeline, limit: MaxPixels) {
    let Some(decoder) = pipeline.by_name(DECODER_NAME) else { return };
    decoder.connect("autoplug-continue", false, move |arguments| {
        let fits = arguments.get(2).and_then(size).map_or(Ok(()), |(w, h)| limit.check(w, h));
        if let (Err(reason), Some(decoder)) = (&fits, arguments.first().and_then(element_of)) {
            gst::element_error!(decoder, gst::ResourceError::NoSpaceLeft, ("{}", reason));
        }
        Some(fits.is_ok().to_value())
    });
}

fn element_of(value: &gst::glib::Value) -> Option<gst::Element> {
    value.get().ok()
}

/// Width and height in caps.
fn size(caps: &gst::glib::Value) -> Option<(u64, u64)> {
    let caps = caps.get::<gst::Caps>().ok()?;
    let side = |name| u64::try_from(caps.structure(0)?.get::<i32>(name).ok()?).ok();
    side("width").zip(side("height"))
}

/// Stops a pipeline at JPEG frames that GStreamer's decoder reads wrong without a word (4:1:1 comes
/// out green, FFmpeg's decoder in GStreamer crashes), and at frames larger than `limit`.
pub(super) fn check_jpeg(pipeline: &gst::Pipeline, limit: MaxPixels) {
    let watch = move |element: &gst::Element| {
        let is_jpeg = element.factory().is_some_and(|factory| factory.name() == "jpegdec");
        let Some(pad) = element.static_pad("sink").filter(|_| is_jpeg) else { return };
        let element = element.downgrade();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let bytes = info.buffer().and_then(|buffer| buffer.map_readable().ok());
            let header = bytes.and_then(|bytes| JpegHeader::read(&bytes));
            let (Some(header), Some(element)) = (header, element.upgrade()) else {
                // The decoder finds out what is wrong with it.
                return gst::PadProbeReturn::Ok;
            };
            if let Err(reason) = limit.check(header.width.into(), header.height.into()) {
                gst::element_error!(element, gst::ResourceError::NoSpaceLeft, ("{}", reason));
                return gst::PadProbeReturn::Handled;
            }
            if header.is_usual() {
                return gst::PadProbeReturn::Ok;
            }
            let text = format!(
                "JPEG frames whose components are sampled {} are not read; make H.264 of it",
                header.words()
            );
            gst::element_error!(element, gst::StreamError::Decode, ("{}", text));
            gst::PadProbeReturn::Handled
        });
    };
    for element in pipeline.iterate_recurse().into_iter().map_while(|element| element.ok()) {
        watch(&element);
    }
    pipeline.connect_deep_element_added(move |_, _, element| watch(element));
}

/// The element `name` of a pipeline whose description contains that name.
pub(super) fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).ok_or_else(|| Error::Bug(format!("the pipeline has no element {name}")))
}

/// What caps of tracks that are no video begin with.
const OTHER_KINDS: [&str; 3] = ["audio/", "text/", "subpicture/"];

/// Keeps `decodebin` from decoding audio and subtitles, and makes a stream without video an error.
fn video_only(pipeline: &gst::Pipeline) {
    let Some(decoder) = pipeline.by_name(DECODER_NAME) else { return };
    decoder.connect("autoplug-continue", false, |arguments| {
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let name = caps.as_ref().and_then(|caps| caps.structure(0)).map_or("", |s| s.name());
        let is_other = OTHER_KINDS.iter().any(|kind| name.starts_with(kind));
        Some((!is_other).to_value())
    });
    pipeline.connect_deep_element_added(|_, _, element| {
        let is_demuxer =
            |factory: gst::ElementFactory| factory.has_type(gst::ElementFactoryType::DEMUXER);
        if element.factory().is_some_and(is_demuxer) {
            element.connect_pad_added(|_, pad| keep_first_of_others(pad));
        }
        // Else it never says that there is no other part, and `decodebin` collects seconds of
        // Motion JPEG before it shows the first frame.
        if element.factory().is_some_and(|factory| factory.name() == "multipartdemux") {
            element.set_property("single-stream", true);
        }
    });
    let entry = pipeline.by_name("mmface-convert").and_then(|convert| convert.static_pad("sink"));
    decoder.connect_no_more_pads(move |decoder| {
        if entry.as_ref().is_some_and(|entry| !entry.is_linked()) {
            gst::element_error!(decoder, gst::StreamError::WrongType, ["there is no video"]);
        }
    });
}

/// Of a demuxer's pad without video, lets only the first buffer pass. `decodebin` waits for one of
/// every track, and gives up waiting for the video when too much sound has come, as in a file whose
/// video begins a minute late.
fn keep_first_of_others(pad: &gst::Pad) {
    let caps = pad.current_caps();
    let name = caps.as_ref().and_then(|caps| caps.structure(0)).map_or("", |s| s.name());
    if !OTHER_KINDS.iter().any(|kind| name.starts_with(kind)) {
        return;
    }
    let passed = AtomicBool::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if passed.swap(true, Ordering::Relaxed) {
            gst::PadProbeReturn::Handled
        } else {
            gst::PadProbeReturn::Ok
        }
    });
}
