//! The errors of a run, one sentence each, and their exit codes.

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error. Its message is one sentence.
///
/// The variants correspond to the program's exit codes: they are as fine as a shell script needs,
/// and no finer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Wrong flags or configuration.
    #[error("{0}")]
    Usage(String),
    /// A source cannot be opened, or is lost and not reconnected.
    #[error("{0}")]
    Source(String),
    /// An error of the library `mmface`.
    #[error(transparent)]
    Mmface(#[from] mmface::Error),
    /// A file that the program needs is not installed.
    #[error("{0}")]
    Missing(String),
    /// No more threads or memory are available.
    #[error("{0}")]
    Device(String),
    /// A sink cannot be opened or written.
    #[error("{0}")]
    Sink(String),
    /// Streams of a run failed, and each has told why.
    #[error("streams failed (first {first}, {failed} in all) for the reasons given above")]
    Streams {
        /// How often one failed.
        failed: usize,
        /// Name of the first.
        first: String,
        /// The exit code of the first's error.
        code: u8,
    },
    /// The reader of standard output has closed it, as a pager does. Not a failure.
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
            Self::Streams { code, .. } => *code,
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
