//! Reads files that outsiders name: never more than a limit, and nothing that never ends.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {why}", path.display())]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// The system's reason.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is larger than any such file.
    #[error("it has more than {limit} bytes, the most that is read of it")]
    TooLarge {
        /// Most bytes.
        limit: u64,
    },
    /// It is a folder, a device or a pipe.
    #[error("it is {0} and no file")]
    NoFile(&'static str),
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NoText,
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`Unreadable`], also for anything but a regular file.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Unreadable> {
    read(path, limit, false).map_err(|why| Unreadable { path: path.to_path_buf(), why })
}

/// As [`read_limited`], for text, which may also come from a pipe.
///
/// # Errors
/// As [`read_limited`].
pub fn read_text_limited(path: &Path, limit: u64) -> Result<String, Unreadable> {
    read(path, limit, true)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| Why::NoText))
        .map_err(|why| Unreadable { path: path.to_path_buf(), why })
}

/// Opens a file of at most `limit` bytes, of which no more can be read.
///
/// # Errors
/// As [`read_limited`].
pub fn open_limited(path: &Path, limit: u64) -> Result<io::Take<File>, Unreadable> {
    open(path, limit, false).map_err(|why| Unreadable { path: path.to_path_buf(), why })
}

fn open(path: &Path, limit: u64, pipes: bool) -> Result<io::Take<File>, Why> {
    let about = path.metadata()?;
    let kind = about.file_type();
    // Before it is opened: to open a pipe means to wait for its writer.
    if !(about.is_file() || pipes && kind.is_fifo()) {
        return Err(Why::NoFile(name(kind)));
    }
    if about.len() > limit {
        return Err(Why::TooLarge { limit });
    }
    Ok(File::open(path)?.take(limit.saturating_add(1)))
}

fn read(path: &Path, limit: u64, pipes: bool) -> Result<Vec<u8>, Why> {
    let mut bytes = Vec::new();
    open(path, limit, pipes)?.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Why::TooLarge { limit });
    }
    Ok(bytes)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read_limited(&path, 5).expect("fits"), b"12345");
        let error = read_limited(&path, 4).expect_err("too large");
        assert!(matches!(error.why, Why::TooLarge { limit: 4 }));
        assert!(error.to_string().contains("more than 4 bytes"), "{error}");
    }

    #[test]
    fn what_never_ends_is_no_file() {
        for path in ["/dev/zero", "/dev/urandom", "/tmp"] {
            let path = Path::new(path);
            assert!(matches!(read_limited(path, 5).expect_err("none").why, Why::NoFile(_)));
            assert!(matches!(read_text_limited(path, 5).expect_err("none").why, Why::NoFile(_)));
        }
    }
}
