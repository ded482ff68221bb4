//! Compiled networks, kept on disk: compiling int8 takes a second, reading back a fifth of one.
//!
//! OpenVINO keeps what it compiles in a folder (`CACHE_DIR`) and believes whatever it finds there:
//! a damaged file gives wrong numbers. So it gets a temporary folder for each network, which is
//! filled from our [`Cache`], where every file has a hash, and emptied into it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::backend::cache::{Cache, Found};
use crate::limited::read_limited;

/// Most bytes of a compiled network.
const LARGEST: u64 = 1 << 30;

/// The temporary folders of some networks.
pub(super) struct Compiled {
    folder: TempDir,
    cache: Cache,
    networks: Vec<Network>,
}

struct Network {
    /// Name in the manifest, and of its folder.
    network: String,
    /// Name in the cache.
    name: String,
    /// What came out of the cache, and when it was written into the folder.
    found: Option<(PathBuf, SystemTime)>,
}

impl Compiled {
    /// Takes networks, given by their names in the manifest and in the cache, out of the cache.
    /// `None` if no temporary folder can be made; then everything is compiled anew.
    pub(super) fn take(cache: Cache, names: Vec<(String, String)>) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("mmface-").tempdir().ok()?;
        let mut networks = Vec::with_capacity(names.len());
        for (network, name) in names {
            let own = folder.path().join(&network);
            std::fs::create_dir(&own).ok()?;
            let found = match cache.find(&name) {
                Found::Good(bytes) => unpack(&own, &bytes),
                Found::Missing | Found::Bad(_) => None,
            };
            networks.push(Network { network, name, found });
        }
        Some(Self { folder, cache, networks })
    }

    /// The folder that OpenVINO gets for a network.
    pub(super) fn folder(&self, network: &str) -> PathBuf {
        self.folder.path().join(network)
    }

    /// Whether all networks were in the cache.
    #[cfg(test)]
    fn is_complete(&self) -> bool {
        self.networks.iter().all(|network| network.found.is_some())
    }

    /// Puts into the cache what OpenVINO wrote. What cannot be written is compiled again at the
    /// next start.
    pub(super) fn keep(&self) {
        for network in &self.networks {
            let Some(file) = only_file(&self.folder(&network.network)) else { continue };
            if network.found.as_ref() != Some(&file)
                && let Some(bytes) = pack(&file.0)
            {
                let _ = self.cache.try_store(&network.name, &bytes);
            }
        }
    }
}

/// A file with its name, which OpenVINO looks for, before its bytes.
fn pack(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name()?.to_str()?;
    let bytes = read_limited(path, LARGEST).ok()?;
    Some([name.as_bytes(), b"\n", &bytes].concat())
}

/// Writes what [`pack`] made into a folder.
fn unpack(folder: &Path, packed: &[u8]) -> Option<(PathBuf, SystemTime)> {
    let end = packed.iter().position(|&byte| byte == b'\n')?;
    let name = Path::new(std::str::from_utf8(&packed[..end]).ok()?);
    // A name of a file, and no way out of the folder.
    std::fs::write(folder.join(name.file_name()?), &packed[end + 1..]).ok()?;
    only_file(folder)
}

/// The file in a folder, if it is one, and when it was written.
fn only_file(folder: &Path) -> Option<(PathBuf, SystemTime)> {
    let mut entries = std::fs::read_dir(folder).ok()?;
    let entry = entries.next()?.ok()?;
    let alone = entries.next().is_none();
    let written = entry.metadata().ok()?.modified().ok()?;
    alone.then(|| (entry.path(), written))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(String, String)> {
        vec![("vmn".into(), "vmn-of-some-cpu".into()), ("pmn".into(), "pmn-of-some-cpu".into())]
    }

    #[test]
    fn what_was_compiled_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = || Cache::new(Some(folder.path()));
        let first = Compiled::take(cache(), names()).expect("folders");
        assert!(!first.is_complete());
        std::fs::write(first.folder("vmn").join("12.blob"), b"a network\n").expect("written");
        first.keep();
        let second = Compiled::take(cache(), names()).expect("folders");
        assert!(!second.is_complete(), "the PMN is missing");
        let read = std::fs::read(second.folder("vmn").join("12.blob")).expect("kept");
        assert_eq!(read, b"a network\n");
        std::fs::write(second.folder("pmn").join("34.blob"), b"another").expect("written");
        second.keep();
        let third = Compiled::take(cache(), names()).expect("folders");
        assert!(third.is_complete());
    }

    #[test]
    fn what_is_damaged_is_not_handed_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = || Cache::new(Some(folder.path()));
        let first = Compiled::take(cache(), names()).expect("folders");
        std::fs::write(first.folder("vmn").join("12.blob"), b"a network").expect("written");
        first.keep();
        let path = folder.path().join("vmn-of-some-cpu");
        let mut bytes = std::fs::read(&path).expect("kept");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let second = Compiled::take(cache(), names()).expect("folders");
        assert!(only_file(&second.folder("vmn")).is_none());
    }
}
