//! Pipelines written by the user.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::SINK_CHAIN;
use super::failure::Failure;
use super::mask;
use crate::{Error, Result};

/// Builds the user's pipeline, with this program's sink unless it has an `appsink` of its own.
///
/// # Errors
/// [`Error::Usage`] with GStreamer's message if it cannot parse the description.
pub(super) fn build(description: &str) -> Result<gst::Pipeline> {
    let refuse = |why: &str| {
        let (why, description) = (mask(why), mask(description));
        Error::Usage(format!(
            "--pipeline '{description}' is not understood ({why}); try it with gst-launch-1.0 first"
        ))
    };
    let has_sink = description.split(|c: char| !c.is_alphanumeric()).any(|w| w == "appsink");
    let whole = if has_sink { description.into() } else { format!("{description} ! {SINK_CHAIN}") };
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let pipeline = gst::parse::launch_full(&whole, None, flags)
        .map_err(|e| refuse(e.message()))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| refuse("it is a single element"))?;
    let i420 = gst::Caps::builder("video/x-raw").field("format", "I420").build();
    let sinks = pipeline.iterate_all_by_element_factory_name("appsink");
    for sink in sinks.into_iter().map_while(|sink| sink.ok()) {
        sink.set_property("caps", &i420);
    }
    Ok(pipeline)
}

/// A message for a failure.
pub(super) fn explain(failure: &Failure) -> String {
    format!("the pipeline failed ({}); try it with gst-launch-1.0", failure.text)
}
