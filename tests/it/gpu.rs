//! On a GPU: `make test-gpu`. Ignored elsewhere.

use std::path::Path;
use std::time::Instant;

use mmface_live::crop::CropMap;
use mmface_live::frame::Image;
use mmface_live::nets::tensorrt::gpu;
use mmface_live::nets::{self, Backend, Device, Engines, Options, Output, Precision};
use mmface_live::source::{Input, Source};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How far the GPU may be from the CPU, both in f32: crop pixels and degrees of the pose, and
/// identity, expression and presence.
const F32: [f32; 2] = [0.05, 0.005];
/// The same for f16.
const F16: [f32; 2] = [0.5, 0.05];

fn open(options: &Options) -> Box<dyn Backend> {
    let engines = Engines::open(&Path::new(ROOT).join("engines")).unwrap();
    let variant = engines.variant("mmface-lite").unwrap();
    nets::open(&engines, &variant, options).unwrap()
}

fn cuda() -> Options {
    Options { device: Device::Cuda, precision: Some(Precision::F32), ..Options::default() }
}

fn cpu() -> Options {
    Options { device: Device::Cpu, precision: Some(Precision::F32), ..Options::default() }
}

/// Frames of the clip, and crops that move about the face in it: one to three.
fn clip(count: usize) -> Vec<(Image, Vec<CropMap>)> {
    let path = Path::new(ROOT).join("vendor/media/WolfgangLanger_Pexels.mp4");
    let source = Source::open(mmface_live::source::Options::new(Input::File(path))).unwrap();
    let frames = source.frames.iter().take(count).enumerate();
    frames
        .map(|(i, frame)| {
            let at = |k: usize| {
                let way = (i * 7 + k * 40) as f32;
                CropMap::square(
                    [280.0 + way % 90.0, 150.0 + way % 50.0],
                    220.0,
                    (way % 13.0) / 20.0,
                )
            };
            (frame.image, (0..=i % 3).map(at).collect())
        })
        .collect()
}

/// As the pipeline does it: the next frame goes up while this one is computed.
fn run(backend: &mut dyn Backend, frames: &[(Image, Vec<CropMap>)]) -> Vec<Vec<Output>> {
    let nexts = frames.iter().skip(1).map(Some).chain([None]);
    frames
        .iter()
        .zip(nexts)
        .map(|((image, maps), next)| {
            let ticket = backend.submit(image, maps).unwrap();
            if let Some((next, _)) = next {
                backend.prefetch(next).unwrap();
            }
            backend.collect(ticket).unwrap()
        })
        .collect()
}

fn near(ours: &[Vec<Output>], reference: &[Vec<Output>], [pose, rest]: [f32; 2]) {
    for (ours, reference) in ours.iter().flatten().zip(reference.iter().flatten()) {
        let values = |o: &Output| [&o.identity[..], &o.expression, &[o.presence]].concat();
        assert_eq!(ours.points.len(), reference.points.len());
        for (a, b) in ours.points.iter().flatten().zip(reference.points.iter().flatten()) {
            assert!((a - b).abs() <= pose, "{a} {b}");
        }
        for (a, b) in ours.pose.iter().zip(&reference.pose) {
            assert!((a - b).abs() <= pose, "{:?} {:?}", ours.pose, reference.pose);
        }
        for (a, b) in values(ours).iter().zip(&values(reference)) {
            assert!((a - b).abs() <= rest, "{a} {b}");
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn the_gpu_says_what_the_cpu_says() {
    let frames = clip(200);
    let reference = run(&mut *open(&cpu()), &frames);
    near(&run(&mut *open(&cuda()), &frames), &reference, F32);
    near(&run(&mut *open(&Options { precision: None, ..cuda() }), &frames), &reference, F16);
}

#[test]
#[ignore = "needs a GPU"]
fn buffering_and_graphs_change_no_bit() {
    let frames = clip(200);
    let reference = run(&mut *open(&cuda()), &frames);
    for (one_slot, no_cuda_graph) in [(true, false), (false, true), (true, true)] {
        let other = run(&mut *open(&Options { one_slot, no_cuda_graph, ..cuda() }), &frames);
        assert!(other == reference, "one slot {one_slot}, no graph {no_cuda_graph}");
    }
}

#[test]
#[ignore = "needs a GPU"]
fn several_batches_in_flight_come_back_in_order() {
    let frames = clip(60);
    let reference = run(&mut *open(&cuda()), &frames);
    let mut backend = open(&cuda());
    for (pair, wanted) in frames.chunks_exact(2).zip(reference.chunks_exact(2)) {
        let first = backend.submit(&pair[0].0, &pair[0].1).unwrap();
        let second = backend.submit(&pair[1].0, &pair[1].1).unwrap();
        assert_eq!(backend.collect(first).unwrap(), wanted[0]);
        assert_eq!(backend.collect(second).unwrap(), wanted[1]);
    }
    // A batch larger than the engines take at once.
    let many = vec![frames[0].1[0]; 20];
    let ticket = backend.submit(&frames[0].0, &many).unwrap();
    let outputs = backend.collect(ticket).unwrap();
    near(&[outputs], &[vec![reference[0][0].clone(); 20]], F32);
}

/// Resident memory of this process, and what is used on the GPU, MiB.
fn memory() -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let resident: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let smi = std::process::Command::new("nvidia-smi").args(query).output();
    let used = smi
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok()?.lines().next()?.trim().parse().ok());
    [resident / 1024.0, used.unwrap_or(0.0)]
}

#[test]
#[ignore = "needs a GPU"]
fn ten_thousand_frames_need_no_more_memory() {
    let frames = clip(100);
    let mut backend = open(&cuda());
    for _ in 0..5 {
        run(&mut *backend, &frames);
    }
    let before = memory();
    for _ in 0..100 {
        run(&mut *backend, &frames);
    }
    let after = memory();
    println!("resident and GPU memory, MiB: {before:?}, after 10,000 frames {after:?}");
    assert!(after[0] < before[0] + 20.0 && after[1] < before[1] + 20.0);
}

#[test]
#[ignore = "needs a GPU"]
fn how_fast_it_is() {
    println!("{:?}", gpu().unwrap());
    println!(
        "{:<28} {:>5} {:>9} {:>9} {:>9} {:>9}",
        "", "faces", "p50 ms", "p95 ms", "p99 ms", "frames/s"
    );
    let frames = clip(100);
    for (name, options) in [
        ("cpu", cpu()),
        ("cuda, f32", cuda()),
        ("cuda, f32, no graph", Options { no_cuda_graph: true, ..cuda() }),
        ("cuda, f32, one slot", Options { one_slot: true, ..cuda() }),
        ("cuda, fastest precision", Options { precision: None, ..cuda() }),
    ] {
        for faces in [1, 4, 16] {
            let frames: Vec<_> =
                frames.iter().map(|(image, maps)| (image.clone(), vec![maps[0]; faces])).collect();
            let mut backend = open(&options);
            // Engines make their kernels, graphs are recorded.
            run(&mut *backend, &frames[..10]);
            let started = Instant::now();
            let mut times = Vec::new();
            for frame in frames.windows(2) {
                let start = Instant::now();
                let ticket = backend.submit(&frame[0].0, &frame[0].1).unwrap();
                backend.prefetch(&frame[1].0).unwrap();
                backend.collect(ticket).unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let rate = times.len() as f64 / started.elapsed().as_secs_f64();
            times.sort_by(f64::total_cmp);
            let at = |part: usize| times[(times.len() - 1) * part / 100];
            println!(
                "{name:<28} {faces:>5} {:>9.2} {:>9.2} {:>9.2} {rate:>9.0}",
                at(50),
                at(95),
                at(99)
            );
        }
    }
}
