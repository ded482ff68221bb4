//! `mmface-live view`: a page about records that were written before.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use mmface::Models;
use mmface::face::FaceModel;
use mmface::record;

use super::config::same;
use super::explain;
use crate::sink::report::{Digest, Page};
use crate::{Error, Result};

/// No record is longer: sixty-four faces with all their vertices are a tenth of it.
const LONGEST: u64 = 64 << 20;

/// What to show, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Records of one run, as --json wrote them
    #[arg(value_name = "FILE.jsonl")]
    records: PathBuf,
    /// The page [default: beside the records, with .html]
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Folder with manifest.toml, where it is not in its usual place: for the face model
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINES")]
    engines: Option<PathBuf>,
}

/// Reads the records and writes the page.
///
/// # Errors
/// [`Error::Source`] if the file cannot be read or is not the records of a run, [`Error::Usage`] if
/// the page would lie on the records, [`Error::Mmface`] and [`Error::Sink`] as [`Page`] says.
pub fn run(args: &Args) -> Result<()> {
    let output = args.output.clone().unwrap_or_else(|| args.records.with_extension("html"));
    if same(&output, &args.records) {
        let output = output.display();
        return Err(Error::Usage(format!("the page would be written over the records {output}")));
    }
    if output == Path::new("-") {
        return Err(Error::Usage("--output - is no file: name one for the page".into()));
    }
    let digest = read(&args.records)?;
    if let Some(header) = digest.header.as_ref().filter(|header| header.schema != record::SCHEMA) {
        let (theirs, ours) = (header.schema, record::SCHEMA);
        tracing::warn!(
            "the records are of schema {theirs}, and may be misread: this program knows {ours}"
        );
    }
    let model = face_model(&digest, args.engines.as_deref())
        .inspect_err(|why| tracing::warn!("the page does not show the face: {}", explain(why)));
    Page::create(&output)?.write(&digest, model.ok().as_ref())?;
    tracing::info!("{} frames are shown in {}", digest.frames, output.display());
    Ok(())
}

/// The records of a file. A last line that is torn is what a crash leaves: it is left out.
fn read(path: &Path) -> Result<Digest> {
    let wrong = |why: String| Error::Source(format!("{} {why}", path.display()));
    let unreadable = |e| wrong(format!("cannot be read: {e}; name a file that --json wrote"));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut digest, mut line, mut number) = (Digest::default(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        lines.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.is_empty() {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // Some editors begin a file with a byte order mark.
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        let added =
            record::parse(line).and_then(|record| record.map_or(Ok(()), |r| digest.add(&r)));
        match added {
            Ok(()) => {}
            // Power that fails may leave an end, but not what belongs before it.
            Err(_)
                if digest.frames > 0
                    && (line.len() as u64) < LONGEST
                    && lines.fill_buf().is_ok_and(<[u8]>::is_empty) =>
            {
                tracing::warn!("line {number} is cut off and left out: the run did not end well");
            }
            Err(why) => {
                return Err(wrong(format!(
                    "is not the records of a run: line {number} {why}; name a file that --json wrote"
                )));
            }
        }
    }
    if digest.frames == 0 {
        return Err(wrong("holds no frame: there is nothing to show".into()));
    }
    Ok(digest)
}

/// The very face model that the records were made with.
fn face_model(digest: &Digest, engines: Option<&Path>) -> Result<FaceModel> {
    let (model, hash) = engines.map_or_else(Models::find, Models::open)?.face_model()?;
    let wanted = digest.header.as_ref().map(|h| &h.face_model);
    match wanted {
        Some(wanted) if wanted.hash != hash => Err(Error::Missing(format!(
            "the records were made with another face model ({}); name its engines with --engines",
            wanted.name
        ))),
        _ => Ok(model),
    }
}
