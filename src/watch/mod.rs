//! Being watched: a small HTTP server (`--listen`) and systemd's notifications.
//!
//! Both only read: the board with the counters of all streams, and the feed of records. One thread
//! serves all connections; another talks to systemd.

mod connections;
mod guard;
mod head;
mod health;
mod metrics;
pub(crate) mod process;
mod records;
mod server;
mod site;
mod systemd;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::Result;
use crate::board::Board;
use crate::sink::feed::Feed;
use server::Server;
use systemd::Notifier;

/// Where to listen, and what readers of records are served from.
#[derive(Clone)]
pub struct Listen {
    /// The host: a name or an address.
    pub host: String,
    /// The port; 0 is any that is free.
    pub port: u16,
    /// The records.
    pub feed: Feed,
    /// What readers of records have to know, if the user has said so.
    pub token: Option<String>,
}

/// Whoever watches the process. Dropping it ends the server.
pub struct Watch {
    server: Option<Server>,
    notifier: Option<Notifier>,
}

impl Watch {
    /// Starts the server, if `listen` asks for one, and the notifications, if systemd asks for
    /// them. `stop` tells that the process is about to end.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if nobody can listen at the address,
    /// [`Error::Device`](crate::Error::Device) if there are no more threads.
    pub fn start(
        listen: Option<Listen>,
        board: &Arc<Board>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let server = listen.map(|listen| Server::start(listen, board.clone())).transpose()?;
        Ok(Self { server, notifier: Notifier::start(board.clone(), stop.clone())? })
    }

    /// The address of the server, if there is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Tells systemd that the settings are being read again.
    pub fn reloading(&self) {
        self.notifier.as_ref().inspect(|notifier| notifier.reloading());
    }

    /// Tells systemd that the new settings hold.
    pub fn reloaded(&self) {
        self.notifier.as_ref().inspect(|notifier| notifier.reloaded());
    }
}
