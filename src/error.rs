//! Every way in which a run can fail, one sentence each, and the exit code that goes with it.

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, told in one sentence.
///
/// The variants follow the exit codes of the program: whoever adds one decides what a shell script can
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
    /// The library that finds the faces cannot work.
    #[error(transparent)]
    Mmface(#[from] mmface::Error),
    /// A file that the program needs is not installed.
    #[error("{0}")]
    Missing(String),
    /// The machine has no thread or no memory left.
    #[error("{0}")]
    Device(String),
    /// A sink cannot be written.
    #[error("{0}")]
    Sink(String),
    /// Whoever read standard output has gone. Not a failure: a pager was closed.
    #[error("the reader of standard output has gone")]
    ReaderGone,
    /// A bug of this program.
    #[error("internal error: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The process's exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        use mmface::Error as Library;
        match self {
            Self::ReaderGone => 0,
            Self::Usage(_) => 2,
            Self::Mmface(Library::Setting(_) | Library::Precision(_) | Library::Volumes) => 2,
            Self::Source(_) | Self::Mmface(Library::Image(_)) => 3,
            Self::Mmface(
                Library::Models(_)
                | Library::ModelHash { .. }
                | Library::Detector(_)
                | Library::Library(_),
            )
            | Self::Missing(_) => 4,
            Self::Mmface(Library::Device(_) | Library::Gpu(_)) | Self::Device(_) => 5,
            Self::Sink(_) => 6,
            Self::Mmface(_) | Self::Bug(_) => 70,
        }
    }
}
