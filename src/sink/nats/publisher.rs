//! The connection that all streams of the process share.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::Settings;
use super::outbox::Outbox;
use super::sender::Sender;
use super::spool::Spool;
use crate::nats;
use crate::{Error, Result};

/// The publisher that is open, if one is.
static OPEN: Mutex<Option<(Settings, Weak<Publisher>)>> = Mutex::new(None);

/// Sends what is in its outbox. Dropping it ends it; what waits on disk stays there.
pub(crate) struct Publisher {
    pub(super) outbox: Arc<Outbox>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// The publisher with these settings, which is started if there is none. No server has to be
    /// there yet.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Sink`] if the spool cannot be used, [`Error::Device`] if there
    /// are no more threads.
    pub(crate) fn shared(settings: &Settings) -> Result<Arc<Self>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, publisher)) = &*open
            && known == settings
            && let Some(publisher) = publisher.upgrade()
        {
            return Ok(publisher);
        }
        let publisher = Arc::new(Self::start(settings)?);
        *open = Some((settings.clone(), Arc::downgrade(&publisher)));
        Ok(publisher)
    }

    fn start(settings: &Settings) -> Result<Self> {
        let (outbox, left) = match &settings.spool {
            Some((folder, limit)) => {
                let (spool, found) = Spool::open(folder, *limit)?;
                let (outbox, left) = Outbox::with(spool, found);
                (outbox, Some(left))
            }
            None => (Outbox::new(), None),
        };
        let outbox = Arc::new(outbox);
        let sender = Sender::new(settings.clone(), outbox.clone(), left);
        let (stop, stopped) = oneshot::channel();
        let runtime = nats::runtime()?;
        let thread = std::thread::Builder::new()
            .name("nats".into())
            .spawn(move || runtime.block_on(sender.run(stopped)))
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { outbox, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that talks to NATS had failed");
        }
        self.outbox.close();
    }
}
