//! Reads numeric arrays from MATLAB files of version 5, as used by AFLW2000-3D.
//!
//! The format is described in MathWorks' "MAT-File Format", chapter 1. A header of 128 bytes is
//! followed by elements, each with a type, a length and data. An array is an element that contains
//! four others (flags, dimensions, name, values). It may be compressed (zlib) inside another
//! element.

use std::collections::BTreeMap;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit as unpack;

/// A matrix in column-major order, as in MATLAB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// Number of rows.
    pub rows: usize,
    /// The values, column by column.
    pub values: Vec<f64>,
}

const HEADER: usize = 128;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// mxDOUBLE_CLASS to mxUINT64_CLASS: the classes of numeric arrays.
const NUMBERS: std::ops::RangeInclusive<u8> = 6..=15;
/// Most bytes of all compressed arrays of a file together, uncompressed. Labels are far smaller.
const LIMIT: usize = 16 << 20;

type Checked<T> = Result<T, &'static str>;

/// All two-dimensional arrays of real numbers in a file, by name; other arrays are ignored.
///
/// # Errors
/// The reason why the file cannot be read, as the second half of a sentence.
pub(super) fn arrays(bytes: &[u8]) -> Checked<BTreeMap<String, Array>> {
    match bytes.get(124..HEADER) {
        Some([0, 1, b'I', b'M']) if bytes.starts_with(b"MATLAB") => {}
        Some([0, 2, b'I', b'M']) => return Err("is of MATLAB 7.3: save it again with -v7"),
        Some([1, 0, b'M', b'I']) => return Err("has its bytes in the order of old machines"),
        _ => return Err("is no MATLAB file of version 5"),
    }
    let mut found = BTreeMap::new();
    let (mut rest, mut limit) = (&bytes[HEADER..], LIMIT);
    while !rest.is_empty() {
        let element = Element::read(&mut rest)?;
        let unpacked;
        let matrix = if element.kind == COMPRESSED {
            unpacked = unpack(element.data, limit)
                .map_err(|_| "holds an array that cannot be unpacked or is too large")?;
            limit -= unpacked.len();
            Element::read(&mut &unpacked[..])?
        } else {
            element
        };
        if matrix.kind == MATRIX {
            found.extend(array(matrix.data)?);
        }
    }
    Ok(found)
}

struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// Takes an element from the front of `bytes`.
    fn read(bytes: &mut &'a [u8]) -> Checked<Self> {
        let cut_off = "ends in the middle of an array";
        let word = |at: usize| {
            let four = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*four))
        };
        let first = word(0).ok_or(cut_off)?;
        // Small data element format: up to four bytes of data are in the tag itself, with their
        // count in its upper half.
        let (kind, start, length, end) = match first >> 16 {
            0 => {
                let length = word(4).ok_or(cut_off)? as usize;
                // Compressed elements are not padded.
                let padded = if first == COMPRESSED { length } else { length.div_ceil(8) * 8 };
                (first, 8, length, 8 + padded)
            }
            length @ 1..=4 => (first & 0xffff, 4, length as usize, 8),
            _ => return Err("holds an array with a broken tag"),
        };
        let data = bytes.get(start..start + length).ok_or(cut_off)?;
        // Some writers leave out the padding of the last element.
        *bytes = bytes.get(end..).unwrap_or_default();
        Ok(Self { kind, data })
    }
}

/// The array in a matrix element, if it is an array of real numbers.
fn array(mut data: &[u8]) -> Checked<Option<(String, Array)>> {
    let flags = Element::read(&mut data)?.data;
    let (Some(class), Some(bits)) = (flags.first(), flags.get(1)) else {
        return Err("holds an array without a kind");
    };
    let is_complex = bits & 0x08 != 0;
    if !NUMBERS.contains(class) || is_complex {
        return Ok(None);
    }
    let sizes = numbers(&Element::read(&mut data)?)?;
    let name = String::from_utf8_lossy(Element::read(&mut data)?.data).into_owned();
    let values = numbers(&Element::read(&mut data)?)?;
    let [rows, columns] = sizes[..] else { return Ok(None) };
    if sizes.iter().any(|size| *size < 0.0 || size.fract() != 0.0) {
        return Err("holds an array whose sizes are not whole numbers");
    }
    if rows * columns != values.len() as f64 {
        return Err("holds an array with fewer or more numbers than it says");
    }
    Ok(Some((name, Array { rows: rows as usize, values })))
}

/// The numbers of an element. MATLAB stores them in the smallest type that can hold them.
fn numbers(element: &Element) -> Checked<Vec<f64>> {
    macro_rules! values {
        ($t:ty) => {
            element.data.as_chunks().0.iter().map(|b| <$t>::from_le_bytes(*b) as f64).collect()
        };
    }
    Ok(match element.kind {
        1 => values!(i8),
        2 => values!(u8),
        3 => values!(i16),
        4 => values!(u16),
        5 => values!(i32),
        6 => values!(u32),
        7 => values!(f32),
        9 => values!(f64),
        12 => values!(i64),
        13 => values!(u64),
        _ => return Err("holds numbers of a type that MATLAB does not have"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().div_ceil(8) * 8, 0);
        bytes
    }

    /// A matrix of doubles.
    pub(crate) fn matrix(name: &str, rows: i32, values: &[f64]) -> Vec<u8> {
        let sizes = [rows, values.len() as i32 / rows].map(i32::to_le_bytes).concat();
        let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts = [
            element(6, &[6, 0, 0, 0, 0, 0, 0, 0]),
            element(5, &sizes),
            element(1, name.as_bytes()),
            element(9, &values),
        ];
        element(MATRIX, &parts.concat())
    }

    pub(crate) fn compressed(matrix: &[u8]) -> Vec<u8> {
        let data = miniz_oxide::deflate::compress_to_vec_zlib(matrix, 6);
        let tag = [COMPRESSED, data.len() as u32].map(u32::to_le_bytes).concat();
        [tag, data].concat()
    }

    pub(crate) fn file(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"MATLAB 5.0 MAT-file".to_vec();
        bytes.resize(124, b' ');
        bytes.extend([0, 1, b'I', b'M']);
        bytes.extend(elements.concat());
        bytes
    }

    /// A row of one byte: everything small enough stands in the tags, as MATLAB does it.
    fn small() -> Vec<u8> {
        let parts = [
            element(6, &[9, 0, 0, 0, 0, 0, 0, 0]),
            element(5, &[1, 0, 0, 0, 3, 0, 0, 0]),
            vec![1, 0, 2, 0, b'n', b'o', 0, 0],
            vec![2, 0, 3, 0, 7, 8, 255, 0],
        ];
        element(MATRIX, &parts.concat())
    }

    #[test]
    fn plain_packed_and_small_arrays_are_read() {
        let text = element(MATRIX, &element(6, &[4, 0, 0, 0, 0, 0, 0, 0]));
        let points = matrix("pt", 3, &[1.5, 2.0, -3.0, 4.0, 5.0, 6.25]);
        let found = arrays(&file(&[compressed(&points), text, small()])).expect("good");
        assert_eq!(found.len(), 2);
        assert_eq!(found["pt"], Array { rows: 3, values: vec![1.5, 2.0, -3.0, 4.0, 5.0, 6.25] });
        assert_eq!(found["no"], Array { rows: 1, values: vec![7.0, 8.0, 255.0] });
        assert_eq!(arrays(&file(&[points])).expect("good").len(), 1);
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let whole = file(&[matrix("a", 1, &[1.0, 2.0]), compressed(&matrix("b", 1, &[3.0]))]);
        let first = 128 + matrix("a", 1, &[1.0, 2.0]).len();
        for length in 0..whole.len() {
            // Between two arrays nothing tells that there were more.
            let good = length == 128 || length == first;
            assert_eq!(arrays(&whole[..length]).is_ok(), good, "{length} bytes");
        }
    }

    #[test]
    fn other_versions_are_named() {
        let mut newer = file(&[]);
        newer[125] = 2;
        assert!(arrays(&newer).expect_err("HDF5").contains("-v7"));
        assert!(arrays(b"\x89PNG").is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_but_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), at in 128usize..300, with in any::<u8>(),
        ) {
            let _ = arrays(&file(&[bytes]));
            let mut good = file(&[matrix("a", 2, &[1.0; 8]), compressed(&small())]);
            if let Some(byte) = good.get_mut(at) {
                *byte = with;
            }
            let _ = arrays(&good);
        }
    }
}
