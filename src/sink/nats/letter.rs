//! A record on its way to the broker.

use serde::{Deserialize, Serialize};

/// A record on its way, and what the broker has to know of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    pub(super) about: About,
    /// The record as JSON, without a line break.
    pub(super) payload: Vec<u8>,
}

/// What is known of a record beside its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    /// Name of its stream.
    pub(super) stream: String,
    /// The run that made it. Later runs of a stream have higher numbers.
    pub(super) revision: u64,
    /// What it is called within the run: the number of a frame, or another word.
    pub(super) name: String,
    /// Its place among the records of the run, from 0; none for those that tell of losses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) sequence: Option<u64>,
    /// The losses that it tells of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) lost: Option<Lost>,
}

/// Records of a run that were lost before they reached the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    pub(super) records: u64,
    /// Places of the first and the last of them within the run.
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Lost {
    pub(super) fn one(sequence: u64) -> Self {
        Self { records: 1, first: sequence, last: sequence }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl About {
    /// The id by which the broker knows a record that it has already.
    pub(super) fn id(&self) -> String {
        format!("{}/{}/{}", crate::nats::token(&self.stream), self.revision, self.name)
    }
}

impl Letter {
    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> u64 {
        self.payload.len() as u64 + 200
    }

    /// Whether it may be left out when there is no room: the others say what the frames mean.
    pub(super) fn is_frame(&self) -> bool {
        self.about.name.bytes().all(|byte| byte.is_ascii_digit())
    }
}
