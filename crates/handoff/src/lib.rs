//! Two primitives for handing work between threads.
//!
//! - [`Lanes`]: equal workers that several threads share fairly.
//! - [`mailbox`]: a bounded queue to one reader that may be slow.
//!
//! Both are small enough for `loom` to explore every interleaving of their threads (`make
//! model-check`).

mod lanes;
mod mailbox;
mod sync;

pub use lanes::{Lanes, Lease, Panicked, Visit};
pub use mailbox::{Closed, Receiver, Sender, mailbox};
