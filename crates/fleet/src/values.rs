//! What stands in the store.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// What a worker says of itself, again and again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Chosen anew whenever the worker joins.
    pub session: u64,
    /// How many streams it can run.
    pub capacity: usize,
    /// Whether it gives its streams away and takes none.
    #[serde(default)]
    pub draining: bool,
    /// Another worker has found that it is gone. It has to join anew.
    #[serde(default)]
    pub buried: bool,
}

/// Who owns a stream, and what became of it before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the worker; none if the stream is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The worker's session.
    #[serde(default)]
    pub session: u64,
    /// Revision of the settings with which it runs.
    #[serde(default)]
    pub settings: u64,
    /// How often in a row it has failed with these settings.
    #[serde(default)]
    pub failures: u32,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long to wait after this was written before it is tried again.
    #[serde(default)]
    pub wait: Millis,
    /// Workers on which it has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// It has come to its end with these settings.
    #[serde(default)]
    pub done: bool,
}
