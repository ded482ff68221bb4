use super::*;

/// Fixtures: 48×32 pixels in four quarters; see `tests/data/pictures/README.md`.
fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures").join(name)
}

const PLENTY: MaxPixels = MaxPixels(1_000_000);

/// The colours in the middle of the quarters.
fn quarters(still: &Still) -> [[u8; 3]; 4] {
    let image = still.decoded.pixels.image();
    assert_eq!((image.width, image.height), (48, 32));
    let bytes = &image.planes[0].bytes;
    [(12, 8), (36, 8), (12, 24), (36, 24)].map(|(x, y)| {
        let at = 3 * (48 * y + x);
        [bytes[at], bytes[at + 1], bytes[at + 2]]
    })
}

fn assert_near(name: &str, expected: [[u8; 3]; 4], tolerance: u8) {
    let still = read(&fixture(name), PLENTY).unwrap_or_else(|e| panic!("{name} {e}"));
    let found = quarters(&still);
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!(a.abs_diff(*b) <= tolerance, "{name}: {found:?} instead of {expected:?}");
    }
}

const COLOURS: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 60], [50, 60, 210], [220, 210, 60]];
/// 0.299 R + 0.587 G + 0.114 B of them.
const GREYS: [[u8; 3]; 4] = [[88; 3], [124; 3], [74; 3], [196; 3]];

#[test]
fn every_kind_has_the_right_colours() {
    for name in [
        "a.bmp",
        "a.ppm",
        "alpha.png",
        "alpha.tif",
        "alpha.webp",
        "big.tif",
        "cmyk.tif",
        "ll.webp",
        "pal.png",
        "pilpack.tif",
        "planar.tif",
        "pred.tif",
        "rgb16.png",
        "rgb16.tif",
        "tiled.tif",
        "tiledlzw.tif",
    ] {
        assert_near(name, COLOURS, 0);
    }
    for name in [
        "s444.jpg",
        "s422.jpg",
        "s420.jpg",
        "s440.jpg",
        "s411.jpg",
        "prog.jpg",
        "rgb.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "ycck420.jpg",
        "jpegtif.tif",
        "jpegtiled.tif",
        "jpegstrip420.tif",
        "piljpeg.tif",
        "lossy.webp",
    ] {
        assert_near(name, COLOURS, 3);
    }
    let red = COLOURS.map(|[red, ..]| [red; 3]);
    assert_near("grey16.tif", red, 0);
    assert_near("grey.jpg", GREYS, 1);
    for name in ["bw.png", "bw.tif", "g4.tif", "a.pbm"] {
        let found = quarters(&read(&fixture(name), PLENTY).expect(name));
        assert!(found.iter().flatten().all(|&v| v == 0 || v == 255), "{name}: {found:?}");
        assert_ne!(found[0], found[3], "{name}");
    }
}

#[test]
fn every_orientation_is_turned_upright() {
    for number in 1..=8 {
        assert_near(&format!("exif{number}.jpg"), COLOURS, 3);
    }
    for kind in ["png", "webp", "tif"] {
        assert_near(&format!("exif6.{kind}"), COLOURS, 0);
    }
}

/// Needs libheif, which Debian's OpenCV brings.
#[test]
fn heic_and_avif_are_read_or_named() {
    for name in ["a.heic", "a.avif", "irot.avif"] {
        match read(&fixture(name), PLENTY) {
            Ok(_) => assert_near(name, COLOURS, 4),
            Err(reason) => assert!(reason.contains("libheif1"), "{name} {reason}"),
        }
    }
}

#[test]
fn animations_are_told() {
    for name in ["anim.webp", "anim.png"] {
        assert_near(name, COLOURS, 0);
        assert!(read(&fixture(name), PLENTY).expect(name).animated, "{name}");
    }
    assert!(!read(&fixture("ll.webp"), PLENTY).expect("a still").animated);
}

/// No part of a picture is made up: what is cut off is an error.
#[test]
fn a_picture_that_is_cut_off_is_refused() {
    let mut tried = 0;
    for entry in std::fs::read_dir(fixture("")).expect("fixtures") {
        let path = entry.expect("a fixture").path();
        let bytes = std::fs::read(&path).expect("a fixture");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".md") || name.starts_with("anim") || bytes.starts_with(b"II") {
            // The first picture of an animation is whole; where the pixels of a TIFF lie differs.
            continue;
        }
        tried += 1;
        let cut = decode(&bytes[..bytes.len() * 2 / 3], PLENTY);
        assert!(cut.is_err(), "{} is read although a third is missing", path.display());
    }
    assert!(tried > 30);
    let tiled = std::fs::read(fixture("tiled.tif")).expect("a fixture");
    assert!(decode(&tiled[..tiled.len() - 800], PLENTY).is_err());
    let whole = std::fs::read(fixture("s420.jpg")).expect("a fixture");
    assert!(decode(&whole[..whole.len() - 2], PLENTY).is_ok(), "only the end's marker is missing");
}

#[test]
fn the_limit_on_pixels_holds_before_decoding() {
    let limit = MaxPixels(48 * 32 - 1);
    for name in ["a.bmp", "a.ppm", "s420.jpg", "ll.webp", "pal.png", "tiled.tif", "jpegtif.tif"] {
        let reason = read(&fixture(name), limit).err().expect(name);
        assert!(
            reason.contains("48×32 pixels") && reason.contains("--max-pixels 1536"),
            "{reason}"
        );
    }
    // A PNG that says that it is 60,000 pixels wide and high, and nothing else.
    let mut bomb = std::fs::read(fixture("pal.png")).expect("a fixture");
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    // The checksum of the header is that of these bytes.
    let checksum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let reason = decode(&bomb, MaxPixels(100_000_000)).err().expect("too large");
    assert!(reason.contains("60000×60000 pixels (3600.0 megapixels)"), "{reason}");
    assert!(MaxPixels(u64::MAX).room(u32::MAX, u32::MAX).is_err_and(|e| e.contains("memory")));
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
