//! The structure of MP4 files: their boxes, which nest.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Most boxes of one level that are looked at; a file of hours in fragments has fewer.
const MAX_BOXES: usize = 1_000_000;
/// GStreamer's reader leaves out a track of less than this part of the file's length: it takes it
/// for a preview picture.
const PREVIEW: f64 = 0.2;

/// Header of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: [u8; 4],
    /// Where its content begins in the file.
    pub(super) content: u64,
    /// Where it ends, if it says; else at the end of the file.
    pub(super) end: Option<u64>,
}

/// The boxes of one level from `start` on, before `end`. The last one may end beyond the file.
pub(super) fn boxes(
    file: &mut (impl Read + Seek),
    start: u64,
    end: u64,
) -> impl Iterator<Item = Header> {
    let mut at = Some(start);
    std::iter::from_fn(move || {
        let start = at.filter(|&start| start < end)?;
        let header = header(file, start)?;
        at = header.end;
        Some(header)
    })
    .take(MAX_BOXES)
}

fn header(file: &mut (impl Read + Seek), start: u64) -> Option<Header> {
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).ok()?;
    let [a, b, c, d, kind @ ..] = bytes;
    let (content, end) = match u32::from_be_bytes([a, b, c, d]) {
        0 => (start + 8, None),
        1 => {
            file.read_exact(&mut bytes).ok()?;
            (start + 16, Some(start.checked_add(u64::from_be_bytes(bytes).max(16))?))
        }
        size => (start + 8, Some(start.checked_add(u64::from(size).max(8))?)),
    };
    Some(Header { kind, content, end })
}

/// The length that a header of a file or track says.
struct Length {
    seconds: f64,
    /// Where the length stands in the file.
    place: Range<u64>,
}

/// Where the file's length stands, if GStreamer's reader must not see it because it would leave out
/// the video for being much shorter: where the sound is far longer, or an empty edit comes first.
pub(super) fn misleading_length(path: &Path) -> Option<Range<u64>> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    find_misleading_length(&mut file, size)
}

fn find_misleading_length(file: &mut (impl Read + Seek), size: u64) -> Option<Range<u64>> {
    let first = header(file, 0)?;
    (first.kind == *b"ftyp").then_some(())?;
    let movie = child(file, 0..size, *b"moov")?;
    let whole = child(file, movie.clone(), *b"mvhd").and_then(|mvhd| length(file, mvhd))?;
    let tracks: Vec<Range<u64>> = boxes(file, movie.start, movie.end)
        .filter(|header| header.kind == *b"trak")
        .filter_map(|header| Some(header.content..header.end?.min(movie.end)))
        .collect();
    let mut longest: Option<f64> = None;
    for track in tracks {
        let Some(media) = child(file, track, *b"mdia") else { continue };
        let Some(handler) = child(file, media.clone(), *b"hdlr") else { continue };
        let mut kind = [0; 12];
        file.seek(SeekFrom::Start(handler.start)).ok()?;
        if file.read_exact(&mut kind).is_err() || !kind.ends_with(b"vide") {
            continue;
        }
        let video = child(file, media, *b"mdhd").and_then(|mdhd| length(file, mdhd));
        longest = longest.into_iter().chain(video.map(|video| video.seconds)).reduce(f64::max);
    }
    longest.is_some_and(|seconds| seconds < PREVIEW * whole.seconds).then_some(whole.place)
}

/// The content of the first box of a kind.
fn child(file: &mut (impl Read + Seek), within: Range<u64>, kind: [u8; 4]) -> Option<Range<u64>> {
    let header = boxes(file, within.start, within.end).find(|header| header.kind == kind)?;
    Some(header.content..header.end.unwrap_or(within.end).min(within.end))
}

/// Reads a `mvhd` or `mdhd`: version and flags, two times, units a second, length.
fn length(file: &mut (impl Read + Seek), content: Range<u64>) -> Option<Length> {
    let mut bytes = [0; 32];
    file.seek(SeekFrom::Start(content.start)).ok()?;
    file.read_exact(&mut bytes[..20]).ok()?;
    let long = bytes[0] == 1;
    let (scale, place) = if long {
        file.read_exact(&mut bytes[20..]).ok()?;
        (20, 24..32)
    } else {
        (12, 16..20)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    let units = number(&bytes[scale..scale + 4]);
    let seconds = number(&bytes[place.clone()]) as f64 / units as f64;
    let place = content.start + place.start as u64..content.start + place.end as u64;
    seconds.is_finite().then_some(Length { seconds, place })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn a_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 8).expect("small");
        [&size.to_be_bytes()[..], kind, content].concat()
    }

    /// A `mvhd` or `mdhd` of so many seconds, in thousandths.
    fn of_length(seconds: u32) -> Vec<u8> {
        let numbers = [0, 0, 0, 1000, seconds * 1000].map(u32::to_be_bytes);
        numbers.concat()
    }

    fn track(handler: &[u8; 4], seconds: u32) -> Vec<u8> {
        let handler = [&[0; 8][..], handler, &[0; 12]].concat();
        let media = [a_box(b"mdhd", &of_length(seconds)), a_box(b"hdlr", &handler)].concat();
        a_box(b"trak", &a_box(b"mdia", &media))
    }

    fn movie(seconds: u32, tracks: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut content = a_box(b"mvhd", &of_length(seconds));
        content.extend(tracks.iter().flat_map(|(handler, seconds)| track(handler, *seconds)));
        [a_box(b"ftyp", b"isom"), a_box(b"moov", &content)].concat()
    }

    #[test]
    fn a_length_misleads_where_all_video_is_much_shorter() {
        let found =
            |bytes: &[u8]| find_misleading_length(&mut Cursor::new(bytes), bytes.len() as u64);
        // ftyp: 12 bytes; headers of moov and mvhd; 16 bytes into mvhd.
        assert_eq!(found(&movie(63, &[(b"soun", 63), (b"vide", 2)])), Some(44..48));
        assert_eq!(found(&movie(10, &[(b"soun", 10), (b"vide", 2)])), None);
        assert_eq!(found(&movie(63, &[(b"vide", 2), (b"vide", 60)])), None);
        assert_eq!(found(&movie(63, &[(b"soun", 63)])), None);
        let bytes = movie(63, &[(b"soun", 63), (b"vide", 2)]);
        for cut in 0..bytes.len() {
            let _ = found(&bytes[..cut]);
        }
    }
}
