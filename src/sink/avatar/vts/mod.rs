//! VTube Studio: a WebSocket through which plugins set the input parameters of its model.

mod handover;
mod message;
mod session;
mod token;
mod values;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use self::handover::{Handover, Put, Values};
use self::session::Session;
use self::token::Token;
use super::pose::Presence;
use super::wire::Address;
use super::{Link, Pose};
use crate::counters::SinkCounters;
use crate::{Error, Result};

/// Port on which VTube Studio listens.
pub(super) const PORT: u16 = 8001;
/// How long the end waits for the last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is special about this receiver.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder in which the token is kept.
    pub folder: Option<PathBuf>,
    /// Whether ARKit's coefficients become parameters too, which are created.
    pub arkit: bool,
}

/// Sends each frame to VTube Studio.
pub(super) struct Vts {
    handover: Arc<Handover>,
    counters: Arc<SinkCounters>,
    /// Places of the coefficients that become parameters.
    created: Vec<usize>,
    /// Disconnected when the session's thread has ended.
    done: Receiver<()>,
}

impl Vts {
    /// Starts the thread that talks to VTube Studio. Nobody has to be there yet.
    ///
    /// # Errors
    /// [`Error::Device`] if no thread can be started.
    pub(super) fn start(
        address: Address,
        options: Options,
        counters: Arc<SinkCounters>,
    ) -> Result<Self> {
        let (token, read) = Token::open(options.folder, address.to_string());
        if let Err(e) = read {
            tracing::warn!("{}: the kept token cannot be read: {e}", counters.name);
        }
        let parameters = if options.arkit { values::arkit_parameters() } else { Vec::new() };
        let (names, created) = parameters.into_iter().unzip();
        let handover = Arc::<Handover>::default();
        let session = Session {
            address,
            token,
            created: names,
            handover: handover.clone(),
            counters: counters.clone(),
            told: BTreeSet::new(),
        };
        let (ends, done) = bounded(0);
        let span = tracing::Span::current();
        let work = move || {
            let _ends = ends;
            span.in_scope(|| session.run());
        };
        std::thread::Builder::new()
            .name("vts-session".into())
            .spawn(work)
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { handover, counters, created, done })
    }
}

impl Link for Vts {
    fn send(&mut self, pose: &Pose) {
        let values = Values {
            found: pose.presence == Presence::Seen,
            standard: values::standard(pose).into(),
            created: self.created.iter().map(|at| pose.coefficients[*at]).collect(),
        };
        match self.handover.put(values) {
            Put::Kept => {}
            Put::Replaced => self.counters.dropped.add(),
            Put::Refused => self.counters.failed.add(),
        }
    }

    fn finish(self: Box<Self>) {
        self.handover.end();
        // It ends at once, unless it is just connecting; that is not waited for.
        let _ = self.done.recv_timeout(FAREWELL);
    }
}
