//! Keeps a session of RTSP alive.
//!
//! GStreamer 1.22 does this over UDP alone: over TCP it asks only when nothing has come for a while.
//! It does not tell how long the session lasts either, so the server is asked more often than most
//! would need.

use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::RTSP_SOURCE;

/// Time between two requests: half of the shortest session that is to be expected. Most last a minute.
const EVERY: Duration = Duration::from_secs(5);
/// Name of the parameter that is asked for. Servers that do not know it answer all the same.
const PARAMETER: &str = "ping";

/// Asks the server for a parameter now and then.
#[derive(Debug)]
pub(super) struct KeepAlive {
    source: gst::Element,
    last: Instant,
}

impl KeepAlive {
    /// For a pipeline that receives a stream over RTSP.
    pub(super) fn of(pipeline: &gst::Pipeline) -> Option<Self> {
        let source = pipeline.by_name(RTSP_SOURCE)?;
        Some(Self { source, last: Instant::now() })
    }

    /// Asks, if it is time to. Does not wait for the answer.
    pub(super) fn tick(&mut self) {
        if self.last.elapsed() < EVERY {
            return;
        }
        self.last = Instant::now();
        let answered = gst::Promise::with_change_func(|answer| {
            tracing::debug!("the session is kept alive: {answer:?}");
        });
        let kind: Option<&str> = None;
        let arguments: [&dyn ToValue; 3] = [&PARAMETER, &kind, &answered];
        let is_asked: bool = self.source.emit_by_name("get-parameter", &arguments);
        if !is_asked {
            tracing::debug!("the session cannot be kept alive");
        }
    }
}
