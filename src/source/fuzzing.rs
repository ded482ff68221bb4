//! Guarantees of the changes to pictures; see [`crate::fuzzing`].

use super::file::mend_grey_jpeg;

/// A JPEG: at most one byte changes, and a second pass changes nothing.
///
/// # Panics
/// If a guarantee is broken.
pub fn grey_jpeg(bytes: &[u8]) {
    let mut mended = bytes.to_vec();
    mend_grey_jpeg(&mut mended);
    assert_eq!(mended.len(), bytes.len());
    let changed = mended.iter().zip(bytes).filter(|(a, b)| a != b).count();
    assert!(changed <= 1);
    let mut again = mended.clone();
    mend_grey_jpeg(&mut again);
    assert_eq!(again, mended);
}
