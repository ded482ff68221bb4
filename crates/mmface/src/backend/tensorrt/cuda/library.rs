//! Finds and loads NVIDIA's libraries. Nothing is loaded before a GPU is requested.

#![allow(unsafe_code, reason = "foreign libraries are loaded")]

use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::Library;

use crate::error::{Error, Result};
use crate::locate;

const CURE: &str =
    "run `make setup-gpu`, or set MMFACE_TENSORRT to the folder with NVIDIA's libraries";

#[cfg(not(feature = "tensorrt-enterprise"))]
mod names {
    pub(super) const FLAVOUR: &str = "rtx";
    pub(super) const TENSORRT: &[&str] = &["libtensorrt_rtx.so.1", "libtensorrt_rtx.so"];
    pub(super) const PARSER: &[&str] =
        &["libtensorrt_onnxparser_rtx.so.1", "libtensorrt_onnxparser_rtx.so"];
}

#[cfg(feature = "tensorrt-enterprise")]
mod names {
    pub(super) const FLAVOUR: &str = "enterprise";
    pub(super) const TENSORRT: &[&str] = &["libnvinfer.so.11", "libnvinfer.so"];
    pub(super) const PARSER: &[&str] = &["libnvonnxparser.so.11", "libnvonnxparser.so"];
}

/// The loaded TensorRT.
#[derive(Debug, Clone)]
pub(super) struct TensorRt {
    /// Flavour and version: `rtx-1.7.1`.
    pub version: String,
}

/// TensorRT and its ONNX parser, loaded on the first successful call.
///
/// # Errors
/// [`Error::Library`] if they are missing or too old.
pub(super) fn tensorrt() -> Result<TensorRt> {
    static LOADED: OnceLock<TensorRt> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded.clone());
    }
    let (path, library) = load(names::TENSORRT, "TensorRT")?;
    // SAFETY: the signature is that of NvInferRuntimeBase.h in every version.
    let number = unsafe {
        library.get::<unsafe extern "C" fn() -> i32>(b"getInferLibVersion\0").map(|f| f())
    };
    let number = number
        .map_err(|e| Error::Library(format!("{} is no TensorRT ({e}); {CURE}", path.display())))?;
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    let version = format!("{}-{major}.{minor}.{patch}", names::FLAVOUR);
    // SAFETY: returns a constant.
    let wanted = unsafe { trtx::trtx_sys::get_tensorrt_version() } as i32;
    if number / 10_000 != wanted / 10_000 || number < wanted {
        return Err(Error::Library(format!(
            "{} is version {number}, {wanted} is needed; {CURE}",
            path.display()
        )));
    }
    let failed = |e| Error::Library(format!("TensorRT cannot be loaded ({e}); {CURE}"));
    trtx::dynamically_load_tensorrt(Some(&path)).map_err(failed)?;
    let (parser, _library) = load(names::PARSER, "TensorRT's reader of ONNX")?;
    trtx::dynamically_load_tensorrt_onnxparser(Some(&parser)).map_err(failed)?;
    // TensorRT's threads may run until the program ends, so the library stays loaded.
    std::mem::forget(library);
    Ok(LOADED.get_or_init(|| TensorRt { version }).clone())
}

/// Loads NVRTC so that cudarc finds it, and returns its version.
///
/// # Errors
/// [`Error::Library`] if it cannot be loaded.
pub(super) fn nvrtc() -> Result<(i32, i32)> {
    static LOADED: OnceLock<(i32, i32)> = OnceLock::new();
    if let Some(version) = LOADED.get() {
        return Ok(*version);
    }
    let (path, library) = load(&["libnvrtc.so.12", "libnvrtc.so.13"], "NVRTC")?;
    // cudarc loads NVRTC by name, and gets the library that is already loaded.
    std::mem::forget(library);
    // SAFETY: tries to load a library whose initialisers have already run.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err(Error::Library(format!("{} is of no use; {CURE}", path.display())));
    }
    let mut version = (0, 0);
    // SAFETY: writes two integers that outlive the call.
    unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut version.0, &raw mut version.1) };
    Ok(*LOADED.get_or_init(|| version))
}

/// Whether the NVIDIA driver's library can be loaded. Without it cudarc panics.
pub(super) fn driver_is_present() -> bool {
    // SAFETY: tries to load the driver, whose initialisers only set it up.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// The latest CUDA version that the driver supports. The driver must be
/// [present](driver_is_present).
pub(super) fn driver_version() -> (i32, i32) {
    let mut version = 0;
    // SAFETY: writes an integer that outlives the call.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) };
    (version / 1000, version % 1000 / 10)
}

/// Loads the first of `names` that works, from this program's folder or the system's.
fn load(names: &[&str], what: &str) -> Result<(PathBuf, Library)> {
    let folders = ["lib/mmface-live/gpu", "vendor/gpu"];
    let folder = match locate::find(None, "MMFACE_TENSORRT", &folders) {
        Ok(folder) => Some(folder),
        // A folder named by the user must exist; otherwise the system's libraries will do.
        Err(why)
            if std::env::var_os("MMFACE_TENSORRT").is_some_and(|folder| !folder.is_empty()) =>
        {
            return Err(Error::Library(format!("{why}; {CURE}")));
        }
        Err(_) => None,
    };
    let ours = folder.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    let paths: Vec<_> =
        ours.filter(|p| p.exists()).chain(names.iter().map(PathBuf::from)).collect();
    let mut why = String::new();
    for path in paths {
        // SAFETY: NVIDIA's libraries may be loaded at any time, from any thread.
        match unsafe { Library::new(&path) } {
            Ok(library) => return Ok((path, library)),
            Err(error) if why.is_empty() => why = error.to_string(),
            Err(_) => {}
        }
    }
    Err(Error::Library(format!("{what} cannot be loaded ({why}); {CURE}")))
}
