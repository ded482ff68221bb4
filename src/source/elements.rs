//! Pipelines of this program's own, and the elements that all of them have.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::mask;
use crate::{Error, Result};

/// What stands at the end of every pipeline. All of it but the `appsink` passes frames through
/// untouched unless it is needed: for other pixel formats, interlaced video, and pictures that a
/// phone took lying on its side.
pub(super) const TAIL: &str = "videoconvert name=mmface-convert ! deinterlace fields=top \
    ! videoflip video-direction=auto ! video/x-raw,format=I420 ! appsink";
/// Finds a decoder for whatever comes; see [`video_only`].
pub(super) const DECODE: &str = "decodebin name=mmface-decoder";
/// The name that it has.
pub(super) const DECODER: &str = "mmface-decoder";
/// The name of an element that reads a file.
pub(super) const FILE: &str = "mmface-file";

/// Builds a pipeline of ours: a missing part of it is a missing package.
///
/// # Errors
/// [`Error::Source`] where an element is not installed.
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

/// The element called `name` of a pipeline that was built from a description with that name in it.
pub(super) fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).ok_or_else(|| Error::Bug(format!("the pipeline has no element {name}")))
}

/// Keeps the decoder from decoding sound and subtitles, and makes it an error if it finds no video.
fn video_only(pipeline: &gst::Pipeline) {
    let Some(decoder) = pipeline.by_name(DECODER) else { return };
    decoder.connect("autoplug-continue", false, |arguments| {
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let name = caps.as_ref().and_then(|caps| caps.structure(0)).map_or("", |s| s.name());
        let is_other = ["audio/", "text/", "subpicture/"].iter().any(|kind| name.starts_with(kind));
        Some((!is_other).to_value())
    });
    let entry = pipeline.by_name("mmface-convert").and_then(|convert| convert.static_pad("sink"));
    decoder.connect_no_more_pads(move |decoder| {
        if entry.as_ref().is_some_and(|entry| !entry.is_linked()) {
            gst::element_error!(decoder, gst::StreamError::WrongType, ["there is no video"]);
        }
    });
}
