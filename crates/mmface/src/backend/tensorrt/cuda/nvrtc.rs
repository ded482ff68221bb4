//! Compiles the crop kernel with NVRTC.

#![allow(unsafe_code, reason = "NVRTC is a C library")]

use std::ffi::{CString, c_char};

use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::sys;
use sha2::{Digest, Sha256};

use super::library;
use crate::backend::tensorrt::{Cache, Chip, Compiled, kernel};
use crate::error::{Error, Result};

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was created by NVRTC and is destroyed only here.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Compiles the crop kernel for a chip. Needs no GPU.
///
/// # Errors
/// [`Error::Library`] if NVRTC cannot be loaded or does not support the chip.
pub fn compile(chip: Chip) -> Result<Compiled> {
    compile_source(kernel::SOURCE, chip)
}

/// Compiles any kernel, as [`compile`] does.
pub(super) fn compile_source(source: &str, chip: Chip) -> Result<Compiled> {
    library::nvrtc()?;
    let failed = |why: String| {
        Error::Library(format!("NVRTC cannot compile the kernel for {chip}: {}", why.trim()))
    };
    let nvrtc_error = |e: NvrtcError| failed(format!("{:?}", e.0));
    let source = CString::new(source).map_err(|e| failed(e.to_string()))?;
    let program = Program(result::create_program(&source, Some(c"crop.cu")).map_err(nvrtc_error)?);
    // Without fused multiply-add, rounding is the same as in the reference on the CPU.
    let options = [format!("--gpu-architecture={chip}"), "--fmad=false".into()];
    // SAFETY: the program lives until the end of this function, and so does its source.
    unsafe {
        if result::compile_program(program.0, &options).is_err() {
            let log = result::get_program_log(program.0).map_err(nvrtc_error)?;
            return Err(failed(text(&log)));
        }
        let ptx = text(&result::get_ptx(program.0).map_err(nvrtc_error)?);
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program.0, &raw mut size).result().map_err(nvrtc_error)?;
        let mut code = vec![0; size];
        sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()).result().map_err(nvrtc_error)?;
        Ok(Compiled { ptx, code })
    }
}

/// A C string as Rust string.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The machine code for a chip, from the cache if possible. Machine code rather than PTX, because a
/// driver older than NVRTC rejects NVRTC's PTX.
///
/// # Errors
/// As [`compile`].
pub(super) fn cached(cache: &Cache, chip: Chip) -> Result<Vec<u8>> {
    let (major, minor) = library::nvrtc()?;
    let source = Sha256::digest(kernel::SOURCE);
    let source: String = source.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("crop-{source}-nvrtc-{major}.{minor}-{chip}.cubin");
    cache.get(&name, |bytes| Ok(bytes.to_vec()), || Ok(compile(chip)?.code))
}
