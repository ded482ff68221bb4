//! On a GPU: `make test-gpu`. Ignored elsewhere.

use std::time::Instant;

use mmface::backend::tensorrt::gpu;
use mmface::backend::{self, Backend, Batch, Options, Output, Session};
use mmface::crop::CropMap;
use mmface::{Device, Image, Precision};

use crate::common::{Clip, models};

/// How far the GPU may be from the CPU, both in f32: crop pixels and degrees of the pose, and
/// identity, expression and presence.
const F32: [f32; 2] = [0.05, 0.005];
/// The same for f16.
const F16: [f32; 2] = [0.5, 0.05];

fn open(options: &Options) -> Box<dyn Backend> {
    let models = models();
    let variant = models.variant("mmface-lite").unwrap();
    backend::open(&models, &variant, options).unwrap()
}

fn cuda() -> Options {
    Options { device: Device::Cuda, precision: Some(Precision::F32), ..Options::default() }
}

fn cpu() -> Options {
    Options { device: Device::Cpu, precision: Some(Precision::F32), ..Options::default() }
}

type Frame = (Image<'static>, Vec<CropMap>);

/// Frames of the clip, and crops that move about the face in it: one to three.
fn clip(count: usize) -> Vec<Frame> {
    let frames: Vec<_> = Clip::open("WolfgangLanger_Pexels.mp4")
        .take(count)
        .enumerate()
        .map(|(i, (_, image))| {
            let at = |k: usize| {
                let way = (i * 7 + k * 40) as f32;
                CropMap::square(
                    [280.0 + way % 90.0, 150.0 + way % 50.0],
                    220.0,
                    (way % 13.0) / 20.0,
                )
            };
            (image, (0..=i % 3).map(at).collect())
        })
        .collect();
    assert_eq!(frames.len(), count);
    frames
}

fn infer(session: &mut dyn Session, frame: u64, at: &Frame, next: Option<&Frame>) -> Vec<Output> {
    let next = next.map(|(image, _)| image);
    let batch = Batch { image: &at.0, frame, crops: &at.1, volumes: false, next };
    let seen = session.infer(&batch).unwrap();
    seen.into_iter().map(|seen| seen.output).collect()
}

/// As a tracker does it: the next frame goes up while this one is computed.
fn run(session: &mut dyn Session, frames: &[Frame]) -> Vec<Vec<Output>> {
    let nexts = frames.iter().skip(1).map(Some).chain([None]);
    let numbered = frames.iter().zip(nexts).zip(1..);
    numbered.map(|((frame, next), number)| infer(session, number, frame, next)).collect()
}

/// The same in a session of its own.
fn outputs(options: &Options, frames: &[Frame]) -> Vec<Vec<Output>> {
    run(&mut *open(options).session().unwrap(), frames)
}

fn near(ours: &[Vec<Output>], reference: &[Vec<Output>], [pose, rest]: [f32; 2]) {
    assert_eq!(ours.len(), reference.len());
    for (ours, reference) in ours.iter().zip(reference) {
        assert_eq!(ours.len(), reference.len());
    }
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
    let reference = outputs(&cpu(), &frames);
    near(&outputs(&cuda(), &frames), &reference, F32);
    near(&outputs(&Options { precision: None, ..cuda() }, &frames), &reference, F16);
}

#[test]
#[ignore = "needs a GPU"]
fn buffering_and_graphs_change_no_bit() {
    let frames = clip(200);
    let reference = outputs(&cuda(), &frames);
    for (one_slot, no_cuda_graph) in [(true, false), (false, true), (true, true)] {
        let other = outputs(&Options { one_slot, no_cuda_graph, ..cuda() }, &frames);
        assert!(other == reference, "one slot {one_slot}, no graph {no_cuda_graph}");
    }
}

/// Sessions take turns on the device, and their frames bear the same numbers.
#[test]
#[ignore = "needs a GPU"]
fn sessions_get_their_own_results() {
    let frames = clip(60);
    let backend = open(&cuda());
    let (one, other) = frames.split_at(30);
    let alone = [one, other].map(|frames| run(&mut *backend.session().unwrap(), frames));
    let together = std::thread::scope(|scope| {
        let work = |frames| {
            let mut session = backend.session().unwrap();
            move || run(&mut *session, frames)
        };
        [one, other].map(|frames| scope.spawn(work(frames))).map(|t| t.join().unwrap())
    });
    assert!(alone == together);
    // Crops that are more than the engines take at once.
    let many = (frames[0].0.clone(), vec![frames[0].1[0]; 150]);
    let outputs = infer(&mut *backend.session().unwrap(), 1, &many, None);
    near(&[outputs], &[vec![alone[0][0][0].clone(); 150]], F32);
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
    [resident / 1024.0, used.expect("nvidia-smi says how much memory is used")]
}

#[test]
#[ignore = "needs a GPU"]
fn ten_thousand_frames_need_no_more_memory() {
    let frames = clip(100);
    let mut session = open(&cuda()).session().unwrap();
    for _ in 0..5 {
        run(&mut *session, &frames);
    }
    let before = memory();
    for _ in 0..100 {
        run(&mut *session, &frames);
    }
    let after = memory();
    println!("resident and GPU memory, MiB: {before:?}, after 10,000 frames {after:?}");
    assert!(after[0] < before[0] + 20.0 && after[1] < before[1] + 20.0);
}

/// Prints a table; what is measured must be right too.
#[test]
#[ignore = "needs a GPU"]
fn how_fast_it_is() {
    println!("{:?}", gpu().unwrap());
    println!(
        "{:<28} {:>5} {:>9} {:>9} {:>9} {:>9}",
        "", "faces", "p50 ms", "p95 ms", "p99 ms", "frames/s"
    );
    let frames = clip(100);
    let single: Vec<_> =
        frames.iter().map(|(image, maps)| (image.clone(), vec![maps[0]])).collect();
    let reference = outputs(&cpu(), &single);
    for (name, options, tolerance) in [
        ("cpu", cpu(), F32),
        ("cuda, f32", cuda(), F32),
        ("cuda, f32, no graph", Options { no_cuda_graph: true, ..cuda() }, F32),
        ("cuda, f32, one slot", Options { one_slot: true, ..cuda() }, F32),
        ("cuda, fastest precision", Options { precision: None, ..cuda() }, F16),
    ] {
        for faces in [1, 4, 16] {
            let frames: Vec<_> =
                frames.iter().map(|(image, maps)| (image.clone(), vec![maps[0]; faces])).collect();
            let mut session = open(&options).session().unwrap();
            // Engines make their kernels, graphs are recorded.
            run(&mut *session, &frames[..10]);
            let started = Instant::now();
            let (mut times, mut seen) = (Vec::new(), Vec::new());
            for (pair, number) in frames.windows(2).zip(11..) {
                let start = Instant::now();
                seen.push(infer(&mut *session, number, &pair[0], Some(&pair[1])));
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let rate = times.len() as f64 / started.elapsed().as_secs_f64();
            let repeated = reference.iter().take(99).map(|one| vec![one[0].clone(); faces]);
            near(&seen, &repeated.collect::<Vec<_>>(), tolerance);
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
