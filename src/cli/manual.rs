//! The manual page and shells' completions, generated from the flags.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, printed};
use crate::{Error, Result};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions of a shell.
///
/// # Errors
/// [`Error::ReaderGone`] or [`Error::Sink`] if standard output cannot be written.
pub fn completions(args: &Args) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mmface-live", &mut text);
    print(&text)
}

/// Prints the manual page, with a section for each subcommand.
///
/// # Errors
/// As for [`completions`]; [`Error::Bug`] if the page cannot be made.
pub fn page() -> Result<()> {
    let mut text = Vec::new();
    let bug = |e: std::io::Error| Error::Bug(format!("the manual page cannot be made: {e}"));
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(bug)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    printed(out.write_all(text).and_then(|()| out.flush()))
}
