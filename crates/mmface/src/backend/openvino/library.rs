//! Finds and loads OpenVINO's C library, as shipped in OpenVINO's Python wheel.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openvino::Core;

use crate::error::{Error, Result};
use crate::locate;

const CURE: &str = "run `make setup`, or set MMFACE_OPENVINO to the folder with libopenvino_c.so";
/// Set once the library is loaded.
static LOADED: OnceLock<()> = OnceLock::new();

/// Creates an OpenVINO core; loads the library on the first call.
///
/// # Errors
/// [`Error::Library`] if the library is missing, cannot be loaded or does not start.
pub fn core() -> Result<Core> {
    if LOADED.get().is_none() {
        let folder = locate::find(None, "MMFACE_OPENVINO", &["lib/mmface-live", "vendor/lib"])
            .map_err(|why| Error::Library(format!("{why}; {CURE}")))?;
        load_from(&folder).map_err(|why| Error::Library(format!("{why}; {CURE}")))?;
    }
    Core::new().map_err(|e| Error::Library(format!("OpenVINO does not start ({e}); {CURE}")))
}

/// Loads OpenVINO from `folder`, for callers that know where it is. It is loaded once: after the
/// first success, here or by [`core()`], this does nothing.
///
/// # Errors
/// [`Error::Library`], without what the user can do, if the folder does not hold the library or it
/// cannot be loaded.
pub fn load_from(folder: &Path) -> Result<()> {
    if LOADED.get().is_some() {
        return Ok(());
    }
    let library = c_library(folder)
        .ok_or_else(|| Error::Library(format!("{} holds no libopenvino_c.so", folder.display())))?;
    openvino_sys::library::load_from(library).map_err(|e| {
        Error::Library(format!("OpenVINO in {} cannot be loaded ({e})", folder.display()))
    })?;
    LOADED.get_or_init(|| ());
    Ok(())
}

/// The C library in a folder. The wheel has only versioned names (`libopenvino_c.so.2641`).
fn c_library(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut found: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libopenvino_c.so"))
        })
        .collect();
    found.sort();
    found.pop()
}
