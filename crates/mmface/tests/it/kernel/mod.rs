//! The preprocessing kernel: the file that goes to the GPU, compiled for the CPU, against the
//! reference in crop/mod.rs; and compiled by the real NVRTC for every chip.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use mmface::backend::tensorrt::crops as gpu_crops;
use mmface::backend::tensorrt::kernel::{self, Geometry};
use mmface::crop::{CROP, CropMap, sample};
use mmface::image::{Colour, Layout, Matrix, Plane};
use mmface::{Error, Image};
use proptest::prelude::*;

use crate::common::{nv12, padded, picture, random};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The kernel as a program, compiled once.
static PROGRAM: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("crop");
    // Fused multiply-adds would round otherwise than Rust does; NVRTC is told the same.
    let status = Command::new("c++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(Path::new(CRATE).join("src/backend/tensorrt"))
        .arg(Path::new(CRATE).join("tests/it/kernel/shim.cpp"))
        .status()
        .unwrap();
    assert!(status.success(), "crop.cu is no C++");
    (folder, program)
});

/// The crops as the kernel cuts them.
fn run(image: &Image, maps: &[CropMap]) -> Vec<u8> {
    let frame: Vec<u8> = kernel::planes(image).flatten().copied().collect();
    let mut input = Vec::new();
    input.extend((maps.len() as u32).to_ne_bytes());
    input.extend((frame.len() as u32).to_ne_bytes());
    input.extend(Geometry::of(image).unwrap().to_bytes());
    maps.iter().for_each(|map| input.extend(kernel::map_bytes(map)));
    input.extend(frame);
    let mut child =
        Command::new(&PROGRAM.1).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Both must say the same, bit for bit.
fn agree(ours: &[u8], reference: &[u8]) -> std::result::Result<(), String> {
    assert_eq!(ours.len(), reference.len());
    let off = ours.iter().zip(reference).filter(|(a, b)| a != b).count();
    let worst = ours.iter().zip(reference).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    if off > 0 {
        return Err(format!("{off} of {} bytes differ, by up to {worst}", ours.len()));
    }
    Ok(())
}

fn reference(image: &Image, maps: &[CropMap]) -> Vec<u8> {
    let mut out = vec![0; maps.len() * 3 * CROP * CROP];
    for (map, out) in maps.iter().zip(out.chunks_exact_mut(3 * CROP * CROP)) {
        sample(image, map, out);
    }
    out
}

/// Inside, turned, across every border, far outside, tiny and huge.
fn maps() -> Vec<CropMap> {
    let map = |x, y, side, angle| CropMap::square([x, y], side, angle);
    vec![
        map(320.0, 180.0, 200.0, 0.0),
        map(300.5, 170.25, 333.0, 0.4),
        map(0.0, 0.0, 150.0, -2.0),
        map(639.0, 359.0, 400.0, 3.1),
        map(-5000.0, 100.0, 100.0, 0.0),
        map(320.0, 180.0, 5000.0, 1.0),
        map(100.0, 100.0, 3.0, 0.7),
        map(300.5, 170.25, 333.0, 0.4).mirror(),
    ]
}

const LAYOUTS: [Layout; 5] = [Layout::I420, Layout::Nv12, Layout::Rgb, Layout::Bgr, Layout::Grey];

#[test]
fn real_frames_are_cut_as_on_the_cpu() {
    let maps = maps();
    for file in ["WolfgangLanger_Pexels.mp4", "face_noface.mov", "multi_face.jpg"] {
        let image = picture(file);
        let colours = [Matrix::Bt601, Matrix::Bt709]
            .map(|matrix| [false, true].map(|full_range| Colour { matrix, full_range }));
        for colour in colours.into_iter().flatten().chain([image.colour]) {
            let image = image.clone().with_colour(colour);
            agree(&run(&image, &maps), &reference(&image, &maps))
                .unwrap_or_else(|e| panic!("{file}, {colour:?}: {e}"));
        }
    }
}

#[test]
fn nv12_is_cut_like_i420() {
    let image = picture("WolfgangLanger_Pexels.mp4");
    assert_eq!(image.layout, Layout::I420);
    agree(&run(&nv12(&image), &maps()), &reference(&image, &maps())).unwrap();
}

/// Noise in rows that are `padding` bytes longer than the picture is wide.
fn noise(layout: Layout, seed: u64, [width, height]: [u32; 2], padding: usize) -> Image<'static> {
    let mut next = random(seed);
    let planes = layout.planes(width, height).into_iter().map(|size| {
        Plane::new((0..size.row * size.rows).map(|_| next()).collect::<Vec<_>>(), size.row)
    });
    let image = Image::new(layout, width, height, planes).unwrap();
    let colour = Colour { matrix: Matrix::Bt709, full_range: false };
    padded(&image, padding).with_colour(colour)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn noise_of_any_size_is_cut_as_on_the_cpu(
        seed: u64, width in 1u32..90, height in 1u32..90, padding in 0usize..20,
        layout in prop::sample::select(&LAYOUTS[..]),
        x in -60f32..150.0, y in -60f32..150.0, side in 1f32..500.0, angle in -4f32..4.0,
        mirrored: bool,
    ) {
        let image = noise(layout, seed, [width, height], padding);
        let maps = [CropMap { mirrored, ..CropMap::square([x, y], side, angle) }];
        agree(&run(&image, &maps), &reference(&image, &maps)).map_err(TestCaseError::fail)?;
    }
}

/// Once a failure.
#[test]
fn a_single_pixel_is_cut_as_on_the_cpu() {
    for layout in LAYOUTS {
        let image = noise(layout, 1, [1, 1], 0);
        let maps = [CropMap::square([0.0; 2], 1.0, 0.0)];
        agree(&run(&image, &maps), &reference(&image, &maps)).unwrap();
    }
}

#[test]
#[ignore = "needs a GPU"]
fn the_gpu_cuts_as_the_cpu_does() {
    let files = ["WolfgangLanger_Pexels.mp4", "face_noface.mov", "multi_face.jpg"].map(picture);
    let sizes = [([89, 61], 7), ([1, 1], 0), ([1283, 719], 1)];
    let odd = LAYOUTS.iter().flat_map(|layout| {
        sizes.iter().zip(1..).map(|(&(size, padding), seed)| noise(*layout, seed, size, padding))
    });
    for image in files.into_iter().chain(odd) {
        let ours = gpu_crops(&image, &maps()).unwrap();
        agree(&ours, &reference(&image, &maps())).unwrap_or_else(|e| panic!("{image:?}: {e}"));
    }
}

#[test]
fn a_plane_that_is_too_short_is_refused() {
    let mut image = noise(Layout::I420, 1, [20, 20], 3);
    image.height = 21;
    assert!(matches!(Geometry::of(&image), Err(Error::Image(_))));
}
