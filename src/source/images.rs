//! Pictures, decoded one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Next};
use super::decoded::Decoded;
use super::emitter::{Emitter, Metadata};
use super::failure::{Failure, Kind};
use super::{End, Event, file};
use crate::frame::{Still, StreamInfo};
use crate::{Error, Result};

/// Longest wait before the stop signal is checked.
const TICK: Duration = Duration::from_millis(50);

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
    let mut pictures: Vec<(PathBuf, Arc<str>)> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .filter_map(|path| file::picture_name(&path).map(|name| (path, name)))
        .collect();
    if pictures.is_empty() {
        return Err(refuse(format!(
            "there is no picture (jpg, png, webp, bmp, tif, ppm) in {name}"
        )));
    }
    pictures.sort();
    Ok(pictures)
}

/// Sends every picture. One that cannot be decoded is counted and logged, and the next one follows.
pub(super) fn run(
    pictures: &[(PathBuf, Arc<str>)],
    patience: Duration,
    emitter: &mut Emitter,
) -> End {
    let (mut last, mut shape) = (None, None);
    for (index, (path, name)) in pictures.iter().enumerate() {
        let (decoded, codec) = match decode(path, patience, emitter) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return End { reason: "stopped".into(), error: None },
            Err(failure) => {
                let text = match std::fs::File::open(path) {
                    Ok(_) => file::explain(path, &failure, 0),
                    Err(e) => format!("{} cannot be read: {e}", path.display()),
                };
                tracing::warn!("{text}; going on with the next picture");
                emitter.counters.damaged.add();
                last = Some(text);
                continue;
            }
        };
        let (width, height) = (decoded.width, decoded.height);
        if shape.replace((width, height)) != Some((width, height)) {
            let info = StreamInfo { width, height, fps: 0.0, codec, connection: 1 };
            emitter.event(Event::Connected(info));
        }
        let still = Some(Still { index, name: name.clone() });
        emitter.frame(decoded, Metadata { pts: index as f64, connection: 1, still });
    }
    match last {
        Some(text) if emitter.number == 0 => {
            let reason =
                format!("none of {} pictures can be decoded; the last: {text}", pictures.len());
            End { error: Some(Error::Source(reason.clone())), reason }
        }
        _ => End { reason: "end of stream".into(), error: None },
    }
}

/// Decodes a picture; also returns the name of its codec. `None` if the source is asked to stop.
fn decode(
    path: &Path,
    patience: Duration,
    emitter: &Emitter,
) -> std::result::Result<Option<(Decoded, String)>, Failure> {
    let fail = |e: Error| Failure::new(Kind::Other, &e.to_string());
    let pipeline = file::decoder(path).map_err(fail)?;
    let mut connection = Connection::start(pipeline, false, emitter.counters.clone())?;
    let started = Instant::now();
    while !emitter.stop.is_set() {
        match connection.next(TICK) {
            Next::Frame(decoded) => return Ok(Some((decoded, connection.codec()))),
            Next::Nothing if started.elapsed() < patience => {}
            Next::Nothing => return Err(Failure::silent(patience)),
            Next::End => return Err(Failure::new(Kind::Other, "there is no picture in it")),
            Next::Failed(failure) => return Err(failure),
        }
    }
    Ok(None)
}
