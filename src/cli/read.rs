//! Reads the records of a run from a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use mmface::record::{self, Record};

use crate::{Error, Result};

/// Most bytes of a record. Sixty-four faces with all their vertices need a tenth of it.
const MAX_LINE: u64 = 64 << 20;

/// Why records are not taken.
pub(super) enum Refused {
    /// They are not those of a run; the second half of a sentence about the line.
    Record(String),
    /// Something else failed.
    Failed(Error),
}

/// Passes the records of a file to `take`, in order, until it breaks. An incomplete last line, which
/// a crash may leave, is ignored. Returns how many frames there were.
///
/// # Errors
/// [`Error::Source`] if the file cannot be read, does not contain the records of a run, or was read
/// to its end and holds no frame; and what `take` fails with.
pub(super) fn records(
    path: &Path,
    mut take: impl FnMut(Record) -> std::result::Result<ControlFlow<()>, Refused>,
) -> Result<u64> {
    let wrong = |why: String| Error::Source(format!("{} {why}", path.display()));
    let unreadable = |e| wrong(format!("cannot be read: {e}; name a file that --json wrote"));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut frames, mut line, mut number) = (0, Vec::new(), 0u64);
    loop {
        line.clear();
        number += 1;
        lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.is_empty() {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // Some editors start a file with a byte order mark.
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        let taken = record::parse(line).map_err(Refused::Record).and_then(|record| {
            let Some(record) = record else { return Ok(ControlFlow::Continue(())) };
            let is_frame = matches!(record, Record::Frame(_));
            let goes_on = take(record)?;
            frames += u64::from(is_frame);
            Ok(goes_on)
        });
        match taken {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(frames),
            Err(Refused::Failed(error)) => return Err(error),
            // The last line may be incomplete, for example after a power failure.
            Err(Refused::Record(_))
                if frames > 0
                    && (line.len() as u64) < MAX_LINE
                    && lines.fill_buf().is_ok_and(<[u8]>::is_empty) =>
            {
                tracing::warn!("line {number} is cut off and left out: the run did not end well");
            }
            Err(Refused::Record(why)) => {
                return Err(wrong(format!(
                    "is not the records of a run: line {number} {why}; name a file that --json wrote"
                )));
            }
        }
    }
    if frames == 0 {
        return Err(wrong("holds no frame: there is nothing to show".into()));
    }
    Ok(frames)
}

/// Warns of records that another version wrote.
pub(super) fn check_schema(theirs: u32) {
    let ours = record::SCHEMA;
    if theirs != ours {
        tracing::warn!(
            "the records are of schema {theirs}, and may be misread: this program knows {ours}"
        );
    }
}
