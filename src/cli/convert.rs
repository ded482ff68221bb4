//! `mmface-live convert`: turns existing records into a table.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mmface::record::Record;

use super::config::same;
use super::read::{self, Refused};
use crate::sink::table::columns::Groups;
use crate::sink::table::{Table, TableFormat};
use crate::{Error, Result};

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Records of one run, as --json wrote them
    #[arg(value_name = "FILE.jsonl")]
    records: PathBuf,
    /// The table; its extension says which kind [default: next to the records, with .csv]
    #[arg(short, long, value_name = "FILE.csv|FILE.parquet")]
    output: Option<PathBuf>,
}

/// Reads the records and writes the table. It has columns for landmarks and unsmoothed parameters
/// if the records have them (`--landmarks`, `--raw`).
///
/// # Errors
/// [`Error::Source`] if the file cannot be read or does not contain the records of a run;
/// [`Error::Usage`] if the table would overwrite the records or its kind is not known;
/// [`Error::Sink`] if it cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let output = args.output.clone().unwrap_or_else(|| args.records.with_extension("csv"));
    if same(&output, &args.records) {
        let output = output.display();
        return Err(Error::Usage(format!("the table would be written over the records {output}")));
    }
    let format = format_of(&output)?;
    let groups = groups(&args.records)?;
    let mut table = Table::create(&output, format, groups)?;
    let mut rows = 0;
    let frames = read::records(&args.records, |record| {
        let added = match &record {
            Record::Header(header) => {
                read::check_schema(header.schema);
                table.header(header).map(|()| 0)
            }
            Record::Frame(frame) => table.frame(frame),
            Record::Stream(_) | Record::Gap(_) | Record::Lost(_) | Record::End(_) => Ok(0),
        };
        rows += added.map_err(Refused::Failed)?;
        Ok(ControlFlow::Continue(()))
    })?;
    table.finish()?;
    tracing::info!("{rows} rows of {frames} frames are in {}", output.display());
    Ok(())
}

fn format_of(output: &Path) -> Result<TableFormat> {
    let extension = output.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "csv" => Ok(TableFormat::Csv),
        "parquet" => Ok(TableFormat::Parquet),
        _ => Err(Error::Usage(format!(
            "{} has no known kind: name a file that ends in .csv or .parquet",
            output.display()
        ))),
    }
}

/// The groups of columns that the first face of the records has.
fn groups(records: &Path) -> Result<Groups> {
    let mut groups = Groups::default();
    read::records(records, |record| {
        let face = match &record {
            Record::Frame(frame) => frame.faces.first(),
            _ => None,
        };
        let Some(face) = face else { return Ok(ControlFlow::Continue(())) };
        groups = Groups::of(face);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(groups)
}
