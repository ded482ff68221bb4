//! What happens at a fork: the child has none of the threads that run the networks, so using them
//! there would wait for ever, and so would taking them down.

use std::sync::OnceLock;

use pyo3::PyResult;

use crate::error::fail;

/// The process that loaded the networks.
static HOME: OnceLock<u32> = OnceLock::new();

/// Says that this process loads networks.
pub(crate) fn is_home() {
    HOME.get_or_init(std::process::id);
}

/// Whether this process was forked from one that had loaded networks.
pub(crate) fn was_forked() -> bool {
    HOME.get().is_some_and(|home| *home != std::process::id())
}

/// # Errors
/// In a process that was forked after networks were loaded.
pub(crate) fn check() -> PyResult<()> {
    if was_forked() {
        return Err(fail(
            "this process was forked from one that already used mmface, and its threads are missing \
             here: start processes with multiprocessing.get_context('spawn'), or make the first \
             Tracker after the fork",
        ));
    }
    Ok(())
}

/// A value that is left alone, and not taken down, in a forked process.
pub(crate) struct AtHome<T>(Option<T>);

impl<T> AtHome<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }
}

impl<T> Drop for AtHome<T> {
    fn drop(&mut self) {
        if was_forked() {
            std::mem::forget(self.0.take());
        }
    }
}
