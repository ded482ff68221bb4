//! A cache on disk for compiled networks and kernels.
//!
//! A file's name contains everything that the file depends on, so outdated files are never asked
//! for. A file starts with a hash of its name and contents, so damaged, truncated or foreign files
//! are detected before a library reads them. Files are written under a temporary name and renamed:
//! readers see a complete file or none, and two programs that write the same file at the same time
//! write the same bytes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::limited::{Why, read_limited};

const MAGIC: &[u8; 8] = b"mmface-1";
/// Most bytes of a file.
const LARGEST: u64 = 2 << 30;
const HEADER: usize = MAGIC.len() + 32;

/// The result of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The contents that were stored.
    Good(Vec<u8>),
    /// There is no file of that name.
    Missing,
    /// The file is unusable. The text is a predicate that says why.
    Bad(String),
}

/// A cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The cache in `folder`, by default in the user's cache folder. Nothing is created yet.
    /// Without a home folder there is no cache: nothing is found and nothing stored.
    #[must_use]
    pub fn new(folder: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || variable("HOME").map(|home| home.join(".cache"));
        let default = || Some(variable("XDG_CACHE_HOME").or_else(home)?.join("mmface-live"));
        Self { folder: folder.map(Path::to_path_buf).or_else(default) }
    }

    /// The folder, if there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Looks up a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(name)) else {
            return Found::Missing;
        };
        match read_limited(&path, LARGEST) {
            Ok(bytes) => contents(name, bytes),
            Err(e) => match e.why {
                Why::Io(e) if e.kind() == std::io::ErrorKind::NotFound => Found::Missing,
                why => Found::Bad(format!("cannot be read: {why}")),
            },
        }
    }

    /// Stores bytes under a name. A failure is logged and otherwise ignored: it only costs time at
    /// the next start.
    pub fn store(&self, name: &str, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if let Err(e) = self.try_store(name, bytes) {
            tracing::warn!(
                "{name} is not kept: {} cannot be written ({e}); name another folder for the engine cache",
                folder.display()
            );
        }
    }

    /// Stores bytes under a name. Without a folder it does nothing.
    ///
    /// # Errors
    /// Why the file cannot be written.
    pub fn try_store(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| write(folder, name, bytes))
    }

    /// Looks up `name` and opens the contents. If they are missing or cannot be opened, makes,
    /// stores and opens them anew, and logs why.
    ///
    /// # Errors
    /// Those of `make`, and those of `open` for contents that were just made.
    pub fn get<T>(
        &self,
        name: &str,
        mut open: impl FnMut(&[u8]) -> crate::error::Result<T>,
        make: impl FnOnce() -> crate::error::Result<Vec<u8>>,
    ) -> crate::error::Result<T> {
        match self.find(name) {
            Found::Good(bytes) => match open(&bytes) {
                Ok(opened) => return Ok(opened),
                Err(error) => tracing::warn!("{name} is made anew: {error}"),
            },
            Found::Bad(why) => tracing::warn!("{name} is made anew: it {why}"),
            Found::Missing => {}
        }
        let bytes = make()?;
        self.store(name, &bytes);
        open(&bytes)
    }

    /// The names of all files in the cache, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = self.folder.as_ref().and_then(|folder| std::fs::read_dir(folder).ok());
        let names =
            entries.into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }
}

fn header(name: &str, bytes: &[u8]) -> [u8; HEADER] {
    let hash = Sha256::new().chain_update(name).chain_update([0]).chain_update(bytes).finalize();
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(&hash);
    header
}

fn contents(name: &str, mut bytes: Vec<u8>) -> Found {
    if bytes.get(..MAGIC.len()) != Some(MAGIC) {
        return Found::Bad("is no file of this program".into());
    }
    if bytes.len() < HEADER || bytes[..HEADER] != header(name, &bytes[HEADER..]) {
        return Found::Bad("is cut off or damaged".into());
    }
    bytes.drain(..HEADER);
    Found::Good(bytes)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let ticks = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
    let temporary = folder.join(format!(".{name}.{}-{ticks}", std::process::id()));
    let written = std::fs::File::create_new(&temporary)
        .and_then(|mut file| {
            file.write_all(&header(name, bytes))?;
            file.write_all(bytes)?;
            // Otherwise a power failure could leave the new name without contents.
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(Some(&folder.path().join("deep/er")));
        (folder, cache)
    }

    fn text(bytes: &[u8]) -> crate::error::Result<String> {
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Library("no text".into()))
    }

    #[test]
    fn made_once() {
        let (_folder, cache) = cache();
        assert_eq!(cache.find("a"), Found::Missing);
        let get = |made: &'static str| cache.get("a", text, || Ok(made.into())).expect("made");
        assert_eq!(get("first"), "first");
        assert_eq!(get("second"), "first");
        assert_eq!(cache.names(), ["a"]);
    }

    #[test]
    fn what_is_damaged_is_made_anew() {
        let (_folder, cache) = cache();
        cache.store("a", b"first");
        let path = cache.folder().expect("a folder").join("a");
        let whole = std::fs::read(&path).expect("stored");
        let mut flipped = whole.clone();
        *flipped.last_mut().expect("bytes") ^= 1;
        cache.store("b", b"other");
        let other = std::fs::read(path.with_file_name("b")).expect("stored");
        for bad in [&whole[..whole.len() - 1], &whole[..20], b"", b"foreign", &flipped, &other] {
            std::fs::write(&path, bad).expect("written");
            assert!(matches!(cache.find("a"), Found::Bad(_)));
            assert_eq!(cache.get("a", text, || Ok(b"again".into())).expect("made"), "again");
            assert_eq!(cache.find("a"), Found::Good(b"again".into()));
        }
        // Intact, but of no use to whoever opens it.
        cache.store("a", &[0xff]);
        assert_eq!(cache.get("a", text, || Ok(b"text".into())).expect("made"), "text");
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_no_harm() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        // A file where the folder should be: unwritable for root, too.
        let cache = Cache::new(Some(file.path()));
        assert_eq!(cache.get("a", text, || Ok(b"made".into())).expect("made"), "made");
        assert!(cache.names().is_empty());
    }

    #[test]
    fn many_at_once() {
        let (_folder, cache) = cache();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.store("a", b"the same bytes");
                        assert_eq!(cache.find("a"), Found::Good(b"the same bytes".into()));
                    }
                });
            }
        });
        assert_eq!(cache.names(), ["a"]);
        let left = std::fs::read_dir(cache.folder().expect("a folder")).expect("there").count();
        assert_eq!(left, 1, "temporary files are gone");
    }
}
