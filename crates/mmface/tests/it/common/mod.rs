//! What several tests need.

mod media;
pub mod render;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use mmface::detect::Kind;
use mmface::image::{Layout, Plane};
use mmface::{Device, Image, Models, Precision, Runtime};

pub use media::{Clip, picture};

/// The checkout. Libraries and the detector's file are searched there, as if a program ran in it.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        std::env::set_current_dir(&root).unwrap();
        root
    });
    &ROOT
}

/// A clip or picture that the set-up unpacked.
pub fn media(name: &str) -> PathBuf {
    let path = root().join("vendor/media").join(name);
    assert!(path.exists(), "{} is not there: run `make setup`", path.display());
    path
}

/// The models that ship.
pub fn models() -> Models {
    Models::open(&root().join("engines")).unwrap()
}

/// The same random bytes for the same seed.
pub fn random(mut seed: u64) -> impl FnMut() -> u8 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    }
}

/// The same pixels with `padding` bytes of something else behind every row.
pub fn padded(image: &Image, padding: usize) -> Image<'static> {
    let sizes = image.layout.planes(image.width, image.height);
    let planes = sizes.into_iter().enumerate().map(|(index, size)| {
        let mut rows: Vec<u8> = Vec::new();
        for row in image.packed(index).unwrap().chunks_exact(size.row) {
            rows.extend(row);
            rows.extend(std::iter::repeat_n(0xa5, padding));
        }
        // The last row may end with its last sample, as decoders have it.
        rows.truncate(rows.len() - padding);
        Plane::new(rows, size.row + padding)
    });
    Image::new(image.layout, image.width, image.height, planes).unwrap().with_colour(image.colour)
}

/// An I420 image as NV12.
pub fn nv12(image: &Image) -> Image<'static> {
    assert_eq!(image.layout, Layout::I420);
    let [luma, cb, cr] = [0, 1, 2].map(|plane| image.packed(plane).unwrap().into_owned());
    let both: Vec<u8> = cb.into_iter().zip(cr).flat_map(|(cb, cr)| [cb, cr]).collect();
    let (width, height) = (image.width, image.height);
    let sizes = Layout::Nv12.planes(width, height);
    let planes = [Plane::new(luma, sizes[0].row), Plane::new(both, sizes[1].row)];
    Image::new(Layout::Nv12, width, height, planes).unwrap().with_colour(image.colour)
}

/// A runtime on the CPU, in the precision that every CPU has.
pub fn runtime() -> Runtime {
    runtime_in(Some(Precision::F32))
}

/// A runtime on the CPU with the networks' own detector.
pub fn runtime_in(precision: Option<Precision>) -> Runtime {
    Runtime::builder(models())
        .device(Device::Cpu)
        .precision(precision)
        .detector(Kind::CenterFaceOpenVino, None::<PathBuf>)
        .build()
        .unwrap()
}
