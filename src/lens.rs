//! What is known of a camera's lens.

use std::fmt::{self, Display};

use mmface::face::Camera;

/// Diagonal of 35 mm film in millimetres, to which equivalent focal lengths refer (CIPA DCG-001).
const FILM_DIAGONAL: f32 = 43.266_6;

/// How the focal length is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lens {
    /// Degrees from the left to the right edge of the picture.
    View(f32),
    /// Focal length in pixels.
    Focal(f32),
    /// Each picture's file says it (EXIF).
    Exif,
}

impl Lens {
    /// The camera of a frame of this size. `written` is the focal length in pixels that the frame's
    /// file names. `None` if nothing is known.
    #[must_use]
    pub fn camera(self, width: u32, height: u32, written: Option<f32>) -> Option<Camera> {
        match self {
            Self::View(degrees) => Some(Camera::of_view(degrees, width, height)),
            Self::Focal(pixels) => Some(Camera::of_focal(pixels, width, height)),
            Self::Exif => written.map(|pixels| Camera::of_focal(pixels, width, height)),
        }
    }
}

/// As in the records' header.
impl Display for Lens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(degrees) => write!(f, "fov {degrees}"),
            Self::Focal(pixels) => write!(f, "focal {pixels}"),
            Self::Exif => f.write_str("exif"),
        }
    }
}

/// The focal length in pixels of a picture of this size, by the focal length for 35 mm film in its
/// file. `None` if the file does not say.
pub(crate) fn written(file: &[u8], width: u32, height: u32) -> Option<f32> {
    let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(file)).ok()?;
    let field = exif.get_field(exif::Tag::FocalLengthIn35mmFilm, exif::In::PRIMARY)?;
    let millimetres = field.value.get_uint(0).filter(|&mm| mm > 0)? as f32;
    Some(millimetres / FILM_DIAGONAL * (width as f32).hypot(height as f32))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    /// A TIFF whose EXIF says a focal length.
    fn file(millimetres: u16) -> Vec<u8> {
        let entry = |tag: u16, kind: u16, value: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            bytes
        };
        let mut bytes = b"II*\0\x08\0\0\0\x01\0".to_vec();
        bytes.extend(entry(0x8769, 4, 26));
        bytes.extend([0; 4]);
        bytes.extend([1, 0]);
        bytes.extend(entry(0xa405, 3, millimetres.into()));
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn the_focal_length_for_35_mm_film_becomes_pixels() {
        // 36 mm of film are as wide as the picture: 28 mm see 65.5°.
        let focal = written(&file(28), 3600, 2400).unwrap();
        assert!((focal - 2800.0).abs() < 1.0, "{focal}");
        let camera = Lens::Exif.camera(3600, 2400, Some(focal)).unwrap();
        assert!(
            (camera.focal - Lens::View(65.47).camera(3600, 2400, None).unwrap().focal).abs() < 3.0
        );
        assert_eq!(written(&file(0), 3600, 2400), None, "unknown, by EXIF's convention");
        assert_eq!(written(b"\xff\xd8\xff\xd9", 10, 10), None);
        assert_eq!(Lens::Exif.camera(10, 10, None), None);
    }
}
