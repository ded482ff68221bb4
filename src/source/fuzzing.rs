//! Guarantees of the reader of pictures; see [`crate::fuzzing`].

use super::still::{self, MaxPixels};

/// Most pixels of a fuzzed picture.
const PIXELS: u64 = 1 << 16;

/// Any bytes are a picture of the size that is allowed, or refused.
///
/// # Panics
/// If a guarantee is broken.
pub fn picture(bytes: &[u8]) {
    if let Ok(still) = still::decode(bytes, MaxPixels(PIXELS)) {
        let image = still.decoded.pixels.image();
        assert!(u64::from(image.width) * u64::from(image.height) <= PIXELS);
        assert!(image.check().is_ok());
    }
}
