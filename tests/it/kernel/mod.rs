//! The preprocessing kernel: the file that goes to the GPU, compiled for the CPU, against the
//! reference in crop/mod.rs; and compiled by the real NVRTC for every chip.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use mmface_live::crop::{CROP, CropMap, sample};
use mmface_live::frame::{Image, Layout, Matrix, Planes};
use mmface_live::nets::tensorrt::crops as gpu_crops;
use mmface_live::nets::tensorrt::kernel::{self, Geometry};
use mmface_live::source::{Input, Options, Source};
use proptest::prelude::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The kernel as a program, compiled once.
static PROGRAM: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("crop");
    // Fused multiply-adds would round otherwise than Rust does; NVRTC is told the same.
    let status = Command::new("c++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(Path::new(ROOT).join("src/nets/tensorrt"))
        .arg(Path::new(ROOT).join("tests/it/kernel/shim.cpp"))
        .status()
        .unwrap();
    assert!(status.success(), "crop.cu is no C++");
    (folder, program)
});

fn run(geometry: &Geometry, maps: &[CropMap], frame: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    input.extend((maps.len() as u32).to_ne_bytes());
    input.extend((frame.len() as u32).to_ne_bytes());
    input.extend(geometry.to_bytes());
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

fn bytes(image: &Image) -> Vec<u8> {
    (0..kernel::planes(image)).flat_map(|plane| kernel::bytes(image, plane).to_vec()).collect()
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

fn frame(file: &str) -> Image {
    let path = Path::new(ROOT).join("vendor/media").join(file);
    let source = Source::open(Options::new(Input::File(path))).unwrap();
    source.frames.recv().unwrap().image
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

#[test]
fn real_frames_are_cut_as_on_the_cpu() {
    let maps = maps();
    for file in ["WolfgangLanger_Pexels.mp4", "face_noface.mov", "multi_face.jpg"] {
        let mut image = frame(file);
        for (matrix, full_range) in [
            (image.matrix, image.full_range),
            (Matrix::Bt601, false),
            (Matrix::Bt601, true),
            (Matrix::Bt709, false),
            (Matrix::Bt709, true),
        ] {
            (image.matrix, image.full_range) = (matrix, full_range);
            let geometry = Geometry::of(&image).unwrap();
            let ours = run(&geometry, &maps, &bytes(&image));
            agree(&ours, &reference(&image, &maps))
                .unwrap_or_else(|e| panic!("{file}, {matrix:?}, full range {full_range}: {e}"));
        }
    }
}

#[test]
fn nv12_is_cut_like_i420() {
    let image = frame("WolfgangLanger_Pexels.mp4");
    assert_eq!(image.layout, Layout::I420);
    let mut nv12 = kernel::bytes(&image, 0).to_vec();
    let (cb, cr) = (kernel::bytes(&image, 1), kernel::bytes(&image, 2));
    nv12.extend(cb.iter().zip(cr).flat_map(|(cb, cr)| [*cb, *cr]));
    let geometry = Geometry::of(&image).unwrap().nv12(2 * image.planes.stride(1) as u32);
    agree(&run(&geometry, &maps(), &nv12), &reference(&image, &maps())).unwrap();
}

/// Planes with rows that are longer than the picture is wide.
struct Padded([(Vec<u8>, usize); 3]);

impl Planes for Padded {
    fn plane(&self, index: usize) -> &[u8] {
        &self.0[index].0
    }
    fn stride(&self, index: usize) -> usize {
        self.0[index].1
    }
}

fn noise(mut seed: u64, width: u32, height: u32, padding: usize) -> Image {
    let mut plane = |columns: u32, rows: u32| {
        let stride = columns as usize + padding;
        // The last row ends with its last pixel, as decoders may have it.
        let length = stride * (rows as usize - 1) + columns as usize;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        ((0..length).map(|_| next()).collect(), stride)
    };
    let (half, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let planes = [plane(width, height), plane(half, half_height), plane(half, half_height)];
    let planes = Arc::new(Padded(planes));
    let (layout, matrix) = (Layout::I420, Matrix::Bt709);
    Image { width, height, layout, matrix, full_range: false, planes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn noise_of_any_size_is_cut_as_on_the_cpu(
        seed: u64, width in 1u32..90, height in 1u32..90, padding in 0usize..20, rgb: bool,
        x in -60f32..150.0, y in -60f32..150.0, side in 1f32..500.0, angle in -4f32..4.0,
        mirrored: bool,
    ) {
        let image = if rgb {
            let plane = noise(seed, width * 3, height, 0).planes.plane(0).to_vec();
            Image::from_rgb(width, height, plane).unwrap()
        } else {
            noise(seed, width, height, padding)
        };
        let maps = [CropMap { mirrored, ..CropMap::square([x, y], side, angle) }];
        let ours = run(&Geometry::of(&image).unwrap(), &maps, &bytes(&image));
        agree(&ours, &reference(&image, &maps)).map_err(TestCaseError::fail)?;
    }
}

#[test]
#[ignore = "needs a GPU"]
fn the_gpu_cuts_as_the_cpu_does() {
    let files = ["WolfgangLanger_Pexels.mp4", "face_noface.mov", "multi_face.jpg"].map(frame);
    let odd = [noise(1, 89, 61, 7), noise(2, 1, 1, 0), noise(3, 1283, 719, 1)];
    for image in files.iter().chain(&odd) {
        let ours = gpu_crops(image, &maps()).unwrap();
        agree(&ours, &reference(image, &maps()))
            .unwrap_or_else(|e| panic!("{}x{}: {e}", image.width, image.height));
    }
}

#[test]
fn a_plane_that_is_too_short_is_refused() {
    let mut image = noise(1, 20, 20, 3);
    image.height = 21;
    assert_eq!(Geometry::of(&image).unwrap_err().exit_code(), 3);
}
