//! Records into an MQTT broker, as home automation expects them.
//!
//! A stream's records go to one topic, `PREFIX/STREAM`. Three topics below it are retained for
//! whoever subscribes later: `header`, `faces` (how many there are) and `available`. While the
//! broker is away a live stream's records are left out and counted; a file waits for it.

mod broker;
mod link;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mmface::record::Record;

pub use self::broker::Broker;
use self::link::{Link, Topics};
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::{Error, Result};

/// Name of the sink.
const NAME: &str = "mqtt";
/// What topics begin with, unless the user says otherwise.
pub const PREFIX: &str = "mmface";

/// The sink for records to MQTT.
pub struct Mqtt {
    /// Where they go.
    pub broker: Broker,
    /// What their topics begin with.
    pub prefix: String,
    /// Optional parts of the records.
    pub content: Content,
}

impl Plan for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The oldest frame is left out while the broker takes nothing.
    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    /// No broker has to be there yet.
    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let topics = Topics::new(&self.prefix, &context.stream);
        let link = Link::start(self.broker, topics, context.counters.sink(NAME))?;
        Ok(Box::new(Records { link, content: self.content, context: context.clone() }))
    }
}

struct Records {
    link: Link,
    content: Content,
    context: Arc<Context>,
}

impl Sink for Records {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let record = event.record(self.content);
        let payload = serde_json::to_vec(&record)
            .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
        match &record {
            Record::Header(_) => self.link.retain_header(payload.clone()),
            Record::Frame(frame) => self.link.retain_faces(frame.faces.len()),
            Record::End(_) => self.link.retain_faces(0),
            _ => {}
        }
        self.link.send(payload, self.context.live.load(Ordering::Relaxed))?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.link.finish()
    }
}
