//! What a fleet keeps in NATS: two key-value buckets.
//!
//! `mmface-fleet` has the wanted streams (`stream.NAME`), who owns them (`owner.NAME`) and which
//! workers are to give theirs away (`drain.WORKER`). `mmface-workers` has an entry for each worker,
//! which vanishes one lease after it was last written.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    ContextBuilder, GetStreamErrorKind, PublishError, PublishErrorKind,
};
use async_nats::jetstream::kv::{self, Entry, Operation, Watch};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, ErrorCode};
use fleet::Refusal;
use futures_util::StreamExt;

use crate::nats::source_of;
use crate::{Error, Result};

/// The bucket of streams.
const FLEET: &str = "mmface-fleet";
/// The bucket of workers.
const WORKERS: &str = "mmface-workers";
/// The header of an entry that was removed.
const OPERATION: &str = "KV-Operation";
/// How long reading a bucket may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How buckets are made, if they are not there.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// The lease of workers.
    pub lease: Duration,
    /// Whether the user has said so.
    pub asked: bool,
    /// On how many servers of a cluster everything is kept.
    pub replicas: usize,
}

/// The two buckets.
#[derive(Clone)]
pub struct Store {
    jetstream: Context,
    fleet: kv::Store,
    workers: kv::Store,
    /// After this time without a renewal a worker's entry vanishes.
    pub lease: Duration,
}

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket {
    Fleet,
    Workers,
}

impl Store {
    /// Opens the buckets, which are made if they are not there. Those that are there stay as they
    /// are.
    ///
    /// # Errors
    /// [`Error::Sink`] if the server has no JetStream or does not allow it.
    pub async fn open(client: &Client, made: Made) -> Result<Self> {
        let jetstream = ContextBuilder::new().timeout(ANSWER).build(client.clone());
        let fleet = bucket(&jetstream, FLEET, Duration::ZERO, made.replicas).await?;
        let workers = bucket(&jetstream, WORKERS, made.lease, made.replicas).await?;
        let status = workers.status().await.map_err(|e| failed(WORKERS, &source_of(&e)))?;
        let lease = status.max_age();
        if lease < Duration::from_secs(1) {
            return Err(failed(WORKERS, "its entries do not vanish within a time (max_age)"));
        }
        if made.asked && lease != made.lease {
            tracing::warn!(
                "the fleet has a lease of {lease:?} already, which stays: it is the max_age of the \
                 bucket {WORKERS}"
            );
        }
        Ok(Self { jetstream, fleet, workers, lease })
    }

    fn bucket(&self, bucket: Bucket) -> (&kv::Store, &'static str) {
        match bucket {
            Bucket::Fleet => (&self.fleet, FLEET),
            Bucket::Workers => (&self.workers, WORKERS),
        }
    }

    /// Writes an entry in place of the `expected` revision; 0: there is none.
    pub(super) async fn write(
        &self,
        bucket: Bucket,
        key: &str,
        value: Vec<u8>,
        expected: u64,
    ) -> std::result::Result<u64, Refusal> {
        match self.put(bucket, key, value.clone(), Some(expected), false).await {
            Err(Refusal::Conflict) if expected == 0 => {
                // What was removed leaves a mark, which may be replaced.
                let removed = self.mark(bucket, key).await?;
                let Some(mark) = removed else { return Err(Refusal::Conflict) };
                self.put(bucket, key, value, Some(mark), false).await
            }
            answer => answer,
        }
    }

    /// Removes an entry of this revision.
    pub(super) async fn remove(
        &self,
        bucket: Bucket,
        key: &str,
        expected: Option<u64>,
    ) -> std::result::Result<u64, Refusal> {
        self.put(bucket, key, Vec::new(), expected, true).await
    }

    /// Writes an entry, whatever there is.
    pub(super) async fn set(&self, bucket: Bucket, key: &str, value: Vec<u8>) -> Result<u64> {
        let name = self.bucket(bucket).1;
        let written = self.put(bucket, key, value, None, false).await;
        written.map_err(|_| failed(name, "it cannot be written"))
    }

    async fn put(
        &self,
        bucket: Bucket,
        key: &str,
        value: Vec<u8>,
        expected: Option<u64>,
        removes: bool,
    ) -> std::result::Result<u64, Refusal> {
        let mut message = PublishMessage::build().payload(value.into());
        if let Some(expected) = expected {
            message = message.expected_last_subject_sequence(expected);
        }
        if removes {
            message = message.header(OPERATION, "DEL");
        }
        let subject = format!("$KV.{}.{key}", self.bucket(bucket).1);
        let sent = self.jetstream.send_publish(subject, message).await;
        let answer = match sent {
            Ok(answer) => answer.await,
            Err(e) => Err(e),
        };
        answer.map(|answer| answer.sequence).map_err(|e| refusal(&e))
    }

    /// The revision of the mark that a removed entry has left. The leader is asked, since others
    /// may be behind.
    async fn mark(&self, bucket: Bucket, key: &str) -> std::result::Result<Option<u64>, Refusal> {
        let name = self.bucket(bucket).1;
        let stream = self.jetstream.get_stream_no_info(format!("KV_{name}")).await;
        let stream = stream.map_err(|_| Refusal::Unknown)?;
        let last = stream.get_last_raw_message_by_subject(&format!("$KV.{name}.{key}")).await;
        let Ok(last) = last else { return Ok(None) };
        Ok(last.headers.get(OPERATION).is_some().then_some(last.sequence))
    }

    /// All entries, and what becomes of them.
    pub(super) async fn watch(&self, bucket: Bucket) -> Result<Watch> {
        let (store, name) = self.bucket(bucket);
        store.watch_with_history(">").await.map_err(|e| failed(name, &source_of(&e)))
    }

    /// All entries as they are now.
    pub(super) async fn all(&self, bucket: Bucket) -> Result<BTreeMap<String, Entry>> {
        let (store, name) = self.bucket(bucket);
        let status = store.status().await.map_err(|e| failed(name, &source_of(&e)))?;
        let mut all = BTreeMap::new();
        if status.values() == 0 {
            return Ok(all);
        }
        let mut watch = self.watch(bucket).await?;
        loop {
            // Entries may vanish while they are read.
            let Ok(Some(entry)) = tokio::time::timeout(ANSWER, watch.next()).await else { break };
            let entry = entry.map_err(|e| failed(name, &source_of(&e)))?;
            let is_last = entry.delta == 0;
            if entry.operation == Operation::Put {
                all.insert(entry.key.clone(), entry);
            }
            if is_last {
                break;
            }
        }
        Ok(all)
    }
}

async fn bucket(
    jetstream: &Context,
    name: &str,
    max_age: Duration,
    replicas: usize,
) -> Result<kv::Store> {
    match jetstream.get_stream(format!("KV_{name}")).await {
        Ok(_) => {
            let store = jetstream.get_key_value(name).await;
            return store.map_err(|e| failed(name, &source_of(&e)));
        }
        Err(e) => match e.kind() {
            GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            // It may be there: a cluster without a leader does not tell.
            _ => return Err(failed(name, &source_of(&e))),
        },
    }
    let config = kv::Config {
        bucket: name.into(),
        history: 1,
        max_age,
        num_replicas: replicas,
        ..kv::Config::default()
    };
    match jetstream.create_key_value(config).await {
        Ok(store) => Ok(store),
        // Another worker may have made it at the same moment.
        Err(e) => jetstream.get_key_value(name).await.map_err(|_| failed(name, &source_of(&e))),
    }
}

fn failed(bucket: &str, why: &str) -> Error {
    Error::Sink(format!(
        "the bucket {bucket} cannot be used: {why}; the server needs JetStream (nats-server \
         --jetstream), and this user the right to use it"
    ))
}

fn refusal(error: &PublishError) -> Refusal {
    let conflicts =
        [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];
    let source = std::error::Error::source(error);
    let code =
        source.and_then(|e| e.downcast_ref::<jetstream::Error>()).map(jetstream::Error::error_code);
    match code {
        _ if error.kind() == PublishErrorKind::WrongLastSequence => Refusal::Conflict,
        Some(code) if conflicts.contains(&code) => Refusal::Conflict,
        _ => Refusal::Unknown,
    }
}
