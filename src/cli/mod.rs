//! The command line.

mod args;
mod avatars;
pub(crate) mod config;
pub mod convert;
mod cure;
pub mod doctor;
pub mod engines;
pub mod eval;
#[cfg(feature = "fleet")]
pub mod fleet;
mod listen;
pub mod manual;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "fleet")]
mod nats;
mod read;
mod signals;
mod sinks;
mod streams;
#[cfg(feature = "fleet")]
pub mod tail;
mod values;
pub mod view;

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use mmface::record;

pub use args::RunArgs;
pub use config::Config;
pub use cure::explain;
pub use signals::{Requests, stop_on_signals};
pub use streams::{Job, Streams};

use crate::sink::files::cannot_write;
use crate::source::{mask, remember};
use crate::{Error, Result};

/// Face model parameters from live video: a camera, an RTSP stream or a file goes in; for every
/// frame and every face the parameters of a 3D morphable face model come out, one JSON line per frame.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, allow_negative_numbers = true)]
#[command(after_help = EXAMPLES)]
pub struct Cli {
    /// A subcommand; without one it is a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub run: RunArgs,
}

const EXAMPLES: &str = "\
Examples:
  mmface-live --camera 0 --overlay window              see it work
  mmface-live --file talk.mp4 --json talk.jsonl        measure a recording
  mmface-live --file talk.mp4 --overlay fitted.mp4 --landmarks --json talk.jsonl
  mmface-live --file talk.mp4 --report talk.html       curves, and the face in 3D
  mmface-live --rtsp rtsp://user:password@camera/stream | your-program
  mmface-live --images portraits/ --landmarks --json portraits.jsonl
  mmface-live --file talk.mp4 --mesh talk.glb          an animated head for Blender
  mmface-live --camera 0 --listen 8080                 the live head in a browser
  mmface-live --camera 0 --vmc                         an avatar in VSeeFace, Warudo, …
  mmface-live --config pipelines/rtsp.toml --faces 2
  mmface-live --file talk.mp4 --csv talk.csv           a table, a row for each face and frame
  mmface-live convert talk.jsonl -o talk.parquet       the same from existing records
  mmface-live view talk.jsonl -o talk.html             the same from existing records
  mmface-live doctor                                   what works here, and how to fix the rest
  mmface-live eval faces.jsonl                         how accurate it is, on labelled pictures

Records go to standard output, everything else to standard error; RUST_LOG=debug says more.
Exit codes: 0 done, 2 wrong use, 3 source, 4 model files, 5 device, 6 output, 70 a bug;
130 after a second Ctrl-C, which does not wait.";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the JSON Schema of the records
    Schema,
    /// Say what works on this machine, and how to fix what does not
    Doctor(doctor::Args),
    /// List, build and check the engines of the GPU
    #[command(subcommand)]
    Engines(engines::Command),
    /// Measure accuracy on labelled pictures
    #[command(about = eval::ABOUT.lines().next(), long_about = eval::ABOUT, after_help = eval::EXAMPLES)]
    Eval(Box<eval::Args>),
    /// Turn existing records into a table: CSV or Parquet, a row for each face and frame
    Convert(convert::Args),
    /// Write a page about existing records: curves, losses, ids, the face in 3D
    View(view::Args),
    /// Run streams of a fleet (docs/fleets.md)
    #[cfg(feature = "fleet")]
    Worker(Box<fleet::WorkerArgs>),
    /// Say which streams a fleet runs, and see how they are doing
    #[cfg(feature = "fleet")]
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// Write the records that are kept in NATS, and those that come
    #[cfg(feature = "fleet")]
    Tail(tail::Args),
    /// Print the completions of a shell: put them where it looks for them
    Completions(manual::Args),
    /// Print the manual page: mmface-live man | man -l -
    Man,
}

/// Parses the arguments. Exits on errors and after printing help.
#[must_use]
pub fn parse() -> Cli {
    for argument in std::env::args_os() {
        remember(&argument.to_string_lossy());
    }
    let matches = without_empty_variables(Cli::command()).try_get_matches();
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|e| refuse(&e))
}

/// Prints an error of the arguments without the passwords in it, or the help, and exits.
fn refuse(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.render();
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let text = if coloured { text.ansi().to_string() } else { text.to_string() };
    // Nobody is left to tell of a closed standard error.
    let _ = std::io::stderr().write_all(mask(&text).as_bytes());
    signal_hook::low_level::exit(error.exit_code())
}

/// Standard error without passwords, for the log: whatever looks like a URL with credentials is
/// masked, whoever wrote it.
pub struct MaskedStderr;

impl Write for MaskedStderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(mask(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Treats environment variables that are empty as not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Prints the JSON Schema of the records.
///
/// # Errors
/// [`Error::ReaderGone`] or [`Error::Sink`] if standard output cannot be written.
pub fn schema() -> Result<()> {
    say(record::schema().trim_end())
}

/// Prints a line. Unlike `println!` it does not panic if the reader has closed standard output.
pub(crate) fn say(line: impl Display) -> Result<()> {
    printed(writeln!(std::io::stdout(), "{line}"))
}

/// What became of text for standard output.
fn printed(written: std::io::Result<()>) -> Result<()> {
    written.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Error::ReaderGone,
        _ => cannot_write("text", "standard output", &e),
    })
}
