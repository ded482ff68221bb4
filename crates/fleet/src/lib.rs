//! Who runs which stream of a fleet.
//!
//! Every worker runs the same code, a [`Member`], on what it has heard of the others. Nobody is in
//! charge: what two of them want at once, the store decides, where a write names the revision that
//! it replaces. There is no clock, no network and no randomness here: times go in, and what has to
//! be done comes out, so that a simulation can run years of failures (`tests/`).
//!
//! The store has an entry for each worker, which vanishes one lease after it was last written, and
//! an entry for each stream, which says who owns it. The revision of the latter is the number of
//! the run: whoever owned the stream before has a lower one.
//!
//! - A worker renews its own entry at a third of the lease. By its own clock it stops before the
//!   entry can vanish.
//! - Who has not been heard of for a lease is *buried*: a mark takes the place of its entry, which
//!   the store allows only if that has vanished. From then on the worker cannot renew.
//! - Streams of the buried are claimed by those with most room, as all compute it alike.

mod member;
mod plan;
mod values;

pub use member::{Action, Census, Ended, Member, Refusal, Settings};
pub use plan::{Plan, Worker};
pub use values::{Beat, Owner};

/// Milliseconds of a worker's own clock, which never goes back.
pub type Millis = u64;
