//! The same picture in every layout that an image can have.

use mmface::bounds::iou;
use mmface::detect::Kind;
use mmface::image::Layout;
use mmface::{Device, Face, Image, Mode, Precision, Runtime, TrackerOptions};

use crate::common::{models, nv12, padded, picture};

fn runtime(detector: Kind) -> Runtime {
    Runtime::builder(models())
        .device(Device::Cpu)
        .precision(Some(Precision::F32))
        .detector(detector, None)
        .build()
        .unwrap()
}

fn faces(runtime: &Runtime, image: &Image) -> Vec<Face> {
    let options = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    let mut faces = runtime.tracker(options).unwrap().process(image, 0.0).unwrap().faces;
    // By their place: detections of the same score may come in any order.
    faces.sort_by(|a, b| a.bounds[0].total_cmp(&b.bounds[0]));
    faces
}

/// The picture as R, G, B: every pixel with the chroma of its two by two.
fn rgb(image: &Image) -> Image<'static> {
    let [luma, cb, cr] = [0, 1, 2].map(|plane| image.packed(plane).unwrap());
    let (width, half) = (image.width as usize, image.width.div_ceil(2) as usize);
    let to_rgb = image.colour.to_rgb();
    let pixel = |(i, y): (usize, &u8)| {
        let chroma = i / width / 2 * half + i % width / 2;
        to_rgb.apply([*y, cb[chroma], cr[chroma]])
    };
    let bytes: Vec<u8> = luma.iter().enumerate().flat_map(pixel).collect();
    Image::rgb(image.width, image.height, bytes).unwrap()
}

fn bgr(image: &Image) -> Image<'static> {
    let bytes = image.packed(0).unwrap();
    let turned: Vec<u8> = bytes.as_chunks().0.iter().flat_map(|&[r, g, b]| [b, g, r]).collect();
    Image::bgr(image.width, image.height, turned).unwrap()
}

fn grey(image: &Image) -> Image<'static> {
    Image::grey(image.width, image.height, image.packed(0).unwrap().into_owned()).unwrap()
}

/// Whether both are the same faces to the last bit.
fn same(a: &[Face], b: &[Face]) -> bool {
    let parts = |faces: &[Face]| -> Vec<_> {
        faces.iter().map(|face| (face.confidence, face.params.clone())).collect()
    };
    parts(a) == parts(b)
}

/// Whether both are the same faces but for what colours do.
fn near(a: &[Face], b: &[Face], part: f32, degrees: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        let size = a.bounds[2].max(a.bounds[3]);
        assert!(iou(a.bounds, b.bounds) > 0.9, "{:?} {:?}", a.bounds, b.bounds);
        let turn = a.params.rotation.angle_to(&b.params.rotation).to_degrees();
        assert!(turn < degrees, "{turn}°");
        let points = a.landmarks.iter().zip(&b.landmarks);
        let off = points.map(|(p, q)| (p[0] - q[0]).hypot(p[1] - q[1])).sum::<f32>() / 68.0;
        assert!(off < part * size, "{off} of {size}");
    }
}

fn detectors() -> Vec<Kind> {
    vec![
        Kind::CenterFaceOpenVino,
        #[cfg(feature = "opencv")]
        Kind::CenterFaceOpenCv,
    ]
}

#[test]
fn the_same_picture_gives_the_same_faces_in_every_layout() {
    for detector in detectors() {
        let runtime = runtime(detector);
        for (name, count) in [("astronaut.png", 1), ("multi_face.jpg", 4)] {
            let i420 = picture(name);
            assert_eq!(i420.layout, Layout::I420);
            let seen = faces(&runtime, &i420);
            assert_eq!(seen.len(), count, "{name}");
            // Scaled by other code, so detections differ by rounding; crops do not.
            near(&seen, &faces(&runtime, &nv12(&i420)), 0.005, 0.5);
            let rgb = rgb(&i420);
            let of_rgb = faces(&runtime, &rgb);
            near(&seen, &of_rgb, 0.01, 2.0);
            assert!(same(&of_rgb, &faces(&runtime, &bgr(&rgb))), "{name}: RGB and BGR");
            // A network that was taught colours knows less without them.
            near(&seen, &faces(&runtime, &grey(&i420)), 0.06, 8.0);
        }
    }
}

/// Where a face is found does not depend on the detector once it is followed: crops of both layouts
/// are the same bytes.
#[test]
fn nv12_and_i420_are_cut_alike() {
    use mmface::crop::{CROP, CropMap, sample};
    let i420 = picture("astronaut.png");
    let nv12 = nv12(&i420);
    for map in [
        CropMap::square([224.5, 127.0], 138.0, 0.3),
        CropMap::square([0.0, 500.0], 300.0, -2.0),
        CropMap::square([250.0, 250.0], 900.0, 0.0).mirror(),
    ] {
        let [a, b] = [&i420, &nv12].map(|image| {
            let mut crop = vec![0; 3 * CROP * CROP];
            sample(image, &map, &mut crop);
            crop
        });
        assert!(a == b, "{map:?}");
    }
}

#[test]
fn rows_may_have_gaps() {
    for detector in detectors() {
        let runtime = runtime(detector);
        let i420 = picture("astronaut.png");
        let packed = padded(&i420, 0);
        let rgb = rgb(&i420);
        for image in [&packed, &nv12(&i420), &rgb, &bgr(&rgb), &grey(&i420)] {
            let seen = faces(&runtime, image);
            assert_eq!(seen.len(), 1, "{image:?}");
            for padding in [1, 63] {
                let strided = faces(&runtime, &padded(image, padding));
                assert!(same(&seen, &strided), "{image:?}, {padding} bytes of padding");
            }
        }
    }
}
