//! Where threads meet.
//!
//! - [`Turns`]: several threads share one resource that works on several pieces of work at once.
//! - [`mailbox`]: a bounded queue to one reader that may be slow.
//!
//! Both are small enough for `loom` to try every order in which their threads can run
//! (`make model-check`).

mod mailbox;
mod sync;
mod turns;

pub use mailbox::{Closed, Receiver, Sender, mailbox};
pub use turns::{Failure, Resource, Turns};
