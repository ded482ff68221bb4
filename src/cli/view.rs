//! `mmface-live view`: writes the HTML page for existing records.

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

/// Most bytes of a record. Sixty-four faces with all their vertices need a tenth of it.
const MAX_LINE: u64 = 64 << 20;

/// Arguments of `view`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Records of one run, as --json wrote them
    #[arg(value_name = "FILE.jsonl")]
    records: PathBuf,
    /// The page [default: next to the records, with .html]
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Folder with manifest.toml, for the face model, if it is not in the usual place
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINES")]
    engines: Option<PathBuf>,
}

/// Reads the records and writes the page.
///
/// # Errors
/// [`Error::Source`] if the file cannot be read or does not contain the records of a run;
/// [`Error::Usage`] if the page would overwrite the records; [`Error::Missing`] and [`Error::Sink`]
/// as for [`Page`].
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

/// Reads records. An incomplete last line, which a crash may leave, is ignored.
fn read(path: &Path) -> Result<Digest> {
    let wrong = |why: String| Error::Source(format!("{} {why}", path.display()));
    let unreadable = |e| wrong(format!("cannot be read: {e}; name a file that --json wrote"));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut digest, mut line, mut number) = (Digest::default(), Vec::new(), 0);
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
        let added =
            record::parse(line).and_then(|record| record.map_or(Ok(()), |r| digest.add(&r)));
        match added {
            Ok(()) => {}
            // The last line may be incomplete, for example after a power failure.
            Err(_)
                if digest.frames > 0
                    && (line.len() as u64) < MAX_LINE
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

/// The face model of the records, checked by its hash.
fn face_model(digest: &Digest, engines: Option<&Path>) -> Result<FaceModel> {
    let (model, hash) = engines.map_or_else(Models::find, Models::open)?.face_model()?;
    let wanted = digest.header.as_ref().map(|h| &h.face_model);
    match wanted {
        Some(wanted) if wanted.hash != hash => Err(Error::Missing(format!(
            "the records were made with another face model ({}); name the folder of its models with --engines",
            wanted.name
        ))),
        _ => Ok(model),
    }
}
