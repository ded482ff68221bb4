//! The errors of this library, one sentence each.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error. Its message is one sentence.
///
/// Messages name no command line flags and no files of a program. A program adds how its users
/// change the device, the folder and so on; the variant says which of these is concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that is invalid, by itself or together with others.
    #[error("{0}")]
    Setting(String),
    /// The device does not support the requested precision.
    #[error("{0}")]
    Precision(String),
    /// Volumes of the volume head were requested on a device that cannot run volume heads.
    #[error("volume heads run on the CPU only so far")]
    Volumes,
    /// Model files are missing, damaged or unusable.
    #[error("{0}")]
    Models(String),
    /// The hash of a model file differs from the one in the manifest.
    #[error(
        "{} is not the file that the manifest describes (SHA-256 {found} instead of {expected}); \
         restore it from the repository or the installation", path.display()
    )]
    ModelHash {
        /// Path of the file.
        path: PathBuf,
        /// SHA-256 of the file, hexadecimal.
        found: String,
        /// SHA-256 in the manifest, hexadecimal.
        expected: String,
    },
    /// The face detector's file is missing, damaged or unusable.
    #[error("{0}")]
    Detector(String),
    /// A library that runs networks is missing or unusable.
    #[error("{0}")]
    Library(String),
    /// The CPU's inference runtime failed, or memory or threads ran out.
    #[error("{0}")]
    Device(String),
    /// There is no GPU, or it failed or ran out of memory.
    #[error("{0}")]
    Gpu(String),
    /// The planes of an image do not match its size.
    #[error("{0}")]
    Image(String),
    /// A bug of this library.
    #[error("internal error: {0}; please report it")]
    Bug(String),
}
