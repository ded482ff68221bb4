//! Every way in which this library can fail, one sentence each.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, told in one sentence.
///
/// The sentences name no flags and no files of a program: a program that knows how its users choose a
/// device or a folder adds that, by the variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be, or not together with the others.
    #[error("{0}")]
    Setting(String),
    /// A precision that the device does not compute in.
    #[error("{0}")]
    Precision(String),
    /// Volumes of the volume head, on a device that has none.
    #[error("volume heads run on the CPU only so far")]
    Volumes,
    /// Model files are missing, damaged or unusable.
    #[error("{0}")]
    Models(String),
    /// A model file is not what the manifest says it is.
    #[error(
        "{} is not the file that the manifest describes (SHA-256 {found} instead of {expected}); \
         restore it from the repository or the installation", path.display()
    )]
    ModelHash {
        /// The file.
        path: PathBuf,
        /// Hash of what lies there, hexadecimal.
        found: String,
        /// Hash in the manifest, hexadecimal.
        expected: String,
    },
    /// The face detector's file is missing, damaged or unusable.
    #[error("{0}")]
    Detector(String),
    /// A library that runs the networks is missing or unusable.
    #[error("{0}")]
    Library(String),
    /// The CPU's runtime failed, or there is no memory or no thread left.
    #[error("{0}")]
    Device(String),
    /// The GPU is not there, failed or ran out of memory.
    #[error("{0}")]
    Gpu(String),
    /// An image whose planes are not what its size says.
    #[error("{0}")]
    Image(String),
    /// A bug of this library.
    #[error("internal error: {0}; please report it")]
    Bug(String),
}
