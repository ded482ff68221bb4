//! UDP to a receiver that may come and go. Nothing here ever waits.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::counters::SinkCounters;

/// Where a sender's packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or number of the host.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl Address {
    /// Reads `HOST:PORT`, `HOST`, `PORT` or nothing. What is missing is this machine and
    /// `default_port`. An IPv6 address with a port stands in brackets: `[::1]:39539`.
    ///
    /// # Errors
    /// Why the text is no address.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let text = text.trim();
        let at = |host: &str, port| Ok(Self { host: host.into(), port });
        let port = |text: &str| match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("{text} is no port: it is a number from 1 to 65535")),
        };
        if text.is_empty() {
            return at("127.0.0.1", default_port);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return at("127.0.0.1", port(text)?);
        }
        if text.parse::<IpAddr>().is_ok() {
            return at(text, default_port);
        }
        if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            host.parse::<Ipv6Addr>().map_err(|_| format!("[{host}] is no IPv6 address"))?;
            return match rest.strip_prefix(':') {
                Some(number) => at(host, port(number)?),
                None if rest.is_empty() => at(host, default_port),
                None => Err(format!("{text} is no address: write [HOST]:PORT")),
            };
        }
        let wrong = || Err(format!("{text} is no address: write HOST:PORT, HOST or PORT"));
        let (host, port) = match text.split_once(':') {
            Some((host, number)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                (host, port(number)?)
            }
            Some(_) => return wrong(),
            None => (text, default_port),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || !host.chars().all(is_name) {
            return wrong();
        }
        at(host, port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How long to wait after a failure before a name is looked up, or a socket opened, again.
const AGAIN: Duration = Duration::from_secs(2);

/// Sends packets to an address.
pub struct Wire {
    address: Address,
    counters: Arc<SinkCounters>,
    state: State,
    /// Packets that the system has taken. Whether one was refused is told by the next one.
    unconfirmed: u64,
    /// Whether the receiver was missing when the last packet was sent.
    missing: bool,
    /// Whether the log has told that something is wrong.
    told: bool,
}

enum State {
    /// The name is looked up on a thread of its own, because that can take long.
    LookingUp(Receiver<io::Result<SocketAddr>>),
    Open(UdpSocket),
    /// Nothing until then.
    Closed {
        until: Instant,
    },
}

impl Wire {
    /// A wire to this address. Nothing has to be there yet.
    #[must_use]
    pub fn new(address: Address, counters: Arc<SinkCounters>) -> Self {
        let state = start(&address);
        Self { address, counters, state, unconfirmed: 0, missing: false, told: false }
    }

    /// Sends a packet now, or counts it as failed.
    pub fn send(&mut self, packet: &[u8]) {
        self.advance();
        let State::Open(socket) = &self.state else {
            self.counters.failed.add();
            return;
        };
        // An error can belong to the packet before, for which the receiver's machine has answered
        // that nobody listens. Then this packet still has to be sent.
        let mut sent = socket.send(packet);
        if matches!(&sent, Err(e) if e.kind() == ErrorKind::ConnectionRefused) {
            self.refused();
            let State::Open(socket) = &self.state else { return };
            sent = socket.send(packet);
        } else if sent.is_ok() && self.unconfirmed > 0 {
            self.confirmed();
        }
        match sent {
            Ok(_) => self.unconfirmed += 1,
            Err(error) => {
                self.counters.failed.add();
                if error.kind() != ErrorKind::WouldBlock {
                    self.tell(&format!("cannot send to {}: {error}", self.address));
                    // Without a network there may be a way later.
                    self.state = State::Closed { until: Instant::now() + AGAIN };
                }
            }
        }
    }

    /// Confirms the last packets.
    pub fn finish(mut self) {
        if let State::Open(socket) = &self.state {
            match socket.take_error() {
                Ok(None) => self.confirmed(),
                _ => self.refused(),
            }
        }
    }

    fn confirmed(&mut self) {
        for _ in 0..std::mem::take(&mut self.unconfirmed) {
            self.counters.sent.add();
        }
        if std::mem::take(&mut self.missing) {
            tracing::info!("{}: somebody listens at {} now", self.counters.name, self.address);
        }
    }

    fn refused(&mut self) {
        for _ in 0..std::mem::take(&mut self.unconfirmed) {
            self.counters.failed.add();
        }
        self.missing = true;
        let why = format!("nobody listens at {} yet; packets go on being sent", self.address);
        self.tell(&why);
    }

    /// Tells the log, the first time only.
    fn tell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("{}: {why}", self.counters.name);
        }
    }

    /// Opens the socket as soon as that is possible.
    fn advance(&mut self) {
        match &self.state {
            State::Open(_) => {}
            State::Closed { until } => {
                if Instant::now() >= *until {
                    self.state = start(&self.address);
                    self.advance_lookup();
                }
            }
            State::LookingUp(_) => self.advance_lookup(),
        }
    }

    fn advance_lookup(&mut self) {
        let State::LookingUp(answer) = &self.state else { return };
        let opened = match answer.try_recv() {
            Ok(Ok(address)) => open(address),
            Ok(Err(error)) => Err(error),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("no address was found")),
        };
        self.state = match opened {
            Ok(socket) => State::Open(socket),
            Err(error) => {
                self.tell(&format!("cannot reach {}: {error}; trying again", self.address));
                State::Closed { until: Instant::now() + AGAIN }
            }
        };
    }
}

/// Finds the address: at once if it is a number.
fn start(address: &Address) -> State {
    let (found, answer) = bounded(1);
    let Address { host, port } = address.clone();
    if let Ok(ip) = host.parse() {
        // There is room for one.
        let _ = found.try_send(Ok(SocketAddr::new(ip, port)));
        return State::LookingUp(answer);
    }
    let look_up = move || {
        let _ = found.try_send(find(&host, port));
    };
    // If no thread can be started, the channel's other end is gone, which is found out later.
    let _ = std::thread::Builder::new().name("look-up".into()).spawn(look_up);
    State::LookingUp(answer)
}

/// The address of a host, IPv4 if it has one: most receivers listen to nothing else.
pub(super) fn find(host: &str, port: u16) -> io::Result<SocketAddr> {
    let all: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| io::Error::other("the name has no address"))
}

fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;

    #[test]
    fn addresses_are_complete_or_completed() {
        for (text, host, port) in [
            ("", "127.0.0.1", 39539),
            ("39540", "127.0.0.1", 39540),
            ("192.168.0.7", "192.168.0.7", 39539),
            ("192.168.0.7:1", "192.168.0.7", 1),
            ("pc-2.local", "pc-2.local", 39539),
            ("pc:99", "pc", 99),
            ("::1", "::1", 39539),
            ("[fe80::1]", "fe80::1", 39539),
            ("[::1]:65535", "::1", 65535),
        ] {
            let address = Address::parse(text, 39539).expect(text);
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        }
        for text in
            ["0", "65536", "a:b", ":1", "a b", "[::1", "[x]:1", "[::1]x", "http://a", "a:1:2"]
        {
            assert!(Address::parse(text, 1).is_err(), "{text}");
        }
        assert_eq!(Address::parse("::1", 5).expect("an address").to_string(), "[::1]:5");
    }

    /// Sends packets until one arrives at the receiver.
    fn until_received(wire: &mut Wire, receiver: &UdpSocket) {
        receiver.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let mut buffer = [0; 64];
        for number in 0..400_u32 {
            wire.send(&number.to_be_bytes());
            if receiver.recv(&mut buffer).is_ok() {
                return;
            }
        }
        panic!("nothing arrives");
    }

    fn comes_and_goes(host: &str, bind: &str) {
        let counters = Counters::default().sink("vmc");
        let receiver = UdpSocket::bind((bind, 0)).expect("a port");
        let port = receiver.local_addr().expect("an address").port();
        drop(receiver);
        let mut wire = Wire::new(Address { host: host.into(), port }, counters.clone());
        // Nobody is there. A name takes a moment to be found.
        for _ in 0..10_000 {
            wire.send(b"lost");
            if wire.told {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(wire.told && counters.failed.get() > 0);
        let receiver = UdpSocket::bind((bind, port)).expect("the port");
        until_received(&mut wire, &receiver);
        drop(receiver);
        wire.send(b"lost");
        let failed = counters.failed.get();
        wire.send(b"lost");
        assert!(counters.failed.get() > failed, "its leaving is counted");
        let receiver = UdpSocket::bind((bind, port)).expect("the port");
        until_received(&mut wire, &receiver);
        wire.finish();
        assert!(counters.sent.get() > 0);
    }

    #[test]
    fn a_receiver_comes_and_goes() {
        comes_and_goes("127.0.0.1", "127.0.0.1");
    }

    #[test]
    fn a_receiver_is_found_by_name() {
        comes_and_goes("localhost", "127.0.0.1");
    }

    #[test]
    fn a_receiver_with_ipv6() {
        if UdpSocket::bind(("::1", 0)).is_err() {
            return; // This machine has no IPv6.
        }
        comes_and_goes("::1", "::1");
    }

    #[test]
    fn a_name_that_nobody_has_costs_packets_and_nothing_else() {
        let counters = Counters::default().sink("vmc");
        let address = Address { host: "nobody.invalid".into(), port: 9 };
        let mut wire = Wire::new(address, counters.clone());
        for _ in 0..5 {
            wire.send(b"lost");
        }
        assert_eq!((counters.sent.get(), counters.failed.get()), (0, 5));
    }
}
