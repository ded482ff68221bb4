//! Secrets that the program keeps for its user, in files that nobody else can read.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mmface::limited::read_text_limited;

/// Most bytes of a file.
const LARGEST: u64 = 64 << 10;

/// The folder of the program within the user's configuration: `~/.config/mmface-live`. `None` for a
/// user without a home, as some services are.
#[must_use]
pub(crate) fn folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || Some(PathBuf::from(variable("HOME")?).join(".config"));
    let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
    Some(configuration.join("mmface-live"))
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    read_text_limited(path, LARGEST).map(Some).map_err(|e| io::Error::other(e.to_string()))
}

/// Writes a file that only its owner can read, all of it or nothing. Its folder is made.
///
/// # Errors
/// Why it cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let half = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    let written = file
        // It may have been there before, for others to read.
        .set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_can_read_what_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/secret.json");
        assert_eq!(read(&path).expect("no file"), None);
        for text in ["one", "another"] {
            write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("opened to others");
        }
        write(&path, "last").expect("written");
        assert_eq!(read(&path).expect("a file").as_deref(), Some("last"));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("read").count(), 1);
    }
}
