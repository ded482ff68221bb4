//! Detectors on real pictures.

use mmface::Image;
use mmface::detect::{self, Detection, Kind, Options};

use crate::common::{picture, root};

fn found(kind: Kind, image: &Image) -> Vec<Detection> {
    root();
    let mut detector = detect::open(&Options { kind, ..Options::default() }).unwrap();
    let found = detector.detect(image, Some(640)).unwrap();
    assert!(found.is_sorted_by(|a, b| a.score >= b.score), "surest first: {found:?}");
    found
}

/// Pictures, and how many faces they surely show.
const PICTURES: [(&str, usize); 3] =
    [("multi_face.jpg", 5), ("single_face.jpg", 1), ("chelsea.png", 0)];

#[test]
fn centerface_finds_the_faces_of_pictures() {
    for (name, count) in PICTURES {
        let found = found(Kind::CenterFaceOpenVino, &picture(name));
        let sure = found.iter().filter(|face| face.score > 0.6).count();
        assert_eq!(sure, count, "{name}: {found:?}");
    }
}

/// Both runners of CenterFace compute the same network on canvases that are scaled alike.
#[cfg(feature = "opencv")]
#[test]
fn opencv_and_openvino_find_the_same_faces() {
    use std::f32::consts::PI;

    use mmface::bounds::iou;

    for (name, count) in PICTURES {
        let image = picture(name);
        let [mut one, mut other] =
            [Kind::CenterFaceOpenCv, Kind::CenterFaceOpenVino].map(|kind| found(kind, &image));
        // Near the threshold the one may see what the other does not.
        for found in [&mut one, &mut other] {
            found.retain(|face| face.score > 0.5);
        }
        assert!(one.len() >= count, "{name}: {one:?}");
        assert_eq!(one.len(), other.len(), "{name}: {one:?} {other:?}");
        for a in &one {
            let overlap = |b: &Detection| iou(a.bounds, b.bounds);
            let b = other.iter().max_by(|b, c| overlap(b).total_cmp(&overlap(c))).unwrap();
            assert!(overlap(b) > 0.8, "{name}: {a:?} {b:?}");
            let turn = (a.angle - b.angle + PI).rem_euclid(2.0 * PI) - PI;
            assert!(turn.to_degrees().abs() < 3.0, "{name}: {a:?} {b:?}");
            assert!((a.score - b.score).abs() < 0.1, "{name}: {a:?} {b:?}");
        }
    }
}
