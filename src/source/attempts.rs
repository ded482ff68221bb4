//! How a source on the network is tried: over which transport, how often and for how long.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::failure::Kind;
use super::{Transport, Wait};

/// How long a source that has never worked is tried, unless the user says.
const USUAL_WAIT: Duration = Duration::from_secs(10);

/// The attempts so far.
#[derive(Debug)]
pub(super) struct Attempts {
    transport: Transport,
    wait: Option<Wait>,
    started: Instant,
    /// Attempts since it last worked.
    count: u32,
    /// The transport over which it last worked.
    worked: Option<Transport>,
    /// Transports that the server has refused.
    refused: Vec<Transport>,
    backoff: Backoff,
}

impl Attempts {
    pub(super) fn new(transport: Transport, wait: Option<Wait>) -> Self {
        Self {
            transport,
            wait,
            started: Instant::now(),
            count: 0,
            worked: None,
            refused: Vec::new(),
            backoff: Backoff::default(),
        }
    }

    /// The transport of the next attempt: [`Transport::Tcp`] or [`Transport::Udp`].
    pub(super) fn transport(&self) -> Transport {
        let both = [Transport::Tcp, Transport::Udp];
        match self.transport {
            Transport::Auto => {}
            fixed => return fixed,
        }
        let left = both.into_iter().filter(|transport| !self.refused.contains(transport));
        match (left.collect::<Vec<_>>().as_slice(), self.worked) {
            ([only], _) => *only,
            (_, Some(worked)) => worked,
            // By turns until one has worked.
            _ if self.count.is_multiple_of(2) => Transport::Tcp,
            _ => Transport::Udp,
        }
    }

    /// The attempt brought frames.
    pub(super) fn worked(&mut self) {
        self.worked = Some(self.transport());
        self.count = 0;
        self.refused.clear();
        self.backoff.reset();
    }

    /// The attempt failed: how long to wait before the next one; `None` to give up.
    pub(super) fn failed(&mut self, kind: Kind) -> Option<Duration> {
        let transport = self.transport();
        self.count += 1;
        if kind == Kind::NoTransport && self.transport == Transport::Auto {
            self.refused.push(transport);
            if self.refused.len() == 1 {
                return Some(Duration::ZERO);
            }
            self.refused.clear();
        }
        let wait = self.backoff.next();
        let in_time = match self.wait {
            _ if self.worked.is_some() => true,
            _ if self.is_final(kind) => false,
            Some(Wait::Forever) => true,
            Some(Wait::For(most)) => self.started.elapsed() + wait < most,
            None => self.started.elapsed() + wait < USUAL_WAIT,
        };
        let other_is_left = self.transport == Transport::Auto && self.count == 1;
        (in_time || other_is_left && !self.is_final(kind)).then_some(wait)
    }

    /// Whether trying again is of no use to a source that has never worked.
    fn is_final(&self, kind: Kind) -> bool {
        match kind {
            Kind::Refused
            | Kind::NoDecoder
            | Kind::NoStream
            | Kind::NoTransport
            | Kind::NoVideo
            | Kind::UnknownFormat => true,
            // A server may be there before its cameras are.
            Kind::NotFound => self.wait.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREVER: Option<Wait> = Some(Wait::Forever);
    const NOT_AT_ALL: Option<Wait> = Some(Wait::For(Duration::ZERO));

    #[test]
    fn a_refused_transport_is_left_at_once() {
        let mut attempts = Attempts::new(Transport::Auto, None);
        assert_eq!(attempts.transport(), Transport::Tcp);
        assert_eq!(attempts.failed(Kind::NoTransport), Some(Duration::ZERO));
        assert_eq!(attempts.transport(), Transport::Udp);
        // The other one is kept when it has worked, and when it has failed otherwise.
        assert!(attempts.failed(Kind::Unreachable).is_some());
        assert_eq!(attempts.transport(), Transport::Udp);
        attempts.worked();
        assert!(attempts.failed(Kind::Silent).is_some());
        assert_eq!(attempts.transport(), Transport::Udp);
        let mut attempts = Attempts::new(Transport::Auto, FOREVER);
        assert!(attempts.failed(Kind::NoTransport).is_some());
        assert_eq!(attempts.failed(Kind::NoTransport), None);
        assert_eq!(Attempts::new(Transport::Tcp, FOREVER).failed(Kind::NoTransport), None);
    }

    #[test]
    fn a_camera_that_was_changed_is_found_again() {
        let mut attempts = Attempts::new(Transport::Auto, None);
        attempts.worked();
        assert_eq!(attempts.failed(Kind::NoTransport), Some(Duration::ZERO));
        assert_eq!(attempts.transport(), Transport::Udp);
        assert!(attempts.failed(Kind::NoTransport) > Some(Duration::ZERO));
    }

    #[test]
    fn each_transport_is_tried_at_least_once() {
        let mut attempts = Attempts::new(Transport::Auto, NOT_AT_ALL);
        assert!(attempts.failed(Kind::Unreachable).is_some());
        assert_eq!(attempts.transport(), Transport::Udp);
        assert_eq!(attempts.failed(Kind::Unreachable), None);
        assert_eq!(Attempts::new(Transport::Udp, NOT_AT_ALL).failed(Kind::Silent), None);
    }

    #[test]
    fn what_waiting_does_not_cure_is_final() {
        for wait in [None, FOREVER] {
            let failed = |kind| Attempts::new(Transport::Tcp, wait).failed(kind);
            assert_eq!(failed(Kind::Refused), None);
            assert_eq!(failed(Kind::NoVideo), None);
            assert!(failed(Kind::Unreachable).is_some());
            assert_eq!(failed(Kind::NotFound).is_some(), wait.is_some());
        }
        // What has worked once is tried for ever.
        let mut attempts = Attempts::new(Transport::Tcp, NOT_AT_ALL);
        attempts.worked();
        assert!((0..100).all(|_| attempts.failed(Kind::NotFound).is_some()));
    }
}
