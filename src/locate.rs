//! Where engines, models and libraries lie, so that nobody has to export anything.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The first of `names` (paths below an installation's prefix or below a checkout) that exists,
/// unless the user `said` a path by a flag or the environment `variable` ("": there is none).
/// Searched upwards from the executable, which finds both an installation (`prefix/bin`) and a
/// checkout (`target/release`), then in the working directory.
///
/// # Errors
/// [`Error::Engine`] that names what is missing and `cure`.
pub fn find(said: Option<&Path>, variable: &str, names: &[&str], cure: &str) -> Result<PathBuf> {
    let set = || std::env::var_os(variable).filter(|value| !value.is_empty());
    let said = said.map(Path::to_path_buf).or_else(|| set().map(Into::into));
    if let Some(path) = said {
        return if path.exists() {
            Ok(path)
        } else {
            Err(Error::Engine(format!("{} does not exist; {cure}", path.display())))
        };
    }
    roots()
        .iter()
        .flat_map(|root| names.iter().map(|name| root.join(name)))
        .find(|p| p.exists())
        .ok_or_else(|| {
            let name = names.first().copied().unwrap_or_default();
            Error::Engine(format!("{name} was not found beside the program or here; {cure}"))
        })
}

fn roots() -> Vec<PathBuf> {
    let executable = std::env::current_exe().and_then(|p| p.canonicalize());
    let ancestors = executable.iter().flat_map(|p| p.ancestors().skip(1).take(4));
    ancestors.map(Path::to_path_buf).chain(std::env::current_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_said_wins_or_fails() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = find(Some(here), "MMFACE_TEST_UNSET", &["nowhere"], "").expect("exists");
        assert_eq!(found, here);
        let missing =
            find(Some(Path::new("/nonexistent")), "MMFACE_TEST_UNSET", &[], "try make setup");
        assert!(missing.expect_err("missing").to_string().contains("try make setup"));
    }

    #[test]
    fn the_checkout_is_found_from_its_tests() {
        // Tests run in the package's root.
        assert!(find(None, "MMFACE_TEST_UNSET", &["Cargo.toml"], "").is_ok());
    }
}
