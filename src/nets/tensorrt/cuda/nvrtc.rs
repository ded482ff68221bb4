//! The preprocessing kernel, compiled by NVRTC.

use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use sha2::{Digest, Sha256};

use super::library;
use crate::nets::tensorrt::{Cache, Chip, kernel};
use crate::{Error, Result};

/// PTX of the preprocessing kernel for a chip. Needs no GPU.
///
/// # Errors
/// [`Error::Engine`] if NVRTC is not there or does not know the chip.
pub fn compile(chip: Chip) -> Result<String> {
    library::nvrtc()?;
    let options = CompileOptions {
        // Rounds as the reference on the CPU does; the kernel waits for memory anyway.
        fmad: Some(false),
        options: vec![
            format!("--gpu-architecture=compute_{}", chip.number()),
            "-default-device".into(),
        ],
        name: Some("crop.cu".into()),
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(kernel::SOURCE, options).map_err(|e| {
        let why = match &e {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        };
        Error::Engine(format!("NVRTC cannot compile the kernel for {chip}: {}", why.trim()))
    })?;
    // A C string: the driver wants the text.
    let bytes = ptx.as_bytes().unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned())
}

/// The same out of the cache, if it is there.
///
/// # Errors
/// As [`compile`].
pub fn cached(cache: &Cache, chip: Chip) -> Result<String> {
    let (major, minor) = library::nvrtc()?;
    let source = Sha256::digest(kernel::SOURCE);
    let [a, b, c, d, ..] = source[..] else { return compile(chip) };
    let name = format!("crop-{a:02x}{b:02x}{c:02x}{d:02x}-nvrtc-{major}.{minor}-{chip}.ptx");
    let open = |bytes: &[u8]| Ok(String::from_utf8_lossy(bytes).into_owned());
    cache.get(&name, open, || Ok(compile(chip)?.into_bytes()))
}
