//! Keeps count of connections, so that those who only hold them do not shut others out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Most connections at once.
const MOST: usize = 256;

/// The open connections. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    all: BTreeSet<u64>,
    /// Those that have not sent a whole request, the oldest first.
    waiting: BTreeMap<u64, AbortHandle>,
}

/// One connection. Dropping it makes room for another.
pub(super) struct Place {
    connections: Connections,
    number: u64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that could panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection. If all are taken, the connection that has waited longest without
    /// sending its request is closed; `None` if there is none.
    pub(super) fn admit(&self) -> Option<Place> {
        let mut open = self.lock();
        if open.all.len() >= MOST {
            let (number, task) = open.waiting.pop_first()?;
            task.abort();
            open.all.remove(&number);
        }
        let number = open.next;
        open.next += 1;
        open.all.insert(number);
        Some(Place { connections: self.clone(), number })
    }

    /// Notes the task that waits for the request of a connection.
    pub(super) fn waits(&self, number: u64, task: AbortHandle) {
        let mut open = self.lock();
        if open.all.contains(&number) {
            open.waiting.insert(number, task);
        }
    }

    /// Number of open connections.
    pub(super) fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// Closes those that have sent no request.
    pub(super) fn close_waiting(&self) {
        let mut open = self.lock();
        for (number, task) in std::mem::take(&mut open.waiting) {
            task.abort();
            open.all.remove(&number);
        }
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The request is there: from now on the connection is not closed for another one.
    pub(super) fn asked(&self) {
        self.connections.lock().waiting.remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all.remove(&self.number);
        open.waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_send_nothing_make_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let connections = Connections::default();
            let places: Vec<_> = (0..MOST).map(|_| connections.admit().expect("room")).collect();
            assert!(connections.admit().is_none(), "all of them are being answered");
            let silent = tokio::spawn(std::future::pending::<()>());
            connections.waits(places[7].number(), silent.abort_handle());
            let new = connections.admit().expect("room");
            assert!(silent.await.expect_err("was closed").is_cancelled());
            assert_eq!(connections.count(), MOST);
            drop((places, new));
            assert_eq!(connections.count(), 0);
        });
    }
}
