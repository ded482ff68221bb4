#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::image::{Layout, Matrix, Plane};
use proptest::prelude::*;

const RULE: CropRule = CropRule { size: 256, scale: 1.45, raise: 0.06 };

proptest! {
    #[test]
    fn crop_and_frame_are_inverse(
        cx in -500f32..3000.0, cy in -500f32..3000.0, scale in 0.05f32..20.0,
        angle in -4f32..4.0, mirrored: bool, u in -50f32..300.0, v in -50f32..300.0,
    ) {
        let map = CropMap { centre: [cx, cy], scale, angle, mirrored };
        let back = map.crop_from_frame(map.frame_from_crop([u, v]));
        prop_assert!((back[0] - u).abs() < 0.05 && (back[1] - v).abs() < 0.05, "{back:?}");
    }

    #[test]
    fn a_turned_face_gives_the_same_crop(angle in -3f32..3.0, dx in -100f32..100.0) {
        let points = [[10.0, 20.0], [110.0, 30.0], [60.0, 150.0], [55.0, 80.0]];
        let (sin, cos) = angle.sin_cos();
        let turned = points.map(|[x, y]| [cos * x - sin * y + dx, sin * x + cos * y]);
        let (a, b) = (CropMap::around(&points, 0.0, &RULE), CropMap::around(&turned, angle, &RULE));
        for (p, q) in points.iter().zip(&turned) {
            let (p, q) = (a.crop_from_frame(*p), b.crop_from_frame(*q));
            prop_assert!((p[0] - q[0]).abs() < 0.05 && (p[1] - q[1]).abs() < 0.05);
        }
    }
}

proptest! {
    #[test]
    fn whole_numbers_convert_like_real_ones(
        y in 0u8..=255, cb in 0u8..=255, cr in 0u8..=255, full in prop::bool::ANY, hd in prop::bool::ANY,
    ) {
        let matrix = if hd { Matrix::Bt709 } else { Matrix::Bt601 };
        let colour = Colour { matrix, full_range: full };
        let exact = colour.to_rgb().apply([y, cb, cr]);
        let whole = Conversion::new(colour).rgb([y, cb, cr].map(|v| i32::from(v) << FRACTION));
        for (a, b) in exact.iter().zip(whole) {
            prop_assert!(a.abs_diff(b) <= 1, "{exact:?} {whole:?}");
        }
    }
}

#[test]
fn the_crop_is_the_documented_square() {
    let map = CropMap::around(&[[100.0, 100.0], [200.0, 180.0]], 0.0, &RULE);
    assert!((map.scale * 256.0 - 145.0).abs() < 1e-3);
    assert!((map.centre[0] - 150.0).abs() < 1e-3 && (map.centre[1] - 134.0).abs() < 1e-3);
}

#[test]
fn sampling_is_bilinear_and_black_outside() {
    let image = Image::rgb(2, 1, vec![0, 100, 200, 100, 200, 100]).expect("sizes fit");
    let mut out = vec![7; 3 * CROP * CROP];
    // One crop pixel is one frame pixel; crop column 128 lies half way between the two.
    sample(&image, &CropMap::square([0.0; 2], 256.0, 0.0), &mut out);
    let at = |c: usize, u: usize, v: usize| out[c * CROP * CROP + v * CROP + u];
    // v = 127.5 is row 0 of the image: rows 127 and 128 are half image, half black.
    assert_eq!([at(0, 128, 128), at(1, 128, 128), at(2, 128, 128)], [25, 75, 75]);
    assert_eq!(at(1, 0, 0), 0);
}

proptest! {
    /// Rows inside the image are sampled in another way than those that reach beyond it.
    #[test]
    fn rows_are_what_their_pixels_are(
        x in -40f32..200.0, y in -40f32..160.0, side in 20f32..300.0, angle in -4f32..4.0,
        mirrored: bool, layout in prop::sample::select(vec![Layout::I420, Layout::Nv12, Layout::Rgb]),
    ) {
        let plane = |size: &crate::image::PlaneSize| {
            let bytes = (0..size.row * size.rows).map(|i| (i * i % 251) as u8);
            Plane::new(bytes.collect::<Vec<u8>>(), size.row)
        };
        let planes: Vec<_> = layout.planes(160, 120).iter().map(plane).collect();
        let image = Image::new(layout, 160, 120, planes).expect("sizes fit");
        let map = CropMap { mirrored, ..CropMap::square([x, y], side, angle) };
        let mut out = vec![0; 3 * CROP * CROP];
        sample(&image, &map, &mut out);
        let (pixels, step) = (Pixels::new(&image), map.step());
        for v in 0..CROP {
            let start = map.frame_from_crop([0.0, v as f32]).map(|c| fixed(f64::from(c)));
            for u in 0..CROP {
                let [x, y] = [0, 1].map(|k| start[k] + u as i64 * step[k]);
                let seen = [0, 1, 2].map(|c| out[(c * CROP + v) * CROP + u]);
                prop_assert_eq!(seen, pixels.at(x, y));
            }
        }
    }
}

#[test]
fn a_mirrored_crop_is_the_crop_mirrored() {
    let pixels = (0..40 * 30 * 3).map(|i| (i * i % 251) as u8).collect::<Vec<u8>>();
    let image = Image::rgb(40, 30, pixels).expect("sizes fit");
    let map = CropMap::square([19.5, 14.5], 32.0, 0.0);
    let (mut plain, mut mirrored) = (vec![0; 3 * CROP * CROP], vec![0; 3 * CROP * CROP]);
    sample(&image, &map, &mut plain);
    sample(&image, &map.mirror(), &mut mirrored);
    plain.chunks_exact_mut(CROP).for_each(<[u8]>::reverse);
    // Positions are rounded to 1/256 of a pixel, the other way round in a mirror.
    let off = plain.iter().zip(&mirrored).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off.is_some_and(|off| off <= 2), "{off:?}");
}

#[test]
fn the_same_pixels_give_the_same_crop_in_every_layout() {
    let (w, h) = (38u32, 30u32);
    let value = |seed: usize, i: usize| ((i * 7919 + seed * 104_729) % 251) as u8;
    let plane = |seed, n: usize| -> Vec<u8> { (0..n).map(|i| value(seed, i)).collect() };
    let map = CropMap::square([18.0, 15.5], 34.0, 0.4);
    let cut = |image: &Image| {
        let mut out = vec![0; 3 * CROP * CROP];
        sample(image, &map, &mut out);
        out
    };
    let rgb = plane(1, 3 * (w * h) as usize);
    let bgr: Vec<u8> = rgb.chunks(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
    assert_eq!(cut(&Image::rgb(w, h, &rgb).unwrap()), cut(&Image::bgr(w, h, bgr).unwrap()));
    let grey = plane(2, (w * h) as usize);
    let tripled: Vec<u8> = grey.iter().flat_map(|v| [*v; 3]).collect();
    assert_eq!(cut(&Image::grey(w, h, grey).unwrap()), cut(&Image::rgb(w, h, tripled).unwrap()));
    let (luma, cb, cr) = (plane(3, 38 * 30), plane(4, 19 * 15), plane(5, 19 * 15));
    let both: Vec<u8> = cb.iter().zip(&cr).flat_map(|(b, r)| [*b, *r]).collect();
    let i420 = [(&luma, 38), (&cb, 19), (&cr, 19)].map(|(b, s)| Plane::new(b.as_slice(), s));
    let nv12 = [(&luma, 38), (&both, 38)].map(|(b, s)| Plane::new(b.as_slice(), s));
    let i420 = Image::new(Layout::I420, w, h, i420).unwrap();
    assert_eq!(cut(&i420), cut(&Image::new(Layout::Nv12, w, h, nv12).unwrap()));
}

#[test]
fn a_detector_box_becomes_a_crop() {
    let rule = DetectorRule { centre: [0.0, 0.1], scale: 1.5 };
    let map = rule.crop([100.0, 100.0, 60.0, 100.0], 0.0);
    assert_eq!(map.centre, [130.0, 160.0]);
    assert!((map.scale - 150.0 / 256.0).abs() < 1e-6);
}
