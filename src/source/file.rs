//! Video files, and what can be told from a file's name.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::{DECODEBIN, FILE_SOURCE, SINK_CHAIN, element, pipeline};
use super::failure::{Failure, Kind};
use super::mask::mask_url;
use super::mp4;
use crate::{Error, Result};

/// File name extensions of pictures.
const PICTURES: [&str; 19] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "bmp", "webp", "tif", "tiff", "pnm", "ppm", "pgm",
    "pbm", "pam", "heic", "heif", "hif", "avif",
];
/// File name extensions of pictures that are not read.
const OTHER_PICTURES: [&str; 24] = [
    "gif", "jxl", "jp2", "j2k", "jpx", "jxr", "exr", "hdr", "tga", "psd", "xcf", "svg", "ico",
    "dds", "raw", "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "qoi",
];

/// Whether `path` has the extension of a picture.
#[must_use]
pub fn is_picture(path: &Path) -> bool {
    has_extension(path, &PICTURES)
}

/// Whether `path` has the extension of a picture of a kind that is not read.
pub(super) fn is_other_picture(path: &Path) -> bool {
    has_extension(path, &OTHER_PICTURES)
}

fn has_extension(path: &Path, among: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    among.iter().any(|known| known.eq_ignore_ascii_case(extension))
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
        Err(_) if path.to_string_lossy().contains("://") => {
            refuse(format!("{} is a URL; use --url", mask_url(&path.to_string_lossy())))
        }
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

/// A pipeline that decodes the video.
pub(super) fn decoder(path: &Path) -> Result<gst::Pipeline> {
    let pipeline = pipeline(&format!("filesrc name={FILE_SOURCE} ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    let source = element(&pipeline, FILE_SOURCE)?;
    source.set_property("location", path);
    if let Some(place) = mp4::misleading_length(path) {
        hide(&source, place);
    }
    Ok(pipeline)
}

/// Sets the bytes at a place in a file to 0 for everybody who reads it through `source`.
fn hide(source: &gst::Element, place: Range<u64>) {
    let Some(pad) = source.static_pad("src") else { return };
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::PULL | gst::PadProbeType::PUSH;
    pad.add_probe(kinds, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let start = buffer.offset();
            let overlap = place.start.max(start)..place.end.min(start + buffer.size() as u64);
            if let Ok(mut bytes) = buffer.make_mut().map_writable()
                && !overlap.is_empty()
            {
                bytes[(overlap.start - start) as usize..(overlap.end - start) as usize].fill(0);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// A message for a failure after `frames` good frames.
pub(super) fn explain(path: &Path, failure: &Failure, frames: u64) -> String {
    let name = path.display();
    let text = &failure.text;
    match failure.kind {
        Kind::NoVideo => format!("{name} has neither video nor picture in it"),
        Kind::UnknownFormat => {
            format!("{name} is no video or picture of a kind that GStreamer knows")
        }
        Kind::NoDecoder | Kind::NoStream => format!("{name} cannot be decoded: {}", failure.cure()),
        Kind::Silent => format!("{name} cannot be decoded: the decoder is stuck ({text})"),
        _ if frames > 0 => format!("{name} is damaged after {frames} frames ({text})"),
        _ => format!("{name} is damaged and cannot be decoded ({text})"),
    }
}
