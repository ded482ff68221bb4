//! The stream of JetStream in which records are kept.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use super::{source_of, token};
use crate::{Error, Result};

/// Its name.
pub(crate) const STREAM: &str = "MMFACE";
/// What the subjects of records begin with.
const SUBJECTS: &str = "mmface.records";
/// How long the server remembers the ids of records. What waited longer is looked up instead.
const REMEMBERS: Duration = Duration::from_secs(120);

/// How records are kept, if the stream has to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// How long.
    pub time: Duration,
    /// On how many servers of a cluster.
    pub replicas: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { time: Duration::from_secs(7 * 86_400), replicas: 1 }
    }
}

/// The subject of a stream's records.
pub(crate) fn subject(stream: &str) -> String {
    format!("{SUBJECTS}.{}", token(stream))
}

/// Opens the stream of the records, and makes it if there is none. One that is there is left as it
/// is.
///
/// # Errors
/// [`Error::Sink`] if the server has no JetStream, or does not allow it.
pub(crate) async fn open(jetstream: &Context, keep: Keep) -> Result<Stream> {
    let failed = |why: String| {
        Error::Sink(format!(
            "the stream {STREAM} cannot be opened: {why}; the server needs JetStream \
             (nats-server --jetstream), and this user the right to use it"
        ))
    };
    match jetstream.get_stream(STREAM).await {
        Ok(stream) => return Ok(stream),
        Err(e) => match e.kind() {
            GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(failed(source_of(&e))),
        },
    }
    let config = Config {
        name: STREAM.into(),
        description: Some("Records of mmface-live".into()),
        subjects: vec![format!("{SUBJECTS}.>")],
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: keep.time,
        num_replicas: keep.replicas,
        duplicate_window: REMEMBERS,
        allow_direct: true,
        ..Config::default()
    };
    // Another program may make it at the same moment.
    match jetstream.get_or_create_stream(config).await {
        Ok(stream) => {
            tracing::info!(
                "made the stream {STREAM} in JetStream: it keeps records for {} hours",
                keep.time.as_secs() / 3600
            );
            Ok(stream)
        }
        Err(e) => jetstream.get_stream(STREAM).await.map_err(|_| failed(source_of(&e))),
    }
}
