//! Two primitives for handing work between threads.
//!
//! - [`Turns`]: several threads take turns on one resource that processes several pieces of work in
//!   one call.
//! - [`mailbox`]: a bounded queue to one reader that may be slow.
//!
//! Both are small enough for `loom` to explore every interleaving of their threads (`make
//! model-check`).

mod mailbox;
mod sync;
mod turns;

pub use mailbox::{Closed, Receiver, Sender, mailbox};
pub use turns::{Failure, Resource, Turns};
