//! `mmface-live view`: writes the HTML page for existing records.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mmface::Models;
use mmface::face::FaceModel;

use super::config::same;
use super::explain;
use super::read::{self, Refused};
use crate::sink::report::{Digest, Page};
use crate::{Error, Result};

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
    let digest = digest_of(&args.records)?;
    if let Some(header) = &digest.header {
        read::check_schema(header.schema);
    }
    let model = face_model(&digest, args.engines.as_deref())
        .inspect_err(|why| tracing::warn!("the page does not show the face: {}", explain(why)));
    Page::create(&output)?.write(&digest, model.ok().as_ref())?;
    tracing::info!("{} frames are shown in {}", digest.frames, output.display());
    Ok(())
}

fn digest_of(path: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    read::records(path, |record| {
        digest.add(&record).map_err(Refused::Record)?;
        Ok(ControlFlow::Continue(()))
    })?;
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
