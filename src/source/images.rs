//! Pictures, decoded one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::emitter::{Emitter, Metadata};
use super::still::{self, MaxPixels, Still};
use super::{End, Event, file};
use crate::frame::{self, StreamInfo};
use crate::{Error, Result};

/// All pictures of a folder, sorted by name, with their file names.
///
/// # Errors
/// [`Error::Source`] if the folder cannot be read or contains no picture.
pub(super) fn list(folder: &Path) -> Result<Vec<(PathBuf, Arc<str>)>> {
    let name = folder.display();
    let refuse = |text| Error::Source(text);
    if folder.is_file() {
        return Err(refuse(format!("{name} is a file, not a folder; use --file {name}")));
    }
    let entries = std::fs::read_dir(folder)
        .map_err(|e| refuse(format!("the folder {name} cannot be read ({e}); check --images")))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let others: Vec<_> = files.iter().filter(|path| file::is_other_picture(path)).collect();
    if let Some(first) = others.first() {
        tracing::warn!(
            "{} of the files in {name} are left out, pictures of a kind that is not read ({} for \
             one): save them anew as PNG",
            others.len(),
            first.file_name().unwrap_or_default().display()
        );
    }
    let pictures: Vec<_> = files
        .into_iter()
        .filter_map(|path| file::picture_name(&path).map(|name| (path, name)))
        .collect();
    if pictures.is_empty() {
        return Err(refuse(format!(
            "there is no picture (jpg, png, webp, bmp, tif, ppm, heic, avif) in {name}"
        )));
    }
    Ok(pictures)
}

/// Sends every picture. One that cannot be decoded is counted and logged, and the next one follows.
pub(super) fn run(
    pictures: &[(PathBuf, Arc<str>)],
    limit: MaxPixels,
    emitter: &mut Emitter,
) -> End {
    let (mut last, mut shape) = (None, None);
    for (index, (path, name)) in pictures.iter().enumerate() {
        if emitter.stop.is_set() {
            return End { reason: "stopped".into(), error: None };
        }
        let Still { decoded, codec, animated, focal } = match still::read(path, limit) {
            Ok(still) => still,
            Err(reason) => {
                let text = format!("{} {reason}", path.display());
                if pictures.len() > 1 {
                    tracing::warn!("{text}; going on with the next picture");
                }
                emitter.counters.damaged.add();
                last = Some(text);
                continue;
            }
        };
        if animated {
            tracing::warn!(
                "{} is an animation, of which only the first picture is taken: make a video of it \
                 for the rest (ffmpeg can)",
                path.display()
            );
        }
        let (width, height) = (decoded.width, decoded.height);
        if shape.replace((width, height)) != Some((width, height)) {
            let codec = codec.to_owned();
            let info = StreamInfo { width, height, fps: 0.0, codec, connection: 1 };
            emitter.event(Event::Connected(info));
        }
        let still = Some(frame::Still { index, name: name.clone(), focal });
        emitter.frame(decoded, Metadata { pts: index as f64, connection: 1, still });
    }
    match last {
        Some(text) if emitter.number == 0 => {
            let reason = match pictures.len() {
                1 => text,
                count => format!("none of {count} pictures can be decoded; the last: {text}"),
            };
            End { error: Some(Error::Source(reason.clone())), reason }
        }
        _ => End { reason: "end of stream".into(), error: None },
    }
}
