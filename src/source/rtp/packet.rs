//! What an RTP packet (RFC 3550) says about the frame that it is a part of.

/// Length of the fixed header.
const FIXED: usize = 12;
/// Header extension of ONVIF: the time at which the frame was taken.
const ONVIF: u16 = 0xabac;

/// How frames are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Codec {
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// RFC 2435.
    Jpeg,
}

impl Codec {
    /// The codec with this name in a session description.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "H264" => Some(Self::H264),
            "H265" => Some(Self::H265),
            "JPEG" => Some(Self::Jpeg),
            _ => None,
        }
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub sequence: u16,
    pub timestamp: u32,
    /// The last packet of a frame.
    pub marker: bool,
    /// Time at which the frame was taken, in NTP's format, if the camera sends ONVIF's extension.
    pub taken: Option<u64>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The first packet of its frame, or near enough: nothing of the picture is before it.
    pub starts: bool,
    /// A part of a picture, not only parameters.
    pub picture: bool,
    /// Decoding can start at this frame.
    pub key: bool,
}

impl Header {
    /// Takes a packet apart; `None` for what is no RTP packet.
    pub(super) fn parse(packet: &[u8]) -> Option<(Self, &[u8])> {
        let [flags, kind, a, b, rest @ ..] = packet else { return None };
        let timestamp = u32::from_be_bytes(*rest.first_chunk()?);
        if flags >> 6 != 2 {
            return None;
        }
        let mut payload = packet.get(FIXED + 4 * usize::from(flags & 15)..)?;
        let mut taken = None;
        if flags & 0x10 != 0 {
            let [p, q, m, n, after @ ..] = payload else { return None };
            let words = usize::from(u16::from_be_bytes([*m, *n]));
            let (extension, left) = after.split_at_checked(4 * words)?;
            if u16::from_be_bytes([*p, *q]) == ONVIF {
                taken = extension.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            }
            payload = left;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        let sequence = u16::from_be_bytes([*a, *b]);
        Some((Self { sequence, timestamp, marker: kind & 0x80 != 0, taken }, payload))
    }
}

impl Content {
    /// Looks into a packet's payload.
    pub(super) fn of(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::H264 => Self::of_h264(payload),
            Codec::H265 => Self::of_h265(payload),
            Codec::Jpeg => {
                // A fragment's offset in the frame follows the first byte.
                let starts = payload.get(1..4) == Some(&[0; 3]);
                Self { starts, picture: true, key: true }
            }
        }
    }

    fn of_h264(payload: &[u8]) -> Self {
        match payload {
            // Several units in one packet (STAP-A, STAP-B).
            [first, units @ ..] if first & 31 == 24 => Self::of_units(units, h264_unit),
            [first, _, _, units @ ..] if first & 31 == 25 => Self::of_units(units, h264_unit),
            // A part of a unit (FU-A, FU-B).
            [first, head, part @ ..] if matches!(first & 31, 28 | 29) => {
                let skipped = if first & 31 == 29 { 2 } else { 0 };
                Self::of_part(*head, h264_unit(head & 31, part.get(skipped..).unwrap_or_default()))
            }
            [first, unit @ ..] => h264_unit(first & 31, unit),
            [] => Self::default(),
        }
    }

    fn of_h265(payload: &[u8]) -> Self {
        let kind = |first: u8| first >> 1 & 63;
        let unit = |first, unit: &[u8]| h265_unit(kind(first), unit.get(1..).unwrap_or_default());
        match payload {
            [first, _, units @ ..] if kind(*first) == 48 => Self::of_units(units, unit),
            [first, _, head, part @ ..] if kind(*first) == 49 => {
                Self::of_part(*head, h265_unit(head & 63, part))
            }
            [first, rest @ ..] => unit(*first, rest),
            [] => Self::default(),
        }
    }

    /// Units that are packed together, each after its length.
    fn of_units(mut units: &[u8], look: impl Fn(u8, &[u8]) -> Self) -> Self {
        let mut all = None;
        while let [a, b, rest @ ..] = units {
            let length = usize::from(u16::from_be_bytes([*a, *b])).min(rest.len());
            let (unit, after) = rest.split_at(length);
            if let [first, unit @ ..] = unit {
                let of_unit = look(*first, unit);
                let all: &mut Self = all.get_or_insert(Self { picture: false, ..of_unit });
                all.picture |= of_unit.picture;
                all.key |= of_unit.key;
            }
            units = after;
        }
        all.unwrap_or_default()
    }

    /// A unit of which this is a part. The bit in front says whether it is the first part.
    fn of_part(head: u8, whole: Self) -> Self {
        Self { starts: whole.starts && head & 0x80 != 0, ..whole }
    }
}

/// A unit of H.264 of this kind, without its first byte.
fn h264_unit(kind: u8, unit: &[u8]) -> Content {
    let kind = kind & 31;
    let picture = matches!(kind, 1..=5);
    let starts = match kind {
        // A slice starts a picture if it begins with the first macroblock, whose number is written
        // as a single bit.
        1 | 2 | 5 => unit.first().is_some_and(|byte| byte & 0x80 != 0),
        6..=9 => true,
        _ => false,
    };
    Content { starts, picture, key: kind == 5 || kind == 6 && has_recovery_point(unit) }
}

/// A unit of H.265 of this kind, without its two first bytes.
fn h265_unit(kind: u8, unit: &[u8]) -> Content {
    let picture = kind < 32;
    let starts = match kind {
        0..=31 => unit.first().is_some_and(|byte| byte & 0x80 != 0),
        32..=35 | 39 => true,
        _ => false,
    };
    Content {
        starts,
        picture,
        key: matches!(kind, 16..=23) || kind == 39 && has_recovery_point(unit),
    }
}

/// Whether a message among supplemental information says that decoding can start here.
fn has_recovery_point(mut messages: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    // A number is written as bytes that are added up, all but the last being 255.
    let number = |bytes: &mut &[u8]| {
        let mut sum = 0;
        while let [byte, rest @ ..] = *bytes {
            *bytes = rest;
            sum += usize::from(*byte);
            if *byte != 255 {
                return Some(sum);
            }
        }
        None
    };
    while let Some((kind, length)) = number(&mut messages).zip(number(&mut messages)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        messages = messages.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Content = Content { starts: true, picture: true, key: false };
    const REST: Content = Content { starts: false, picture: true, key: false };
    const PARAMETERS: Content = Content { starts: true, picture: false, key: false };

    fn key(content: Content) -> Content {
        Content { key: true, ..content }
    }

    #[test]
    fn headers_are_read_with_all_their_parts() {
        let plain = [0x80, 0xe0, 0x12, 0x34, 0, 1, 0, 0, 9, 9, 9, 9, 7, 8];
        let (header, payload) = Header::parse(&plain).expect("a packet");
        let expected = Header { sequence: 0x1234, timestamp: 0x10000, marker: true, taken: None };
        assert_eq!((header, payload), (expected, &[7, 8][..]));
        // One further source, an extension of ONVIF, and two bytes of padding.
        let mut full = vec![0xb1, 0x60, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9, 1, 1, 1, 1];
        full.extend([0xab, 0xac, 0, 3, 0, 0, 0, 5, 0x80, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2]);
        let (header, payload) = Header::parse(&full).expect("a packet");
        assert_eq!(header.taken, Some(5 << 32 | 1 << 31));
        assert_eq!((header.marker, payload), (false, &[7][..]));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for length in 0..12 {
            assert_eq!(Header::parse(&[0x80; 12][..length]), None);
        }
        assert_eq!(Header::parse(&[0x40; 20]), None);
        // Sources, an extension and padding that are not there.
        for flags in [0x8f, 0x90, 0xa0] {
            let mut packet = [200; 14];
            packet[0] = flags;
            assert_eq!(Header::parse(&packet), None, "{flags:x}");
        }
    }

    #[test]
    fn frames_of_h264_are_told_apart() {
        let of = |payload: &[u8]| Content::of(Codec::H264, payload);
        assert_eq!(of(&[0x67, 1, 2]), PARAMETERS);
        assert_eq!(of(&[0x41, 0x9a]), START);
        assert_eq!(of(&[0x41, 0x1a]), REST);
        assert_eq!(of(&[0x65, 0x88]), key(START));
        // The first, a middle and the last part of a key frame.
        assert_eq!(of(&[0x7c, 0x85, 0x88]), key(START));
        assert_eq!(of(&[0x7c, 0x05, 0xff]), key(REST));
        assert_eq!(of(&[0x7c, 0x45, 0x88]), key(REST));
        // Parameters and a slice together, and a recovery point after another message.
        assert_eq!(of(&[0x78, 0, 2, 0x67, 1, 0, 2, 0x65, 0x88]), key(START));
        assert_eq!(of(&[0x06, 5, 1, 0, 6, 1, 0x80]), key(PARAMETERS));
        assert_eq!(of(&[0x06, 5, 255, 1, 0]), PARAMETERS);
        assert_eq!(of(&[]), Content::default());
    }

    #[test]
    fn frames_of_h265_are_told_apart() {
        let of = |payload: &[u8]| Content::of(Codec::H265, payload);
        assert_eq!(of(&[64, 1, 2]), PARAMETERS);
        assert_eq!(of(&[2, 1, 0xd0]), START);
        assert_eq!(of(&[2, 1, 0x50]), REST);
        assert_eq!(of(&[38, 1, 0xaf]), key(START));
        assert_eq!(of(&[98, 1, 0x93, 0xaf]), key(START));
        assert_eq!(of(&[98, 1, 0x13, 0xaf]), key(REST));
        assert_eq!(of(&[96, 1, 0, 3, 64, 1, 2, 0, 3, 38, 1, 0xaf]), key(START));
    }

    #[test]
    fn frames_of_jpeg_start_at_their_first_byte() {
        let of = |payload: &[u8]| Content::of(Codec::Jpeg, payload);
        assert_eq!(of(&[0, 0, 0, 0, 1]), key(START));
        assert_eq!(of(&[0, 0, 5, 0, 1]), key(REST));
    }
}
