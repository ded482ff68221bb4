//! A table as Parquet file: typed columns, compressed with zstd, the header of the records in the
//! file's metadata.
//!
//! A Parquet file can be read only if its end, the footer, is there. So that a killed run leaves a
//! file that can be read, each group of rows is written together with a footer; the next group
//! overwrites that footer and writes a new one behind itself.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::parquet::basic::{
    Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{SchemaDescriptor, Type};

use super::Format;
use super::columns::{Cell, Columns, Kind};

/// Most rows that wait in memory: about 20 MB.
const ROWS: usize = 16_384;
/// A group of rows is written after this time, or after this share of the run if that is longer:
/// each group makes the footer longer.
const INTERVAL: Duration = Duration::from_secs(20);
const SHARE: u32 = 50;

/// Writes a table as Parquet file.
pub(super) struct Parquet<W: Write + Seek + Send> {
    file: W,
    /// Where the footer starts, which the next group overwrites.
    end: u64,
    pending: Pending,
    writer: SerializedFileWriter<Pending>,
    schema: Arc<SchemaDescriptor>,
    metadata: Vec<KeyValue>,
    kinds: Vec<Kind>,
    rows: Vec<Vec<Cell>>,
    written: i64,
    started: Instant,
    last: Instant,
}

impl<W: Write + Seek + Send> Parquet<W> {
    /// `metadata`: keys and values of the file.
    pub(super) fn new(file: W, columns: &Columns, metadata: &[(&str, String)]) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_created_by(format!("mmface-live {}", env!("CARGO_PKG_VERSION")))
            .build();
        let fields = columns.all().iter().map(|(name, kind)| field(name, *kind).map(Arc::new));
        let fields = fields.collect::<Result<_, _>>().map_err(failed)?;
        let root =
            Type::group_type_builder("schema").with_fields(fields).build().map_err(failed)?;
        let root = Arc::new(root);
        let pending = Pending::default();
        let writer = SerializedFileWriter::new(pending.clone(), root.clone(), Arc::new(properties))
            .map_err(failed)?;
        let key_value = |(key, value): &(&str, String)| KeyValue::new((*key).into(), value.clone());
        let mut table = Self {
            file,
            end: 0,
            pending,
            writer,
            schema: Arc::new(SchemaDescriptor::new(root)),
            metadata: metadata.iter().map(key_value).collect(),
            kinds: columns.all().iter().map(|(_, kind)| *kind).collect(),
            rows: Vec::new(),
            written: 0,
            started: Instant::now(),
            last: Instant::now(),
        };
        // A table without rows is a table.
        table.commit()?;
        Ok(table)
    }

    fn is_due(&self) -> bool {
        let interval = INTERVAL.max(self.started.elapsed() / SHARE);
        self.rows.len() >= ROWS || (!self.rows.is_empty() && self.last.elapsed() >= interval)
    }

    /// Writes the rows that wait as one group.
    fn write_group(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for (index, kind) in self.kinds.iter().enumerate() {
            let mut column = group.next_column().map_err(failed)?.ok_or_else(short)?;
            write_column(column.untyped(), *kind, rows.iter().map(|row| &row[index]))?;
            column.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.written = self.written.saturating_add_unsigned(rows.len() as u64);
        self.last = Instant::now();
        self.commit()
    }

    /// Writes what waits, and a footer behind it.
    fn commit(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let mut bytes = self.pending.take();
        let data = bytes.len() as u64;
        let footer = FileMetaData::new(
            1,
            self.written,
            Some(format!("mmface-live {}", env!("CARGO_PKG_VERSION"))),
            Some(self.metadata.clone()),
            self.schema.clone(),
            None,
        );
        let footer = ParquetMetaData::new(footer, self.writer.flushed_row_groups().to_vec());
        ParquetMetaDataWriter::new(&mut bytes, &footer).finish().map_err(failed)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        self.file.flush()?;
        self.end = self.end.saturating_add(data);
        Ok(())
    }
}

impl<W: Write + Seek + Send> Format for Parquet<W> {
    fn write(&mut self, rows: Vec<Vec<Cell>>) -> io::Result<()> {
        self.rows.extend(rows);
        if self.is_due() { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.rows.is_empty() { Ok(()) } else { self.write_group() }
    }
}

fn field(name: &str, kind: Kind) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Whole => (Physical::INT64, None),
        Kind::Seconds => (Physical::DOUBLE, None),
        Kind::Number => (Physical::FLOAT, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Moment => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
    };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL)
        .build()
}

#[expect(clippy::cast_possible_truncation, reason = "the records' numbers were f32 before")]
fn write_column<'a>(
    column: &mut ColumnWriter<'_>,
    kind: Kind,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> io::Result<()> {
    let whole = |cell: &Cell| match (cell, kind) {
        (Cell::Whole(value), _) => Some(*value),
        (Cell::Text(text), Kind::Moment) => moment(text),
        _ => None,
    };
    let number = |cell: &Cell| match cell {
        Cell::Number(value) => Some(*value),
        _ => None,
    };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
        _ => None,
    };
    let written = match column {
        ColumnWriter::Int64ColumnWriter(column) => {
            let (levels, values) = optional(cells.map(whole));
            column.write_batch(&values, Some(&levels), None)
        }
        ColumnWriter::DoubleColumnWriter(column) => {
            let (levels, values) = optional(cells.map(number));
            column.write_batch(&values, Some(&levels), None)
        }
        ColumnWriter::FloatColumnWriter(column) => {
            let (levels, values) = optional(cells.map(|cell| number(cell).map(|v| v as f32)));
            column.write_batch(&values, Some(&levels), None)
        }
        ColumnWriter::ByteArrayColumnWriter(column) => {
            let (levels, values) = optional(cells.map(text));
            column.write_batch(&values, Some(&levels), None)
        }
        _ => Err(ParquetError::General("a column of an unknown type".into())),
    };
    written.map(|_| ()).map_err(failed)
}

/// Parquet's form of a column with gaps: a 1 where there is a value, else 0; and the values.
fn optional<T>(cells: impl Iterator<Item = Option<T>> + Clone) -> (Vec<i16>, Vec<T>) {
    let levels = cells.clone().map(|cell| i16::from(cell.is_some())).collect();
    (levels, cells.flatten().collect())
}

/// Milliseconds since 1970 of a time in RFC 3339; `None` if it is none.
fn moment(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn short() -> io::Error {
    io::Error::other("the table has fewer columns than its schema")
}

/// Bytes that are not in the file yet.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<Vec<u8>>>);

impl Pending {
    fn take(&self) -> Vec<u8> {
        // Nothing that could panic runs under the lock.
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
