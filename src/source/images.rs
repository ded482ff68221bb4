//! The pictures of a folder, one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Next};
use super::decoded::Decoded;
use super::failure::{Failure, Kind};
use super::outlet::{Label, Outlet};
use super::{End, Event, file};
use crate::frame::{Still, StreamInfo};
use crate::{Error, Result};

/// How often a wait looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// All pictures of a folder in the order of their names, with these names.
///
/// # Errors
/// [`Error::Source`] where the folder cannot be read or holds no picture.
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

/// Hands every picture on; one that cannot be decoded is counted and told, and the next one follows.
pub(super) fn run(
    pictures: &[(PathBuf, Arc<str>)],
    patience: Duration,
    outlet: &mut Outlet,
) -> End {
    let (mut last, mut shape) = (None, None);
    for (index, (path, name)) in pictures.iter().enumerate() {
        let (decoded, codec) = match decode(path, patience, outlet) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return End { reason: "stopped".into(), error: None },
            Err(failure) => {
                let text = match std::fs::File::open(path) {
                    Ok(_) => file::explain(path, &failure, 0),
                    Err(e) => format!("{} cannot be read: {e}", path.display()),
                };
                tracing::warn!("{text}; going on with the next picture");
                outlet.counters.damaged.add();
                last = Some(text);
                continue;
            }
        };
        let (width, height) = (decoded.width, decoded.height);
        if shape.replace((width, height)) != Some((width, height)) {
            let info = StreamInfo { width, height, fps: 0.0, codec, connection: 1 };
            outlet.event(Event::Connected(info));
        }
        let still = Some(Still { index, name: name.clone() });
        outlet.frame(decoded, Label { pts: index as f64, connection: 1, still });
    }
    match last {
        Some(text) if outlet.number == 0 => {
            let reason =
                format!("none of {} pictures can be decoded; the last: {text}", pictures.len());
            End { error: Some(Error::Source(reason.clone())), reason }
        }
        _ => End { reason: "end of stream".into(), error: None },
    }
}

/// Decodes one picture, and tells its encoding. `None` if the source is to stop.
fn decode(
    path: &Path,
    patience: Duration,
    outlet: &Outlet,
) -> std::result::Result<Option<(Decoded, String)>, Failure> {
    let fail = |e: Error| Failure::new(Kind::Other, &e.to_string());
    let pipeline = file::decoder(path).map_err(fail)?;
    let mut connection = Connection::start(pipeline, false, outlet.counters.clone())?;
    let started = Instant::now();
    while !outlet.stop.is_set() {
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
