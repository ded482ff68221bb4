//! Elements that this program's own pipelines have in common.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::mask;
use crate::{Error, Result};

/// The end of every pipeline. All elements but the `appsink` pass frames through unless they are
/// needed: for other pixel formats, interlaced video, and pictures with a rotation tag.
pub(super) const SINK_CHAIN: &str = "videoconvert name=mmface-convert ! deinterlace fields=top \
    ! videoflip video-direction=auto ! video/x-raw,format=I420 ! appsink";
/// Finds a decoder for any input; see [`video_only`].
pub(super) const DECODEBIN: &str = "decodebin name=mmface-decoder";
/// Name of that element.
pub(super) const DECODER_NAME: &str = "mmface-decoder";
/// Name of an element that reads a file.
pub(super) const FILE_SOURCE: &str = "mmface-file";

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

/// The element `name` of a pipeline whose description contains that name.
pub(super) fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).ok_or_else(|| Error::Bug(format!("the pipeline has no element {name}")))
}

/// Keeps `decodebin` from decoding audio and subtitles, and makes a stream without video an error.
fn video_only(pipeline: &gst::Pipeline) {
    let Some(decoder) = pipeline.by_name(DECODER_NAME) else { return };
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
