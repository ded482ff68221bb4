//! Video and picture files.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::elements::{DECODEBIN, FILE_SOURCE, SINK_CHAIN, element, pipeline};
use super::failure::{Failure, Kind};
use crate::{Error, Result};

/// File name extensions of pictures.
const PICTURES: [&str; 13] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "webp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm"];

/// Whether `path` has the extension of a picture.
#[must_use]
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    PICTURES.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Whether `path` has the extension of a GIF. After the last frame of a GIF, GStreamer's reader
/// often neither ends nor fails.
pub(super) fn is_gif(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gif"))
}

/// The name of a picture in the records; `None` if `path` is not a picture.
pub(super) fn picture_name(path: &Path) -> Option<Arc<str>> {
    is_picture(path).then(|| path.file_name().unwrap_or_default().to_string_lossy().into())
}

/// Checks everything about a file that can be checked without decoding it.
pub(super) fn check(path: &Path) -> Result<()> {
    let name = path.display();
    let refuse = |text: String| Err(Error::Source(text));
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            refuse(format!("{name} does not exist; check the path after --file"))
        }
        Err(e) => refuse(format!("{name} cannot be read: {e}")),
        Ok(m) if m.is_dir() => {
            refuse(format!("{name} is a folder; use --images {name} for the pictures in it"))
        }
        // Opening a pipe here would disconnect its writer before the decoder reads.
        Ok(m) if !m.is_file() => refuse(format!(
            "{name} is not a regular file; read a pipe with --pipeline 'filesrc location={name} ! decodebin'"
        )),
        Ok(m) if m.len() == 0 => refuse(format!("{name} is empty")),
        Ok(_) => File::open(path).map_or_else(
            |e| refuse(format!("{name} cannot be opened ({e}); check its permissions")),
            |_| Ok(()),
        ),
    }
}

/// A pipeline that decodes the file.
pub(super) fn decoder(path: &Path) -> Result<gst::Pipeline> {
    if is_picture(path) {
        return picture_decoder(path);
    }
    let pipeline = pipeline(&format!("filesrc name={FILE_SOURCE} ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    element(&pipeline, FILE_SOURCE)?.set_property("location", path);
    Ok(pipeline)
}

/// Feeds a picture in one piece, because some decoders (BMP, TIFF) do not join buffers. JPEG goes
/// through a parser, which reads the camera's orientation.
fn picture_decoder(path: &Path) -> Result<gst::Pipeline> {
    let mut bytes = std::fs::read(path)
        .map_err(|e| Error::Source(format!("{} cannot be read: {e}", path.display())))?;
    let is_jpeg = bytes.starts_with(&[0xff, 0xd8]);
    if is_jpeg {
        mend_grey_jpeg(&mut bytes);
    }
    let parser = if is_jpeg { "! jpegparse" } else { "" };
    let pipeline =
        pipeline(&format!("appsrc name={FILE_SOURCE} {parser} ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    if let Ok(source) = element(&pipeline, FILE_SOURCE)?.downcast::<AppSrc>() {
        // These fail only while the pipeline is being shut down.
        let _ = source.push_buffer(gst::Buffer::from_slice(bytes));
        let _ = source.end_of_stream();
    }
    Ok(pipeline)
}

/// Sets the sampling factor of a grey JPEG to 1×1. It has no meaning for a single component, but
/// GStreamer 1.22's decoder fails on any other value.
pub(super) fn mend_grey_jpeg(bytes: &mut [u8]) {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..).and_then(|b| b.first_chunk()) {
        if matches!(marker, 0xc0..=0xc2) {
            // After the segment length: precision, height, width, number of components, then number
            // and sampling factor of each.
            if let (Some(1), Some(factor)) = (bytes.get(at + 9).copied(), bytes.get_mut(at + 11)) {
                *factor = 0x11;
            }
            return;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

/// A message for a failure after `frames` good frames.
pub(super) fn explain(path: &Path, failure: &Failure, frames: u64) -> String {
    let name = path.display();
    let text = &failure.text;
    match failure.kind {
        Kind::NoVideo if is_picture(path) => {
            format!("{name} is damaged: no picture comes out of it")
        }
        Kind::NoVideo => format!("{name} has neither video nor picture in it"),
        Kind::UnknownFormat => {
            format!("{name} is no video or picture of a kind that GStreamer knows")
        }
        Kind::NoDecoder => format!("{name} cannot be decoded: {}", failure.cure()),
        Kind::Silent => format!("{name} cannot be decoded: the decoder is stuck ({text})"),
        _ if frames == 0 && is_picture(path) => format!(
            "{name} cannot be decoded: it is damaged or of a rare kind, CMYK for one ({text}); save \
             it anew as PNG"
        ),
        _ if frames > 0 => format!("{name} is damaged after {frames} frames ({text})"),
        _ => format!("{name} is damaged and cannot be decoded ({text})"),
    }
}
