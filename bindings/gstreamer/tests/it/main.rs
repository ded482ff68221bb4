//! The elements in harnesses, in pipelines of this process, and in other processes.

mod common;
mod element;
mod overlay;
mod pipelines;
mod processes;
