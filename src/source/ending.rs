//! Whether a video file ended where it should. Demuxers report a normal end of stream for a file that
//! is cut off.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::mp4;

/// Seconds by which a video may be shorter than it says.
const TOLERANCE: f64 = 1.0;
/// A video that ends before this part of its length counts as damaged.
const MIN_PLAYED: f64 = 0.75;

/// What is known about a video that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Played {
    /// Seconds at which its last frame ended.
    pub reached: f64,
    /// Seconds at which its own track ends, if the container says.
    pub own_end: Option<f64>,
    /// Length in seconds of the whole file, if it is known and in a container.
    pub duration: Option<f64>,
    /// Whether there are other tracks, which may be longer.
    pub has_others: bool,
}

/// The end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    /// A little is missing, as the text tells.
    Short(String),
    /// Much is missing.
    Broken(String),
}

/// Judges the end of a video by its own track's length, and by whether the file is as large as its
/// structure says. The length of the whole file counts only where no other track can have set it.
pub(super) fn judge(path: &Path, played: Played) -> Ending {
    let structure = File::open(path).ok().and_then(|mut file| Structure::read(&mut file));
    let size = path.metadata().map_or(0, |metadata| metadata.len());
    judge_with(structure, size, played)
}

fn judge_with(structure: Option<Structure>, size: u64, played: Played) -> Ending {
    let Played { reached, own_end, duration, has_others } = played;
    // In fragments, the reader takes the file's length for every track's.
    let own_end = own_end.filter(|_| structure.is_none_or(|structure| !structure.fragmented));
    let cut_off = structure.map(|structure| structure.end).filter(|&end| end > size);
    let by_file = duration.filter(|_| !has_others || cut_off.is_some());
    let (text, part) = match (own_end.or(by_file), cut_off) {
        (Some(total), _) if total - reached > TOLERANCE => {
            (format!("it breaks off at {reached:.1} of {total:.1} seconds"), reached / total)
        }
        (_, Some(end)) => {
            (format!("it is cut off: {size} of {end} bytes are there"), size as f64 / end as f64)
        }
        _ => return Ending::Complete,
    };
    if part < MIN_PLAYED { Ending::Broken(text) } else { Ending::Short(text) }
}

/// What a container says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Structure {
    /// How large the file is.
    end: u64,
    /// Whether it is an MP4 in fragments.
    fragmented: bool,
}

impl Structure {
    /// Reads it; `None` if the container does not say.
    fn read(file: &mut (impl Read + Seek)) -> Option<Self> {
        let mut start = [0; 12];
        file.read_exact(&mut start).ok()?;
        let whole = |end| Self { end, fragmented: false };
        match start {
            // EBML: Matroska and WebM.
            [0x1a, 0x45, 0xdf, 0xa3, ..] => segment_end(file).map(whole),
            // Files of more than a GiB have several such chunks.
            [b'R', b'I', b'F', b'F', a, b, c, d, ..] => {
                let size = u64::from(u32::from_le_bytes([a, b, c, d]));
                (1..1 << 30).contains(&size).then(|| whole(size + 8))
            }
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => boxes(file),
            _ => None,
        }
    }
}

/// Where Matroska's segment ends.
fn segment_end(file: &mut (impl Read + Seek)) -> Option<u64> {
    file.seek(SeekFrom::Start(4)).ok()?;
    let header = vint(file)?;
    file.seek(SeekFrom::Current(i64::try_from(header).ok()?)).ok()?;
    let mut id = [0; 4];
    file.read_exact(&mut id).ok()?;
    (id == [0x18, 0x53, 0x80, 0x67]).then_some(())?;
    let size = vint(file)?;
    file.stream_position().ok()?.checked_add(size)
}

/// A size as EBML writes it; `None` for "unknown".
fn vint(file: &mut impl Read) -> Option<u64> {
    let mut first = [0];
    file.read_exact(&mut first).ok()?;
    let more = first[0].leading_zeros();
    (more < 8).then_some(())?;
    let mut value = u64::from(first[0]) & ((1 << (7 - more)) - 1);
    for _ in 0..more {
        let mut next = [0];
        file.read_exact(&mut next).ok()?;
        value = value << 8 | u64::from(next[0]);
    }
    let unknown = (1 << (7 * (more + 1))) - 1;
    (value != unknown).then_some(value)
}

/// Where the boxes of an MP4 end.
fn boxes(file: &mut (impl Read + Seek)) -> Option<Structure> {
    let (mut end, mut fragmented) = (0, false);
    for header in mp4::boxes(file, 0, u64::MAX) {
        fragmented |= header.kind == *b"moof";
        // The box goes to the end of the file, however long that is.
        end = header.end?;
    }
    Some(Structure { end, fragmented })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn needed(bytes: &[u8]) -> Option<u64> {
        Structure::read(&mut Cursor::new(bytes)).map(|structure| structure.end)
    }

    #[test]
    fn structures_tell_the_size_of_a_file() {
        let mp4 = b"\0\0\0\x0cftypisom\0\0\x01\0mdat";
        assert_eq!(needed(mp4), Some(12 + 256));
        assert_eq!(needed(b"\0\0\0\x0cftypisom\0\0\0\0mdat"), None);
        assert_eq!(
            needed(b"\0\0\0\x0cftypisom\0\0\0\x01mdat\0\0\0\x02\0\0\0\0"),
            Some(12 + (2 << 32))
        );
        let mkv = b"\x1a\x45\xdf\xa3\x83abc\x18\x53\x80\x67\x42\x00rest";
        assert_eq!(needed(mkv), Some(8 + 4 + 2 + 0x200));
        assert_eq!(needed(b"\x1a\x45\xdf\xa3\x83abc\x18\x53\x80\x67\xff-----"), None);
        assert_eq!(needed(b"RIFF\x10\0\0\0AVI "), Some(24));
        assert_eq!(needed(b"something else"), None);
    }

    #[test]
    fn other_tracks_may_be_longer() {
        let mixed = Played { reached: 4.0, own_end: None, duration: Some(10.0), has_others: true };
        let whole = Structure { end: 1000, fragmented: false };
        let judged = |played| judge_with(Some(whole), 1000, played);
        assert_eq!(judged(mixed), Ending::Complete);
        assert_eq!(judged(Played { own_end: Some(4.1), ..mixed }), Ending::Complete);
        let broken = Ending::Broken("it breaks off at 4.0 of 10.0 seconds".into());
        let alone = Played { has_others: false, ..mixed };
        assert_eq!(judged(alone), broken);
        assert!(matches!(judged(Played { reached: 8.0, ..alone }), Ending::Short(_)));
        let own = Played { own_end: Some(10.0), ..mixed };
        assert_eq!(judged(own), broken);
        let fragments = Structure { fragmented: true, ..whole };
        assert_eq!(judge_with(Some(fragments), 1000, own), Ending::Complete);
        assert_eq!(judge_with(Some(fragments), 999, own), broken);
        assert_eq!(judge_with(Some(whole), 400, mixed), broken);
        let recorded = Played { duration: None, ..mixed };
        let cut = Ending::Broken("it is cut off: 400 of 1000 bytes are there".into());
        assert_eq!(judge_with(Some(whole), 400, recorded), cut);
        assert!(matches!(judge_with(Some(whole), 990, recorded), Ending::Short(_)));
    }
}
