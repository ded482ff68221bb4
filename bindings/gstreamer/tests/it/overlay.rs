//! `mmfaceoverlay`.

use crate::common::{bytes, portrait, samples};

/// The portrait as RGB, drawn on in this format.
fn drawn(format: &str, overlay: &str) -> Vec<u8> {
    let description = format!(
        "{} ! mmface ! videoconvert ! video/x-raw,format={format} ! {overlay} ! videoconvert \
         ! video/x-raw,format=RGB ! appsink name=out sync=false",
        portrait(1, "format=I420,width=400,height=300,pixel-aspect-ratio=1/1")
    );
    bytes(samples(&description)[0].buffer().unwrap())
}

/// How many of 100 samples differ by more than 40 of 255.
fn differ(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differ = a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) > 40).count();
    100.0 * differ as f64 / a.len() as f64
}

#[test]
fn every_format_is_drawn_on_alike() {
    let plain = drawn("RGB", "identity");
    let reference = drawn("RGB", "mmfaceoverlay");
    let changed = differ(&plain, &reference);
    assert!((1.0..20.0).contains(&changed), "{changed} of 100 samples are drawn on");
    for format in [
        "I420", "NV12", "BGR", "YV12", "NV21", "Y42B", "Y444", "YUY2", "UYVY", "AYUV", "GBR",
        "RGBx", "BGRx", "xRGB", "xBGR", "RGBA", "BGRA", "ARGB", "ABGR",
    ] {
        let apart = differ(&reference, &drawn(format, "mmfaceoverlay"));
        // Chroma at half resolution blurs thin lines.
        assert!(apart < changed / 3.0, "{format}: {apart} of {changed}");
    }
    let grey = drawn("GRAY8", "identity");
    assert!(differ(&grey, &drawn("GRAY8", "mmfaceoverlay")) > 1.0);
}

#[test]
fn what_is_drawn_can_be_chosen() {
    let nothing = "mmfaceoverlay box=false landmarks=false axes=false labels=false";
    let plain = drawn("RGB", "identity");
    assert_eq!(plain, drawn("RGB", nothing));
    for part in ["box", "landmarks", "axes", "labels"] {
        let only = nothing.replace(&format!("{part}=false"), "");
        assert!(differ(&plain, &drawn("RGB", &only)) > 0.05, "{part}");
    }
}

#[test]
fn a_picture_that_was_scaled_is_drawn_on_in_the_right_place() {
    let scaled = |before: &str, after: &str| {
        let description = format!(
            "{} ! mmface {before} ! mmfaceoverlay labels=false {after} ! videoconvert \
             ! video/x-raw,format=RGB ! appsink name=out sync=false",
            portrait(1, "format=RGB,width=400,height=300,pixel-aspect-ratio=1/1")
        );
        bytes(samples(&description)[0].buffer().unwrap())
    };
    let half = "! videoscale ! video/x-raw,width=200,height=150";
    let plain = bytes(
        samples(&format!(
            "{} ! appsink name=out sync=false",
            portrait(1, "format=RGB,width=200,height=150,pixel-aspect-ratio=1/1")
        ))[0]
            .buffer()
            .unwrap(),
    );
    let changed = differ(&plain, &scaled("", half));
    // Lines are thinner by half, so the two pictures are alike and not equal.
    let apart = differ(&scaled("", half), &scaled(half, ""));
    assert!(apart < changed, "{apart} of {changed}");
}

#[test]
fn frames_without_faces_stay_as_they_are() {
    let source = "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=160,height=120";
    let sink = "appsink name=out sync=false";
    let plain = samples(&format!("{source} ! {sink}"));
    let drawn = samples(&format!("{source} ! mmface ! mmfaceoverlay ! {sink}"));
    for (plain, drawn) in plain.iter().zip(&drawn) {
        assert_eq!(bytes(plain.buffer().unwrap()), bytes(drawn.buffer().unwrap()));
    }
    assert_eq!(drawn.len(), 3);
}
