//! Finds model files and libraries in their usual places.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file of the module that holds this library; see [`set_module`].
static MODULE: OnceLock<PathBuf> = OnceLock::new();

/// For a library inside a module that a foreign program loads, such as a GStreamer plugin: names
/// the module's file. From then on [`find`] searches beside it too, before the executable. The
/// first call counts.
pub fn set_module(file: &Path) {
    MODULE.get_or_init(|| file.to_path_buf());
}

/// Nothing exists in any of the places searched. The message is a clause without a full stop:
/// callers append what the user can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds a file or folder. If `path` is given, or else the environment variable `variable` is set
/// to a non-empty value, that is the answer. Otherwise it is the first of `names` (paths below an
/// installation's prefix or below a checkout) that exists. `names` are searched for in the folder
/// of the executable and three folders above it, which covers an installation (`prefix/bin`, or
/// `prefix/lib/x86_64-linux-gnu/gstreamer-1.0` of a [module](set_module)) and a checkout
/// (`target/release`), then in the working directory. `variable` may be "" for none.
///
/// # Errors
/// [`NotFound`] if the path does not exist or none of `names` was found.
pub fn find(
    path: Option<&Path>,
    variable: &str,
    names: &[&str],
) -> std::result::Result<PathBuf, NotFound> {
    let set = || std::env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(path) = path.map(Path::to_path_buf).or_else(|| set().map(Into::into)) {
        return if path.exists() {
            Ok(path)
        } else {
            Err(NotFound(format!("{} does not exist", path.display())))
        };
    }
    let places = roots(MODULE.get())
        .into_iter()
        .flat_map(|root| names.iter().map(move |name| root.join(name)));
    places.into_iter().find(|place| place.exists()).ok_or_else(|| {
        let name = names.first().copied().unwrap_or_default();
        let beside = if MODULE.get().is_some() { "the plugin, the program" } else { "the program" };
        NotFound(format!("{name} was not found beside {beside} or in the working directory"))
    })
}

fn roots(module: Option<&PathBuf>) -> Vec<PathBuf> {
    let module = module.and_then(|p| p.canonicalize().ok());
    let executable = std::env::current_exe().and_then(|p| p.canonicalize()).ok();
    let files = module.iter().chain(&executable);
    let ancestors = files.flat_map(|p| p.ancestors().skip(1).take(4));
    ancestors.map(Path::to_path_buf).chain(std::env::current_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_named_wins_or_fails() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(find(Some(here), "MMFACE_TEST_UNSET", &["nowhere"]).as_deref(), Ok(here));
        let missing = find(Some(Path::new("/nonexistent")), "MMFACE_TEST_UNSET", &[]);
        assert_eq!(missing.expect_err("missing").to_string(), "/nonexistent does not exist");
    }

    #[test]
    fn what_lies_in_the_working_directory_is_found() {
        // Tests run in the package's root.
        assert!(find(None, "MMFACE_TEST_UNSET", &["Cargo.toml"]).is_ok());
    }
    #[test]
    fn the_prefix_of_a_plugin_comes_before_that_of_the_program() {
        let prefix = tempfile::tempdir().expect("a folder");
        let folder = prefix.path().join("lib/x86_64-linux-gnu/gstreamer-1.0");
        std::fs::create_dir_all(&folder).expect("a folder");
        let plugin = folder.join("libgstmmface.so");
        std::fs::write(&plugin, "").expect("a file");
        let prefix = prefix.path().canonicalize().expect("it is there");
        let place = |roots: Vec<PathBuf>| roots.iter().position(|root| *root == prefix);
        assert_eq!(place(roots(Some(&plugin))), Some(3));
        assert_eq!(place(roots(None)), None);
    }
}
