//! The connection to a broker: made again whenever it breaks, on a thread of its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, Outgoing, Packet, QoS,
};

use super::Broker;
use crate::counters::SinkCounters;
use crate::{Error, Result, ending};

/// Most records that are sent and not acknowledged.
const UNACKNOWLEDGED: u64 = 64;
/// Requests that fit between this program's threads: the records, and what is retained.
const REQUESTS: usize = 128;
/// How long to wait before a broker that is away is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a file, and every end, waits for a broker that takes nothing.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How often whoever waits looks for a signal.
const ASK: Duration = Duration::from_millis(50);
/// How long the thread may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// The topics of a stream.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    records: String,
    client: String,
}

impl Topics {
    /// Characters of a stream's name that have a meaning in topics become `_`.
    pub(super) fn new(prefix: &str, stream: &str) -> Self {
        let special = |c: char| "/+#$".contains(c) || c.is_control() || c.is_whitespace();
        let name: String = stream.chars().map(|c| if special(c) { '_' } else { c }).collect();
        Self { records: format!("{prefix}/{name}"), client: format!("{prefix}-{name}") }
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.records)
    }
}

/// A stream's connection.
pub(super) struct Link {
    client: Client,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What both threads know.
struct Shared {
    broker: Broker,
    topics: Topics,
    counters: Arc<SinkCounters>,
    state: Mutex<State>,
    /// Notified when anything of the state changes.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connected: bool,
    was_connected: bool,
    /// Records that are sent and not acknowledged.
    waiting: u64,
    /// Why there is no connection; `None` while the first attempt goes on.
    why: Option<String>,
    /// It is no use to try again.
    refused: bool,
    header: Option<Vec<u8>>,
    faces: Option<usize>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `done`, or until nothing was acknowledged for [`STANDSTILL`] or a signal leaves
    /// no more time.
    fn wait(&self, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let (mut waiting, mut since) = (state.waiting, Instant::now());
        while !done(&state) && !state.refused && since.elapsed() < STANDSTILL {
            if ending::left().is_some_and(|left| left < Duration::from_millis(700)) {
                break;
            }
            let waited = self.changed.wait_timeout(state, ASK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.waiting != waiting {
                (waiting, since) = (state.waiting, Instant::now());
            }
        }
        state
    }

    fn unreachable(&self, state: &State) -> Error {
        let why = state.why.as_deref().unwrap_or("it does not answer");
        Error::Sink(format!("{} cannot be used: {why}", self.broker))
    }
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`Error::Usage`] if a certificate cannot be read, [`Error::Device`] if there are no more
    /// threads.
    pub(super) fn start(
        broker: Broker,
        topics: Topics,
        counters: Arc<SinkCounters>,
    ) -> Result<Self> {
        let mut options = broker.options(&topics.client)?;
        let gone = LastWill::new(topics.below("available"), "offline", QoS::AtLeastOnce, true);
        options.set_last_will(gone);
        let (client, connection) = Client::new(options, REQUESTS);
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Shared { broker, topics, counters, state, changed };
        let shared = Arc::new(shared);
        let worker = Worker { client: client.clone(), shared: shared.clone() };
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new()
            .name("mqtt-link".into())
            .spawn(move || span.in_scope(|| worker.run(connection)))
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { client, shared, thread })
    }

    /// Sends a record. What finds no connection is left out and counted in a live run; otherwise it
    /// is waited for.
    ///
    /// # Errors
    /// [`Error::Sink`] if the broker refuses the login, or never comes.
    pub(super) fn send(&self, payload: Vec<u8>, live: bool) -> Result<()> {
        let has_room = |state: &State| state.connected && state.waiting < UNACKNOWLEDGED;
        let shared = &self.shared;
        let mut state = if live { shared.lock() } else { shared.wait(has_room) };
        if state.refused || (!live && !has_room(&state)) {
            return Err(shared.unreachable(&state));
        }
        let topic = &shared.topics.records;
        if has_room(&state)
            && self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok()
        {
            state.waiting += 1;
            shared.counters.waiting.add();
        } else {
            shared.counters.dropped.add();
        }
        Ok(())
    }

    /// Keeps the header for whoever subscribes later.
    pub(super) fn retain_header(&self, header: Vec<u8>) {
        self.shared.change(|state| state.header = Some(header.clone()));
        self.retain("header", header);
    }

    /// Tells how many faces there are, when it changes.
    pub(super) fn retain_faces(&self, faces: usize) {
        if self.shared.lock().faces != Some(faces) {
            self.shared.change(|state| state.faces = Some(faces));
            self.retain("faces", faces.to_string().into_bytes());
        }
    }

    /// Without a connection nothing is sent: the next connection begins with all that is retained.
    fn retain(&self, name: &str, payload: Vec<u8>) {
        if self.shared.lock().connected {
            let topic = self.shared.topics.below(name);
            // A full queue means that the connection hangs.
            let _ = self.client.try_publish(topic, QoS::AtMostOnce, true, payload);
        }
    }

    /// Waits until everything is acknowledged, and says goodbye.
    ///
    /// # Errors
    /// [`Error::Sink`] if the broker was never there.
    pub(super) fn finish(self) -> Result<()> {
        let Self { client, shared, thread } = self;
        let (connected, left) = {
            let mut state = shared.wait(|state| match state.connected {
                true => state.waiting == 0,
                false => state.was_connected || state.why.is_some(),
            });
            state.over = true;
            if !state.was_connected {
                return Err(shared.unreachable(&state));
            }
            (state.connected, state.waiting)
        };
        shared.changed.notify_all();
        let counters = &shared.counters;
        tracing::info!("mqtt: {} records acknowledged", counters.acknowledged.get());
        if left > 0 {
            counters.dropped.add_all(left);
            tracing::warn!("{left} records were not acknowledged by {}", shared.broker);
        }
        if connected {
            let topic = shared.topics.below("available");
            let _ = client.try_publish(topic, QoS::AtMostOnce, true, "offline");
            let _ = client.try_disconnect();
            // Everything is acknowledged or counted, so a thread that hangs is left to itself.
            let since = Instant::now();
            while !thread.is_finished() && since.elapsed() < GOODBYE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

struct Worker {
    client: Client,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self, mut connection: Connection) {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                    self.connected(answer.session_present);
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => self.acknowledged(),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(error) => {
                    if self.failed(&error) {
                        return;
                    }
                    let state = self.shared.lock();
                    let waited = self.shared.changed.wait_timeout_while(state, AGAIN, |s| !s.over);
                    drop(waited);
                }
            }
            let state = self.shared.lock();
            if state.over && !state.connected {
                return;
            }
        }
    }

    /// There is a connection; `remembered`: the broker knows the records that it has not
    /// acknowledged, and they are sent again.
    fn connected(&self, remembered: bool) {
        let Shared { broker, topics, counters, .. } = &*self.shared;
        let (again, retained) = {
            let mut state = self.shared.lock();
            if !remembered {
                let forgotten = std::mem::take(&mut state.waiting);
                counters.dropped.add_all(forgotten);
                (0..forgotten).for_each(|_| counters.waiting.take());
            }
            state.connected = true;
            state.why = None;
            let again = std::mem::replace(&mut state.was_connected, true);
            let faces = state.faces.map(|faces| faces.to_string().into_bytes());
            let online = Some(b"online".to_vec());
            let retained =
                [("available", online), ("header", state.header.clone()), ("faces", faces)];
            (again, retained)
        };
        for (name, payload) in retained {
            let Some(payload) = payload else { continue };
            let _ = self.client.try_publish(topics.below(name), QoS::AtMostOnce, true, payload);
        }
        self.shared.changed.notify_all();
        tracing::info!("mqtt: {} {broker}", if again { "back at" } else { "connected to" });
    }

    fn acknowledged(&self) {
        self.shared.counters.acknowledged.add();
        self.shared.counters.waiting.take();
        self.shared.change(|state| state.waiting = state.waiting.saturating_sub(1));
    }

    /// Whether it is no use to try again.
    fn failed(&self, error: &ConnectionError) -> bool {
        let broker = &self.shared.broker;
        let mut state = self.shared.lock();
        let is_news = std::mem::replace(&mut state.connected, false) || !state.was_connected;
        let (why, refused) = match error {
            ConnectionError::ConnectionRefused(code) => refusal(*code),
            // Trying again does not make a certificate trusted.
            ConnectionError::Tls(e) if !state.was_connected && !is_broken_connection(e) => {
                (format!("TLS failed: {e}; a broker's own authority is named by --mqtt-ca"), true)
            }
            other => (other.to_string(), false),
        };
        let is_news = is_news && state.why.as_ref() != Some(&why);
        state.why = Some(why.clone());
        state.refused |= refused;
        drop(state);
        self.shared.changed.notify_all();
        if is_news && !refused {
            tracing::warn!("mqtt: {broker} cannot be reached: {why}; it is tried again");
        }
        refused
    }
}

/// Whether the connection broke during the handshake. What rustls itself refuses, such as a
/// certificate, also comes as an error of input and output, with its own error within.
fn is_broken_connection(error: &rumqttc::TlsError) -> bool {
    let is_of_rustls =
        |e: &std::io::Error| e.get_ref().is_some_and(|within| within.is::<rustls::Error>());
    matches!(error, rumqttc::TlsError::Io(e) if !is_of_rustls(e))
}

/// Why a broker refuses, and whether it will always do so.
fn refusal(code: ConnectReturnCode) -> (String, bool) {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => (
            "it refuses the login: write mqtt://USER@host, and the password into \
             MMFACE_MQTT_PASSWORD"
                .into(),
            true,
        ),
        ConnectReturnCode::ServiceUnavailable => ("it is not available".into(), false),
        other => (format!("it refuses the connection: {other:?}"), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_topic_of_its_own_whatever_it_is_called() {
        let topics = Topics::new("home/faces", "rtsp://camera/1 #2");
        assert_eq!(topics.records, "home/faces/rtsp:__camera_1__2");
        assert_eq!(topics.below("faces"), "home/faces/rtsp:__camera_1__2/faces");
    }
}
