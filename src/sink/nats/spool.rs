//! Records on disk, while they wait for the broker.
//!
//! A folder with segments: each letter is two lines, what is known of it and its text. What was
//! written survives the end of the process; a line that is cut off is left out. `settled.json` says
//! up to where the broker has taken them. It may be old: what was sent after it is looked up.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use mmface::limited::read_limited;
use serde::{Deserialize, Serialize};

use super::letter::{About, Letter, Lost};
use crate::{Error, Result};

/// Smallest and largest segment. The oldest one is what is lost at once if there is no room.
const SEGMENT: std::ops::RangeInclusive<u64> = 64 << 10..=8 << 20;
/// What the names of segments end with.
const EXTENSION: &str = "records";
const SETTLED: &str = "settled.json";
/// Most bytes of it.
const LARGEST_NOTE: u64 = 16 << 20;
const LOCK: &str = "lock";

/// How far the broker has taken what is on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// All places before this one are settled.
    pub(super) place: u64,
    /// The broker's number of a record that came no later than the first that may not be settled.
    pub(super) sequence: Option<u64>,
    /// Losses that nobody was told of yet, by stream and run.
    pub(super) lost: Vec<(String, u64, Lost)>,
}

/// The first line of a letter.
#[derive(Serialize, Deserialize)]
struct Line {
    place: u64,
    #[serde(flatten)]
    about: About,
}

#[derive(Debug)]
struct Segment {
    /// The place of its first letter, and the one behind its last.
    first: u64,
    end: u64,
    bytes: u64,
}

/// The folder. While it is open, no other process may open it.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    limit: u64,
    segments: VecDeque<Segment>,
    /// The file of the last segment, if letters are added to it.
    open: Option<File>,
    reader: Option<Reader>,
    _lock: File,
}

/// Reads one letter after the other.
#[derive(Debug)]
struct Reader {
    segment: u64,
    lines: BufReader<File>,
}

/// What was found in a folder.
pub(super) struct Found {
    pub(super) settled: Settled,
    /// The place behind the last letter.
    pub(super) end: u64,
    /// The streams of what is not settled.
    pub(super) streams: BTreeMap<String, u64>,
}

impl Spool {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Usage`] if another process uses it, [`Error::Sink`] if it cannot be used.
    pub(super) fn open(folder: &Path, limit: u64) -> Result<(Self, Found)> {
        let name = folder.display();
        let failed = |e: io::Error| {
            Error::Sink(format!("--spool {name} cannot be used: {e}; name another folder"))
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let lock = lock.map_err(failed)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Usage(format!(
                    "--spool {name} is used by another process: name a folder of its own"
                )));
            }
            Err(e) => return Err(failed(e.into())),
        }
        let settled = match read_limited(&folder.join(SETTLED), LARGEST_NOTE) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(_) => Settled::default(),
        };
        let mut this = Self {
            folder: folder.into(),
            limit,
            segments: VecDeque::new(),
            open: None,
            reader: None,
            _lock: lock,
        };
        let (streams, end) = this.scan(&settled).map_err(failed)?;
        Ok((this, Found { settled, end, streams }))
    }

    /// Finds the segments that an earlier process has left.
    fn scan(&mut self, settled: &Settled) -> io::Result<(BTreeMap<String, u64>, u64)> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_segment = path.extension().is_some_and(|e| e == EXTENSION);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            firsts.extend(stem.filter(|_| is_segment).and_then(|stem| stem.parse::<u64>().ok()));
        }
        firsts.sort_unstable();
        let (mut streams, mut last) = (BTreeMap::new(), settled.place);
        for first in firsts {
            let mut end = first;
            let mut lines = BufReader::new(File::open(self.path(first))?);
            while let Some((place, letter)) = next(&mut lines)? {
                end = place + 1;
                if place >= settled.place {
                    *streams.entry(letter.about.stream).or_default() += 1;
                }
            }
            if end <= settled.place || end == first {
                fs::remove_file(self.path(first))?;
                continue;
            }
            let bytes = fs::metadata(self.path(first))?.len();
            self.segments.push_back(Segment { first, end, bytes });
            last = last.max(end);
        }
        Ok((streams, last))
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.{EXTENSION}"))
    }

    /// The folder's name, for messages.
    pub(super) fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// Adds a letter. What is written of one that fails is left out by readers.
    pub(super) fn add(&mut self, place: u64, letter: &Letter) -> io::Result<()> {
        let line = Line { place, about: letter.about.clone() };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        text.extend(&letter.payload);
        text.push(b'\n');
        let most = self.segment();
        let is_full = self.segments.back().is_none_or(|segment| segment.bytes >= most);
        if self.open.is_none() || is_full {
            let path = self.path(place);
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            self.open = Some(file);
            self.segments.push_back(Segment { first: place, end: place, bytes: 0 });
        }
        let (Some(file), Some(segment)) = (&mut self.open, self.segments.back_mut()) else {
            return Err(ErrorKind::NotFound.into());
        };
        if let Err(e) = file.write_all(&text) {
            let (first, end) = (segment.first, segment.end);
            self.give_up_segment(first, end);
            return Err(e);
        }
        segment.end = place + 1;
        segment.bytes += text.len() as u64;
        Ok(())
    }

    /// The last segment holds a letter that is cut off: the next one begins in a segment of its own.
    fn give_up_segment(&mut self, first: u64, end: u64) {
        self.open = None;
        let path = self.path(first);
        if end == first {
            self.segments.pop_back();
            let _ = fs::remove_file(path);
        } else if let Some(segment) = self.segments.back_mut() {
            segment.bytes = fs::metadata(path).map_or(segment.bytes, |file| file.len());
        }
    }

    /// The letters from this place on and before `end`, at most so many.
    pub(super) fn read(
        &mut self,
        from: u64,
        end: u64,
        most: usize,
    ) -> io::Result<Vec<(u64, Letter)>> {
        let mut letters = Vec::new();
        let mut at = from;
        while letters.len() < most && at < end {
            let Some(segment) = self.segments.iter().find(|segment| at < segment.end) else {
                break;
            };
            let (first, behind) = (segment.first, segment.end);
            let mut reader = match self.reader.take() {
                Some(reader) if reader.segment == first => reader,
                _ => {
                    Reader { segment: first, lines: BufReader::new(File::open(self.path(first))?) }
                }
            };
            match next(&mut reader.lines)? {
                Some((place, letter)) => {
                    self.reader = Some(reader);
                    if place >= end {
                        break;
                    }
                    if place >= at {
                        at = place + 1;
                        letters.push((place, letter));
                    }
                }
                // Whatever is missing at the end of a segment cannot be read.
                None => at = behind,
            }
        }
        Ok(letters)
    }

    /// Removes the segments before this place.
    pub(super) fn settle(&mut self, place: u64) {
        while self.segments.front().is_some_and(|segment| segment.end <= place) {
            // The last one is still written to.
            if self.segments.len() == 1 && self.open.is_some() {
                break;
            }
            self.remove_oldest();
        }
    }

    /// Most bytes of a segment.
    fn segment(&self) -> u64 {
        (self.limit / 8).clamp(*SEGMENT.start(), *SEGMENT.end())
    }

    /// Whether the oldest segment may soon have to go.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() + self.segment() > self.limit
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Takes the oldest segment out if there are more bytes than allowed: its letters, which are
    /// lost, and the place behind them.
    pub(super) fn overflow(&mut self) -> Option<(Vec<(u64, About)>, u64)> {
        if self.bytes() <= self.limit || self.segments.len() < 2 {
            return None;
        }
        let segment = self.segments.front()?;
        let (first, end) = (segment.first, segment.end);
        let mut lost = Vec::new();
        if let Ok(file) = File::open(self.path(first)) {
            let mut lines = BufReader::new(file);
            while let Ok(Some((place, letter))) = next(&mut lines) {
                lost.push((place, letter.about));
            }
        }
        self.remove_oldest();
        Some((lost, end))
    }

    fn remove_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        if self.reader.as_ref().is_some_and(|reader| reader.segment == segment.first) {
            self.reader = None;
        }
        let path = self.path(segment.first);
        if let Err(e) = fs::remove_file(&path) {
            tracing::warn!("{} cannot be removed: {e}", path.display());
        }
    }

    /// Writes down how far the broker has come.
    pub(super) fn note(&self, settled: &Settled) -> io::Result<()> {
        let half = self.folder.join("settled.new");
        fs::write(&half, serde_json::to_vec(settled)?)?;
        fs::rename(half, self.folder.join(SETTLED))
    }
}

/// The next letter; `None` at the end. A letter that is cut off, as a full disk leaves it, is left
/// out with what is on the same line.
fn next(lines: &mut BufReader<File>) -> io::Result<Option<(u64, Letter)>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let Ok(Line { place, about }) = serde_json::from_slice::<Line>(&line) else { continue };
        let mut payload = Vec::new();
        lines.read_until(b'\n', &mut payload)?;
        if payload.pop() != Some(b'\n') {
            return Ok(None);
        }
        return Ok(Some((place, Letter { about, payload })));
    }
}
