//! Tables: a row for each face of each frame, as CSV or as Parquet file.
//!
//! The numbers are those of the records, so a table that a run writes and one that
//! `mmface-live convert` makes of the run's records are the same.

pub mod columns;
mod csv;
mod parquet;

use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmface::record::{Frame, Header, Record};

use self::columns::{Cell, Columns, Groups};
use super::files::{TruncateOnWrite, cannot_write};
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::{Error, Result};

/// The format of a table's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl TableFormat {
    /// Name of the sink and of the format in messages.
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// A format of tables.
trait Format: Send {
    /// Writes the rows of a frame, or keeps them for later.
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> io::Result<()>;

    /// Writes what is kept.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A table that is being written. The file is created at once, and truncated at the first header.
pub struct Table {
    place: PathBuf,
    format: TableFormat,
    groups: Groups,
    /// Until the first header.
    file: Option<TruncateOnWrite>,
    /// From the first header on.
    writer: Option<(Columns, Box<dyn Format>)>,
}

impl Table {
    /// Creates the file.
    ///
    /// # Errors
    /// [`Error::Sink`] if it cannot be created, or is a pipe and the format needs a file.
    pub fn create(place: &Path, format: TableFormat, groups: Groups) -> Result<Self> {
        let cannot = |why: &dyn std::fmt::Display| {
            let (place, name) = (place.display(), format.name());
            Error::Sink(format!("cannot create {place}: {why}; name another file for the {name}"))
        };
        let is_file = !place.exists() || place.is_file();
        if format == TableFormat::Parquet && !is_file {
            return Err(cannot(&"a Parquet table has to be a file"));
        }
        let file = TruncateOnWrite::open(place).map_err(|e| cannot(&e))?;
        Ok(Self { place: place.to_path_buf(), format, groups, file: Some(file), writer: None })
    }

    /// Begins the table. Headers of further streams change nothing.
    ///
    /// # Errors
    /// [`Error::Sink`] if writing fails; [`Error::Source`] if the header is of another face model
    /// than the first.
    pub fn header(&mut self, header: &Header) -> Result<()> {
        if let Some((columns, _)) = &self.writer
            && !columns.fit(header)
        {
            return Err(Error::Source(format!(
                "the records are of several face models ({} is another): make a table of each",
                header.face_model.name
            )));
        }
        let Some(file) = self.file.take() else { return Ok(()) };
        let columns = Columns::new(header, self.groups);
        let file = BufWriter::new(file);
        let writer: io::Result<Box<dyn Format>> = match self.format {
            TableFormat::Csv => csv::Csv::new(file, &columns).map(|csv| Box::new(csv) as _),
            TableFormat::Parquet => {
                let header = Record::Header(Box::new(header.clone()));
                let header = serde_json::to_string(&header)
                    .map_err(|e| Error::Bug(format!("a header cannot be serialised: {e}")))?;
                let metadata = [("mmface.header", header)];
                parquet::Parquet::new(file, &columns, &metadata).map(|table| Box::new(table) as _)
            }
        };
        self.writer = Some((columns, writer.map_err(|e| self.failed(&e))?));
        Ok(())
    }

    /// Adds a frame; returns how many rows it has.
    ///
    /// # Errors
    /// [`Error::Sink`] if writing fails, [`Error::Source`] if there was no header.
    pub fn frame(&mut self, frame: &Frame) -> Result<usize> {
        let Some((columns, writer)) = &mut self.writer else {
            return Err(Error::Source(
                "the records have no header, so columns have no names".into(),
            ));
        };
        let rows = columns.rows(frame);
        let count = rows.len();
        writer.write(rows).map(|()| count).map_err(|e| self.failed(&e))
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// [`Error::Sink`] if writing fails.
    pub fn finish(mut self) -> Result<()> {
        match self.writer.take() {
            Some((_, writer)) => writer.finish().map_err(|e| self.failed(&e)),
            None => Ok(()),
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        cannot_write("the table", &self.place.display().to_string(), error)
    }
}

/// The sink for a table.
#[derive(Debug)]
pub struct TableFile {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: TableFormat,
    /// Whether it holds the parameters before smoothing, too.
    pub raw: bool,
}

impl Plan for TableFile {
    fn name(&self) -> &'static str {
        self.format.name()
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn open(self: Box<Self>, _: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let groups = Groups { landmarks: true, raw: self.raw };
        let content = Content { landmarks: true, raw: self.raw, ..Content::default() };
        Ok(Box::new(Rows { table: Table::create(&self.path, self.format, groups)?, content }))
    }
}

struct Rows {
    table: Table,
    content: Content,
}

impl Sink for Rows {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        match event {
            Event::Header(header) => self.table.header(header)?,
            Event::Frame(frame) => {
                self.table.frame(&frame.record(self.content))?;
            }
            Event::Stream(_) | Event::Gap(_) | Event::End(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.table.finish()
    }
}

#[cfg(test)]
mod tests;
