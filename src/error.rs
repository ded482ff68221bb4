//! Every way a run can fail, one sentence each, and the exit code that goes with it.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, told in one sentence that names the cure.
///
/// The variants are the exit codes of the program: whoever adds one decides what a shell script can
/// tell apart, nothing finer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Wrong use of flags or configuration.
    #[error("{0}")]
    Usage(String),
    /// A source cannot be opened, or is lost for good.
    #[error("{0}")]
    Source(String),
    /// Engines, face model or a library that runs them are missing, damaged or unusable.
    #[error("{0}")]
    Engine(String),
    /// A file of the engines is not what the manifest says it is.
    #[error(
        "{} is not the file that the manifest describes (SHA-256 {found} instead of {expected}); \
         restore it from the repository or the installation", path.display()
    )]
    EngineHash {
        /// The file.
        path: PathBuf,
        /// Hash of what lies there, hexadecimal.
        found: String,
        /// Hash in the manifest, hexadecimal.
        expected: String,
    },
    /// The device (CPU or GPU) failed or ran out of memory.
    #[error("{0}")]
    Device(String),
    /// A sink cannot be written.
    #[error("{0}")]
    Sink(String),
    /// The reader of the records went away. Not a failure: the run ends cleanly.
    #[error("the reader of the records closed the pipe")]
    ClosedPipe,
    /// A bug of this program.
    #[error("internal error: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The process's exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Usage(_) => 2,
            Self::Source(_) => 3,
            Self::Engine(_) | Self::EngineHash { .. } => 4,
            Self::Device(_) => 5,
            Self::Sink(_) => 6,
            Self::Bug(_) => 70,
        }
    }
}
