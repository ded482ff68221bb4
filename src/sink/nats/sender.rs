//! Sends records, many at once and in their order, and waits for every acknowledgement.
//!
//! After an interruption nobody knows which of the records under way have arrived. The server
//! leaves out those whose ids it remembers, but it remembers for two minutes only. So the ids of
//! what it has stored meanwhile are read back, and only the others are sent again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, stream::Stream};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesOrdered;
use tokio::sync::{oneshot, watch};

use super::Settings;
use super::letter::Letter;
use super::outbox::{Left, Outbox};
use crate::nats::{Link, open_records, source_of, subject};

/// Most records that are under way at once.
const WINDOW: usize = 256;
/// How long an acknowledgement may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to wait after failures before it is tried again: the first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Sends what is in the outbox.
pub(super) struct Sender {
    settings: Settings,
    outbox: Arc<Outbox>,
    /// Records that were sent, or may have been, and are not settled; in their order.
    under_way: VecDeque<(u64, Letter)>,
    /// What an earlier process has left.
    left: Option<Left>,
    /// Ids of records that the server has already.
    stored: BTreeSet<String>,
    told: Option<String>,
}

/// Why sending was interrupted.
struct Trouble(String);

/// How an acknowledgement came out: the server's number, or none for a record that it refuses.
type Acknowledged = Result<Option<u64>, PublishError>;

impl Sender {
    pub(super) fn new(settings: Settings, outbox: Arc<Outbox>, left: Option<Left>) -> Self {
        let left = left.filter(|left| !left.streams.is_empty());
        let (under_way, stored) = (VecDeque::new(), BTreeSet::new());
        Self { settings, outbox, under_way, left, stored, told: None }
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self, stopped: oneshot::Receiver<()>) {
        tokio::select! {
            _ = stopped => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let mut pause = AGAIN.0;
        let mut connection = None;
        loop {
            if connection.is_none() {
                match self.settings.servers.connect("mmface-live records").await {
                    Ok(new) => connection = Some(new),
                    Err(e) => self.tell(e.to_string()),
                }
            }
            if let Some((client, link)) = &mut connection {
                let before = self.outbox.looked_up_from();
                let Trouble(why) = self.session(client, link).await;
                self.tell(why);
                if self.outbox.looked_up_from() != before {
                    pause = AGAIN.0;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// Tells the log of a trouble, once for each reason.
    fn tell(&mut self, why: String) {
        if self.told.as_ref() != Some(&why) {
            tracing::warn!("records wait for the broker: {why}; trying again");
            self.told = Some(why.clone());
        }
        self.outbox.trouble(Some(why));
    }

    /// Sends for as long as that works.
    async fn session(&mut self, client: &Client, link: &mut watch::Receiver<Link>) -> Trouble {
        match self.send_all(client, link).await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn send_all(
        &mut self,
        client: &Client,
        link: &mut watch::Receiver<Link>,
    ) -> Result<std::convert::Infallible, Trouble> {
        if let Link::Down(why) = link.borrow_and_update().clone() {
            return Err(Trouble(why));
        }
        let jetstream = ContextBuilder::new()
            .timeout(ANSWER)
            .max_ack_inflight(2 * WINDOW)
            .build(client.clone());
        let stream = open_records(&jetstream, self.settings.keep).await;
        let stream = stream.map_err(|e| Trouble(e.to_string()))?;
        self.look_up(&stream).await?;
        self.outbox.trouble(None);
        if self.told.take().is_some() {
            tracing::info!("records go to {} again", self.settings.servers.label());
        }
        let mut answers: FuturesOrdered<BoxFuture<'static, Acknowledged>> = FuturesOrdered::new();
        for (_, letter) in &self.under_way {
            answers.push_back(publish(&jetstream, letter, &self.stored).await);
        }
        loop {
            for (place, letter) in self.outbox.take(WINDOW.saturating_sub(answers.len())) {
                answers.push_back(publish(&jetstream, &letter, &self.stored).await);
                self.under_way.push_back((place, letter));
            }
            tokio::select! {
                biased;
                Some(answer) = answers.next(), if !answers.is_empty() => self.answered(answer)?,
                () = self.outbox.wake.notified(), if answers.len() < WINDOW => {}
                changed = link.changed() => {
                    if changed.is_err() {
                        return Err(Trouble("the connection has ended".into()));
                    }
                    if let Link::Down(why) = link.borrow_and_update().clone() {
                        return Err(Trouble(why));
                    }
                }
            }
        }
    }

    /// Takes note of the answer to the oldest record under way.
    fn answered(&mut self, answer: Acknowledged) -> Result<(), Trouble> {
        match answer {
            Ok(sequence) => {
                let Some((place, letter)) = self.under_way.pop_front() else { return Ok(()) };
                self.stored.remove(&letter.about.id());
                self.outbox.settle(place, &letter.about, sequence);
                if self.left.as_ref().is_some_and(|left| place + 1 >= left.end) {
                    self.left = None;
                }
                Ok(())
            }
            Err(e) if e.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let Some((place, letter)) = self.under_way.pop_front() else { return Ok(()) };
                let id = letter.about.id();
                tracing::warn!("the record {id} is larger than the server allows, and is left out");
                self.outbox.lose(place, &letter.about);
                Ok(())
            }
            Err(e) if e.kind() == PublishErrorKind::StreamNotFound => {
                Err(Trouble("the server has no stream for records".into()))
            }
            Err(e) => Err(Trouble(source_of(&e))),
        }
    }

    /// Reads which of the records that may have been sent the server has stored.
    async fn look_up(&mut self, stream: &Stream) -> Result<(), Trouble> {
        let failed = |why: String| Trouble(format!("what is stored cannot be looked up: {why}"));
        let info = stream.get_info().await.map_err(|e| failed(source_of(&e)))?;
        let last = info.state.last_sequence;
        let mut streams: BTreeSet<String> =
            self.under_way.iter().map(|(_, letter)| letter.about.stream.clone()).collect();
        streams.extend(self.left.iter().flat_map(|left| left.streams.iter().cloned()));
        let from = self.outbox.looked_up_from();
        if streams.is_empty() || (self.under_way.is_empty() && from.is_none()) {
            // Nothing was sent before.
            self.outbox.begin(last);
            return Ok(());
        }
        // A stream that was made anew counts from the beginning.
        let from = from.filter(|from| *from <= last).unwrap_or(0);
        for name in streams {
            let config = pull::OrderedConfig {
                filter_subject: subject(&name),
                headers_only: true,
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from + 1 },
                ..Default::default()
            };
            let consumer = stream.create_consumer(config).await;
            let consumer = consumer.map_err(|e| failed(source_of(&e)))?;
            if consumer.cached_info().num_pending == 0 {
                continue;
            }
            let mut messages = consumer.messages().await.map_err(|e| failed(source_of(&e)))?;
            loop {
                let message = tokio::time::timeout(ANSWER, messages.next()).await;
                let message = message.map_err(|_| failed("no answer".into()))?;
                let Some(message) = message else { break };
                let message = message.map_err(|e| failed(source_of(&e)))?;
                let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
                self.stored.extend(id.map(|id| id.to_string()));
                if message.info().map_err(|e| failed(e.to_string()))?.pending == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Sends a record, unless it is stored already. The answer comes later.
async fn publish(
    jetstream: &Context,
    letter: &Letter,
    stored: &BTreeSet<String>,
) -> BoxFuture<'static, Acknowledged> {
    let id = letter.about.id();
    if stored.contains(&id) {
        return std::future::ready(Ok(None)).boxed();
    }
    let mut message = PublishMessage::build()
        .payload(letter.payload.clone().into())
        .message_id(id)
        .header("Mmface-Revision", letter.about.revision.to_string().as_str());
    if let Some(sequence) = letter.about.sequence {
        message = message.header("Mmface-Sequence", sequence.to_string().as_str());
    }
    match jetstream.send_publish(subject(&letter.about.stream), message).await {
        Ok(answer) => async move { answer.await.map(|answer| Some(answer.sequence)) }.boxed(),
        Err(e) => std::future::ready(Err(e)).boxed(),
    }
}
