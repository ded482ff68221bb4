//! Pipelines that the user wrote.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::connection::TAIL;
use super::failure::Failure;
use super::mask;
use crate::{Error, Result};

/// Builds the user's pipeline, with our end unless it has an `appsink` of its own.
///
/// # Errors
/// [`Error::Usage`] with GStreamer's complaint where it does not understand the description.
pub(super) fn build(description: &str) -> Result<gst::Pipeline> {
    let pipeline = if description.split(|c: char| !c.is_alphanumeric()).any(|w| w == "appsink") {
        parse(description)?
    } else {
        parse(&format!("{description} ! {TAIL}"))?
    };
    let i420 = gst::Caps::builder("video/x-raw").field("format", "I420").build();
    for sink in pipeline.iterate_all_by_element_factory_name("appsink").into_iter().flatten() {
        sink.set_property("caps", &i420);
    }
    Ok(pipeline)
}

fn parse(description: &str) -> Result<gst::Pipeline> {
    let refuse = |why: &str| {
        let (why, description) = (mask(why), mask(description));
        Error::Usage(format!(
            "--pipeline is not understood ({why}): {description}; try it with gst-launch-1.0 first"
        ))
    };
    let mut context = gst::ParseContext::new();
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let element = gst::parse::launch_full(description, Some(&mut context), flags)
        .map_err(|e| refuse(e.message()))?;
    element.downcast().map_err(|_| refuse("it is a single element"))
}

/// One sentence about a failure.
pub(super) fn explain(failure: &Failure) -> String {
    format!("the pipeline failed ({}); try it with gst-launch-1.0", failure.text)
}
