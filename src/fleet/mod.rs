//! Many cameras on many machines.
//!
//! The wanted streams and who owns them are kept in NATS (`store`). Every worker runs the same
//! assignment, the crate `fleet`, on what it hears from there; `worker` does what it says, `runs`
//! are the streams that it runs. `wanted` are the streams as the operator writes them, `status` is
//! what it looks like from outside.

mod capacity;
mod runs;
pub mod status;
mod store;
pub mod wanted;
pub mod worker;

pub use capacity::Capacity;
pub use store::{Made, Store};
