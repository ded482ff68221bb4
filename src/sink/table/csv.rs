//! A table as comma-separated values (RFC 4180): one header line, `.` as decimal point, nothing
//! between commas where a value is missing.

use std::io::{self, Write};

use super::Format;
use super::columns::{Cell, Columns, Kind};

/// Writes a table as text.
pub(super) struct Csv<W: Write> {
    out: csv::Writer<W>,
    seconds: Vec<bool>,
}

impl<W: Write> Csv<W> {
    pub(super) fn new(out: W, columns: &Columns) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(columns.all().iter().map(|(name, _)| name)).map_err(io::Error::from)?;
        let seconds = columns.all().iter().map(|(_, kind)| *kind == Kind::Seconds).collect();
        Ok(Self { out, seconds })
    }
}

impl<W: Write + Send> Format for Csv<W> {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> io::Result<()> {
        for row in rows {
            for (cell, seconds) in row.into_iter().zip(&self.seconds) {
                match cell {
                    Cell::Empty => self.out.write_field(""),
                    Cell::Whole(value) => self.out.write_field(value.to_string()),
                    Cell::Number(value) if *seconds => self.out.write_field(format!("{value:.6}")),
                    Cell::Number(value) => self.out.write_field(value.to_string()),
                    Cell::Text(text) => self.out.write_field(text),
                }?;
            }
            self.out.write_record(None::<&[u8]>)?;
        }
        // A reader, and whoever kills the run, finds every row of every frame.
        self.out.flush()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}
