//! HEIC and AVIF, by libheif if it is installed (Debian's OpenCV brings it). It is loaded when the
//! first such picture comes, so the program starts without it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use image::metadata::Orientation;
use libloading::Library;

use super::{MaxPixels, Pixels, Reason, damaged, rgb};

const FILE: &str = "libheif.so.1";
const MISSING: &str = "is a HEIC or AVIF picture, which libheif reads: install it with: apt-get \
                       install libheif1";

// Values of `heif_colorspace`, `heif_chroma` and `heif_channel`.
const RGB: c_int = 1;
const INTERLEAVED_RGB: c_int = 10;
const INTERLEAVED: c_int = 10;

#[repr(C)]
struct Status {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

/// The beginning of libheif's struct, which is the same since its version 1.0 (the last field
/// since 1.7).
#[repr(C)]
struct Options {
    version: u8,
    ignore_transformations: u8,
    callbacks: [*const c_void; 4],
    convert_hdr_to_8bit: u8,
}

/// libheif's functions, named as there without `heif_`.
struct Functions {
    context_alloc: unsafe extern "C" fn() -> *mut c_void,
    context_free: unsafe extern "C" fn(*mut c_void),
    read_from_memory:
        unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void) -> Status,
    primary_handle: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Status,
    handle_release: unsafe extern "C" fn(*const c_void),
    handle_width: unsafe extern "C" fn(*const c_void) -> c_int,
    handle_height: unsafe extern "C" fn(*const c_void) -> c_int,
    options_alloc: unsafe extern "C" fn() -> *mut Options,
    options_free: unsafe extern "C" fn(*mut Options),
    decode: unsafe extern "C" fn(
        *const c_void,
        *mut *mut c_void,
        c_int,
        c_int,
        *const Options,
    ) -> Status,
    image_release: unsafe extern "C" fn(*const c_void),
    image_width: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    image_height: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    plane: unsafe extern "C" fn(*const c_void, c_int, *mut c_int) -> *const u8,
    /// Keeps the functions loaded.
    _library: Library,
}

impl Functions {
    /// The functions; `None` if libheif is not installed.
    fn get() -> Option<&'static Self> {
        static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
        FUNCTIONS
            .get_or_init(|| Self::load().inspect_err(|e| tracing::debug!("{FILE}: {e}")).ok())
            .as_ref()
    }

    #[allow(unsafe_code)]
    fn load() -> Result<Self, libloading::Error> {
        // SAFETY: The library's initialisers have no requirements. The types are those of heif.h.
        unsafe {
            let library = Library::new(FILE)?;
            Ok(Self {
                context_alloc: *library.get(b"heif_context_alloc\0")?,
                context_free: *library.get(b"heif_context_free\0")?,
                read_from_memory: *library.get(b"heif_context_read_from_memory_without_copy\0")?,
                primary_handle: *library.get(b"heif_context_get_primary_image_handle\0")?,
                handle_release: *library.get(b"heif_image_handle_release\0")?,
                handle_width: *library.get(b"heif_image_handle_get_width\0")?,
                handle_height: *library.get(b"heif_image_handle_get_height\0")?,
                options_alloc: *library.get(b"heif_decoding_options_alloc\0")?,
                options_free: *library.get(b"heif_decoding_options_free\0")?,
                decode: *library.get(b"heif_decode_image\0")?,
                image_release: *library.get(b"heif_image_release\0")?,
                image_width: *library.get(b"heif_image_get_width\0")?,
                image_height: *library.get(b"heif_image_get_height\0")?,
                plane: *library.get(b"heif_image_get_plane_readonly\0")?,
                _library: library,
            })
        }
    }
}

/// Calls a function when dropped.
struct Free<F: FnMut()>(F);

impl<F: FnMut()> Drop for Free<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[allow(unsafe_code)]
fn check(status: &Status) -> Result<(), Reason> {
    if status.code == 0 {
        return Ok(());
    }
    if status.message.is_null() {
        return Err(damaged(format!("libheif's error {}.{}", status.code, status.subcode)));
    }
    // SAFETY: The message is a C string that lives as long as the context, which the callers hold.
    Err(damaged(unsafe { CStr::from_ptr(status.message) }.to_string_lossy()))
}

/// Decodes the main picture, upright.
#[allow(unsafe_code)]
pub(super) fn decode(bytes: &[u8], limit: MaxPixels) -> Result<Pixels, Reason> {
    let heif = Functions::get().ok_or(MISSING)?;
    let out_of_memory = || Reason::from("needs more memory than there is");
    // SAFETY: Every pointer comes from libheif, is checked, used as heif.h says, and freed once, in
    // reverse order. `bytes` outlives the context that refers to it.
    unsafe {
        let context = (heif.context_alloc)();
        if context.is_null() {
            return Err(out_of_memory());
        }
        let _context = Free(|| (heif.context_free)(context));
        check(&(heif.read_from_memory)(context, bytes.as_ptr().cast(), bytes.len(), null()))?;
        let mut handle = null_mut();
        check(&(heif.primary_handle)(context, &raw mut handle))?;
        let _handle = Free(|| (heif.handle_release)(handle));
        let side = |length: c_int| u32::try_from(length).map_err(damaged);
        limit.room(side((heif.handle_width)(handle))?, side((heif.handle_height)(handle))?)?;

        let options = (heif.options_alloc)();
        if options.is_null() {
            return Err(out_of_memory());
        }
        if (*options).version >= 2 {
            (*options).convert_hdr_to_8bit = 1;
        }
        let _options = Free(|| (heif.options_free)(options));
        let mut image = null_mut();
        check(&(heif.decode)(handle, &raw mut image, RGB, INTERLEAVED_RGB, options))?;
        let _image = Free(|| (heif.image_release)(image));
        let width = side((heif.image_width)(image, INTERLEAVED))?;
        let height = side((heif.image_height)(image, INTERLEAVED))?;
        let mut stride = 0;
        let plane = (heif.plane)(image, INTERLEAVED, &raw mut stride);
        let row = 3 * width as usize;
        let stride = usize::try_from(stride).map_err(damaged)?;
        if plane.is_null() || stride < row || width == 0 || height == 0 {
            return Err(damaged("libheif gives no pixels"));
        }
        let mut pixels = Vec::with_capacity(row * height as usize);
        for y in 0..height as usize {
            pixels.extend_from_slice(std::slice::from_raw_parts(plane.add(y * stride), row));
        }
        // libheif has turned it.
        Ok(Pixels::still(rgb(width, height, pixels)?, Orientation::NoTransforms))
    }
}
