//! The thread that talks to VTube Studio: connects, logs in, sends the newest frame, and begins
//! again when VTube Studio goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error as SocketError, Message, WebSocket, client};

use super::handover::{Handover, Next, Values};
use super::message::{Answer, Content, Request, error, inject};
use super::token::Token;
use crate::counters::SinkCounters;
use crate::sink::avatar::wire::{Address, find};

/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How often answers are looked for while no frame comes.
const TICK: Duration = Duration::from_millis(20);
/// VTube Studio lets go of a parameter for which nothing comes for a second: the last frame is sent
/// again after this time.
const RESEND: Duration = Duration::from_millis(500);
/// An answer that takes longer, where no user is asked, never comes.
const SILENCE: Duration = Duration::from_secs(5);
/// Frames that may be on the way without an answer. Beyond it VTube Studio is too slow.
const ON_THE_WAY: usize = 30;
/// Most bytes of a message.
const LARGEST: usize = 1 << 20;
/// Most different things that the log is told about one VTube Studio.
const MOST_TOLD: usize = 16;

/// Why a session has ended.
enum Ended {
    /// There are no more frames.
    Over,
    /// It may go better the next time.
    Lost(String),
    /// The user does not want it.
    Denied,
}

/// A request that has no answer yet.
enum Asked {
    Token,
    LogIn,
    List,
    Create,
    /// Parameters; `true` if they are those of a new frame.
    Inject(bool),
}

/// What outlives connections.
pub(super) struct Session {
    pub(super) address: Address,
    pub(super) token: Token,
    /// Names of the parameters to create.
    pub(super) created: Vec<String>,
    pub(super) handover: Arc<Handover>,
    pub(super) counters: Arc<SinkCounters>,
    /// What the log knows already.
    pub(super) told: BTreeSet<String>,
}

impl Session {
    /// Works until there are no more frames.
    pub(super) fn run(mut self) {
        loop {
            let ended = match connect(&self.address) {
                Ok(socket) => Talk::new(&mut self, socket).run(),
                Err(why) => Ended::Lost(why),
            };
            self.handover.set_open(false);
            match ended {
                Ended::Over => return,
                Ended::Lost(why) => {
                    let address = &self.address;
                    self.warn(format!("VTube Studio at {address}: {why}; trying again"));
                }
                Ended::Denied => {
                    return self.warn(
                        "VTube Studio does not let this program in, as its user has decided; \
                         start again to be asked again"
                            .into(),
                    );
                }
            }
            let until = Instant::now() + AGAIN;
            while Instant::now() < until {
                if self.handover.next(TICK) == Next::Over {
                    return;
                }
            }
        }
    }

    /// Tells the log, each thing once.
    fn warn(&mut self, what: String) {
        if self.told.len() < MOST_TOLD && self.told.insert(what.clone()) {
            tracing::warn!("{}: {what}", self.counters.name);
        }
    }
}

/// Connects and shakes hands.
fn connect(address: &Address) -> Result<WebSocket<TcpStream>, String> {
    let unreachable = |e: std::io::Error| match e.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there yet (start VTube Studio, and switch \
                                         its plugin API on)"
            .to_string(),
        ErrorKind::TimedOut => "no answer".to_string(),
        _ => e.to_string(),
    };
    let to = find(&address.host, address.port).map_err(unreachable)?;
    let stream = TcpStream::connect_timeout(&to, CONNECT).map_err(unreachable)?;
    let patient = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(CONNECT)))
        .and_then(|()| stream.set_write_timeout(Some(CONNECT)));
    patient.map_err(unreachable)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(LARGEST)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    let no_socket = |_| "what listens there is no VTube Studio".to_string();
    let (socket, _) = client::client_with_config(format!("ws://{address}/"), stream, Some(config))
        .map_err(no_socket)?;
    socket.get_ref().set_nonblocking(true).map_err(unreachable)?;
    Ok(socket)
}

/// One connection.
struct Talk<'a> {
    session: &'a mut Session,
    socket: WebSocket<TcpStream>,
    /// Number of the last request.
    last: u64,
    /// Requests without an answer, and when they were sent.
    asked: BTreeMap<u64, (Asked, Instant)>,
    /// The parameters that VTube Studio has; `None` until they are known.
    known: Option<BTreeSet<String>>,
    /// Parameters to be created, until that is done.
    creating: usize,
    /// Whether a token was asked for on this connection.
    has_asked: bool,
    /// The last frame, and when it was sent.
    sent: Option<(Arc<Values>, Instant)>,
}

impl<'a> Talk<'a> {
    fn new(session: &'a mut Session, socket: WebSocket<TcpStream>) -> Self {
        Self {
            session,
            socket,
            last: 0,
            asked: BTreeMap::new(),
            known: None,
            creating: 0,
            has_asked: false,
            sent: None,
        }
    }

    fn run(mut self) -> Ended {
        let ended = self.until_end();
        // Without an answer nobody knows what became of them.
        for (asked, _) in self.asked.values() {
            if let Asked::Inject(true) = asked {
                self.session.counters.failed.add();
            }
        }
        // Whoever is still there gets to know that this was the end.
        let _ = self.socket.close(None);
        ended
    }

    fn until_end(&mut self) -> Ended {
        let mut over = false;
        if let Err(ended) = self.log_in() {
            return ended;
        }
        let mut deadline = None;
        loop {
            if let Err(ended) = self.answers().and_then(|()| self.is_silent()) {
                return ended;
            }
            if over {
                // The last frames' answers are waited for, so that they are counted.
                let last = *deadline.get_or_insert(Instant::now() + 10 * TICK);
                if self.on_the_way() == 0 || Instant::now() > last {
                    return Ended::Over;
                }
                std::thread::sleep(TICK / 10);
                continue;
            }
            let sent = match self.session.handover.next(TICK) {
                Next::Frame(values) => self.frame(values),
                Next::Nothing => self.again(),
                Next::Over => {
                    over = true;
                    Ok(())
                }
            };
            if let Err(ended) = sent {
                return ended;
            }
        }
    }

    /// Asks to be let in, or for a token to be let in with.
    fn log_in(&mut self) -> Result<(), Ended> {
        if let Some(token) = self.session.token.get() {
            let token = token.to_owned();
            return self.ask(&Request::LogIn(&token), Asked::LogIn);
        }
        if std::mem::replace(&mut self.has_asked, true) {
            return Err(Ended::Lost("it does not take the token that it has given".into()));
        }
        tracing::info!(
            "{}: VTube Studio asks there whether mmface-live may move the model: click Allow",
            self.session.counters.name
        );
        self.ask(&Request::Token, Asked::Token)
    }

    fn ask(&mut self, request: &Request<'_>, asked: Asked) -> Result<(), Ended> {
        self.last += 1;
        let text = request.text(self.last);
        self.asked.insert(self.last, (asked, Instant::now()));
        self.write(text)
    }

    /// Hands a message to the system, as far as it takes it now.
    fn write(&mut self, text: String) -> Result<(), Ended> {
        match self.socket.send(Message::text(text)) {
            Err(SocketError::Io(e)) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent.map_err(|e| lost(&e)),
        }
    }

    /// Number of frames without an answer.
    fn on_the_way(&self) -> usize {
        self.asked.values().filter(|(asked, _)| matches!(asked, Asked::Inject(_))).count()
    }

    fn frame(&mut self, values: Arc<Values>) -> Result<(), Ended> {
        if self.on_the_way() >= ON_THE_WAY {
            self.session.counters.dropped.add();
            return Ok(());
        }
        self.inject(values, true)
    }

    /// Sends the last frame again if it is getting old.
    fn again(&mut self) -> Result<(), Ended> {
        match &self.sent {
            Some((values, when)) if when.elapsed() >= RESEND && self.on_the_way() < ON_THE_WAY => {
                let values = values.clone();
                self.inject(values, false)
            }
            _ => Ok(()),
        }
    }

    fn inject(&mut self, values: Arc<Values>, is_new: bool) -> Result<(), Ended> {
        let Some(known) = &self.known else { return Ok(()) };
        let standard = values.standard.iter().map(|(name, value)| (*name, *value));
        let names = self.session.created.iter().map(String::as_str);
        let created = names.zip(values.created.iter().copied());
        let all = standard.chain(created).filter(|(name, _)| known.contains(*name));
        self.last += 1;
        let text = inject(self.last, values.found, all);
        self.asked.insert(self.last, (Asked::Inject(is_new), Instant::now()));
        self.sent = Some((values, Instant::now()));
        self.write(text)
    }

    /// Whether an answer does not come. Users may take their time.
    fn is_silent(&self) -> Result<(), Ended> {
        let waits = |(asked, since): &(Asked, Instant)| {
            !matches!(asked, Asked::Token) && since.elapsed() > SILENCE
        };
        if self.asked.values().any(waits) {
            return Err(Ended::Lost("it does not answer".into()));
        }
        Ok(())
    }

    /// Reads what has come.
    fn answers(&mut self) -> Result<(), Ended> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    if let Some(answer) = Answer::read(&text) {
                        self.answered(answer)?;
                    }
                }
                Ok(_) => {}
                Err(SocketError::Io(e)) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(lost(&e)),
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Result<(), Ended> {
        let Some((asked, _)) = answer.id.and_then(|id| self.asked.remove(&id)) else {
            return Ok(());
        };
        match (asked, answer.content) {
            (Asked::Inject(true), Content::Done) => self.session.counters.sent.add(),
            (Asked::Inject(is_new), Content::Failed(number, why)) => {
                if is_new {
                    self.session.counters.failed.add();
                }
                return self.refused(number, &why);
            }
            (Asked::Token, Content::Token(token)) => {
                if let Err(e) = self.session.token.keep(token) {
                    self.session.warn(format!("the token is kept for this run only: {e}"));
                }
                return self.log_in();
            }
            (Asked::Token, Content::Failed(error::DENIED, _)) => return Err(Ended::Denied),
            (Asked::LogIn, Content::LoggedIn(true)) => {
                return self.ask(&Request::List, Asked::List);
            }
            (Asked::LogIn, Content::LoggedIn(false)) => {
                self.session.token.forget();
                return self.log_in();
            }
            (Asked::List, Content::Parameters(names)) => return self.listed(names),
            (Asked::Create, content) => {
                if let Content::Failed(_, why) = content {
                    self.session.warn(format!("VTube Studio makes no parameter: {why}"));
                }
                self.creating = self.creating.saturating_sub(1);
                if self.creating == 0 {
                    return self.ask(&Request::List, Asked::List);
                }
            }
            (_, Content::Failed(number, why)) => return Err(failed(number, &why)),
            _ => {}
        }
        Ok(())
    }

    /// Creates the parameters that are missing, the first time, and then begins.
    fn listed(&mut self, names: Vec<String>) -> Result<(), Ended> {
        let known: BTreeSet<String> = names.into_iter().collect();
        let is_first = self.known.is_none();
        let wanted = self.session.created.clone();
        let missing: Vec<_> = wanted.iter().filter(|name| !known.contains(*name)).collect();
        self.known = Some(known);
        if is_first && !missing.is_empty() {
            self.creating = missing.len();
            return missing
                .iter()
                .try_for_each(|name| self.ask(&Request::Create(name), Asked::Create));
        }
        if self.sent.is_none() {
            let name = self.session.counters.name;
            tracing::info!("{name}: VTube Studio at {} takes the face", self.session.address);
            self.session.handover.set_open(true);
        }
        Ok(())
    }

    /// What to do about parameters that VTube Studio has refused.
    fn refused(&mut self, number: i64, why: &str) -> Result<(), Ended> {
        match number {
            error::NO_PARAMETER => {
                let is_asking = self.asked.values().any(|(asked, _)| matches!(asked, Asked::List));
                return if is_asking { Ok(()) } else { self.ask(&Request::List, Asked::List) };
            }
            error::CONTROLLED => self.session.warn(format!(
                "another program moves the same parameters of VTube Studio; end it ({why})"
            )),
            error::NOT_LOGGED_IN | error::DENIED | error::SWITCHED_OFF => {
                return Err(failed(number, why));
            }
            _ => self.session.warn(format!("VTube Studio refuses parameters: {why}")),
        }
        Ok(())
    }
}

fn lost(error: &SocketError) -> Ended {
    Ended::Lost(match error {
        SocketError::ConnectionClosed | SocketError::AlreadyClosed | SocketError::Io(_) => {
            "the connection is lost".into()
        }
        other => format!("the connection fails: {other}"),
    })
}

fn failed(number: i64, why: &str) -> Ended {
    Ended::Lost(match number {
        error::SWITCHED_OFF => {
            "its plugin API is switched off; switch it on in its settings".into()
        }
        error::ASKING => "it is asking its user already; answer there".into(),
        error::DENIED | error::NOT_LOGGED_IN => "it has taken its permission back".into(),
        _ => why.to_owned(),
    })
}
