//! Slots, streams, events, page-locked memory and graphs on a real GPU of any kind: the networks are
//! a stand-in whose results can be told from the crops to the last bit, the sums of their colours.
//! TensorRT is not needed. `make test-gpu`; ignored elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::ffi::c_void;

use cudarc::driver::result::launch_kernel;
use cudarc::driver::sys::{CUdeviceptr, CUstream};

use super::*;
use crate::backend::slots::{ImageKey, Slots};
use crate::backend::tensorrt::cuda::{driver, nvrtc};
use crate::crop::{CROP, sample};
use crate::image::{Layout, Plane};

/// The networks' two steps: what the first writes, the second reads.
const STAND_IN: &str = r#"
extern "C" __global__ void vmn(const unsigned char* crops, unsigned* features) {
    __shared__ unsigned sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    const unsigned char* plane = crops + (blockIdx.y * 3ull + blockIdx.x) * 65536;
    unsigned mine = 0;
    for (int i = threadIdx.x; i < 65536; i += blockDim.x) mine += plane[i];
    atomicAdd(&sum, mine);
    __syncthreads();
    if (threadIdx.x == 0) features[blockIdx.y * 3 + blockIdx.x] = sum;
}
extern "C" __global__ void pmn(const unsigned* features, float* pose, float* presence, float* identity) {
    int face = threadIdx.x;
    for (int k = 0; k < 7; k++) pose[face * 7 + k] = k;
    presence[face] = face;
    for (int k = 0; k < 3; k++) identity[face * 3 + k] = features[face * 3 + k];
}
"#;

/// The stand-in for VMN and PMN, and its contexts.
#[derive(Clone)]
struct StandIn {
    vmn: CudaFunction,
    pmn: CudaFunction,
}

impl StandIn {
    fn new(context: &Arc<CudaContext>) -> Self {
        let chip = driver::describe(context).unwrap().chip;
        let code = nvrtc::compile_source(STAND_IN, chip).unwrap().code;
        let module = context.load_module(Ptx::from_binary(code)).unwrap();
        let function = |name| module.load_function(name).unwrap();
        Self { vmn: function("vmn"), pmn: function("pmn") }
    }
}

impl Networks for StandIn {
    fn sizes(&self) -> Result<Sizes> {
        Ok(Sizes { features: CHUNK * 3 * 4, identity: 3, expression: 0, points: 0 })
    }

    fn contexts(&mut self) -> Result<Box<dyn Contexts>> {
        Ok(Box::new(self.clone()))
    }
}

impl Contexts for StandIn {
    unsafe fn enqueue(
        &mut self,
        sizes: &Sizes,
        batch: usize,
        [crops, features, results]: [CUdeviceptr; 3],
        stream: CUstream,
    ) -> Result<()> {
        let queued = |e| failed("queueing the stand-in", e);
        let pointer = |address: &CUdeviceptr| (&raw const *address).cast_mut().cast::<c_void>();
        let [pose, presence, identity, ..] = sizes.outputs();
        for (chunk, first) in (0..batch).step_by(CHUNK).enumerate() {
            let faces = (batch - first).min(CHUNK) as u32;
            let at = |(_, offset, _): (&str, usize, usize)| {
                results + (chunk * sizes.block() + offset) as CUdeviceptr
            };
            let (pose, presence, identity) = (at(pose), at(presence), at(identity));
            let crops = crops + (first * CROP_BYTES) as CUdeviceptr;
            let vmn = &mut [pointer(&crops), pointer(&features)];
            let pmn =
                &mut [pointer(&features), pointer(&pose), pointer(&presence), pointer(&identity)];
            // SAFETY: the arguments are those of the kernels above; the memory is the caller's promise.
            unsafe {
                launch_kernel(self.vmn.cu_function(), (3, faces, 1), (256, 1, 1), 0, stream, vmn)
                    .map_err(queued)?;
                launch_kernel(self.pmn.cu_function(), (1, 1, 1), (faces, 1, 1), 0, stream, pmn)
                    .map_err(queued)?;
            }
        }
        Ok(())
    }
}

fn device(count: usize, graphs: bool) -> Slots<Cuda> {
    let context = driver::context().unwrap();
    let chip = driver::describe(&context).unwrap().chip;
    let kernel = nvrtc::compile(chip).unwrap().code;
    let networks = Box::new(StandIn::new(&context));
    Slots::new(Cuda::new(context, kernel, networks, count, graphs).unwrap(), count)
}

const SMALL: [u32; 2] = [640, 360];
const LARGE: [u32; 2] = [1280, 720];

/// Pictures of noise, always the same.
fn noise(count: u64, [width, height]: [u32; 2]) -> Vec<Image<'static>> {
    let picture = |number: u64| {
        let mut state = number;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let sizes = Layout::I420.planes(width, height);
        let planes = sizes.into_iter().map(|size| {
            let bytes: Vec<_> = (0..size.row * size.rows).map(|_| next()).collect();
            Plane::new(bytes, size.row)
        });
        Image::new(Layout::I420, width, height, planes).unwrap()
    };
    (0..count).map(picture).collect()
}

/// An image, what it is called, and crops in it.
type Frame<'a> = (ImageKey, &'a Image<'static>, Vec<CropMap>);

fn key(frame: usize) -> ImageKey {
    ImageKey { session: 0, frame: frame as u64 }
}

/// Frames of two sizes by turns, and crops that move about in them: one to four, at times more than
/// the networks take at once.
fn frames<'a>(
    count: usize,
    small: &'a [Image<'static>],
    large: &'a [Image<'static>],
) -> Vec<Frame<'a>> {
    let image = |i: usize| match i / 40 % 2 {
        0 => &small[i % small.len()],
        _ => &large[i % large.len()],
    };
    let map = |i: usize, k: usize| {
        let way = (i * 7 + k * 40) as f32;
        CropMap::square([280.0 + way % 90.0, 150.0 + way % 50.0], 220.0, (way % 13.0) / 20.0)
    };
    let faces = |i: usize| if i % 50 == 49 { MAX_BATCH } else { 1 + i % 4 };
    (0..count).map(|i| (key(i), image(i), (0..faces(i)).map(|k| map(i, k)).collect())).collect()
}

/// The sums of the colours, as the CPU cuts the crops.
fn sums(image: &Image, maps: &[CropMap]) -> Vec<Vec<f32>> {
    let mut crop = vec![0; CROP_BYTES];
    let plane = |plane: &[u8]| plane.iter().map(|byte| u32::from(*byte)).sum::<u32>() as f32;
    let of = |map| {
        sample(image, map, &mut crop);
        crop.chunks_exact(CROP * CROP).map(plane).collect()
    };
    maps.iter().map(of).collect()
}

fn check(outputs: &[Output], wanted: &[Vec<f32>]) {
    assert_eq!(outputs.len(), wanted.len());
    for (face, (output, wanted)) in outputs.iter().zip(wanted).enumerate() {
        assert_eq!(&output.identity, wanted);
        assert_eq!(output.presence, (face % CHUNK) as f32);
        assert_eq!(output.pose, std::array::from_fn(|k| k as f32));
    }
}

/// As the pipeline does it, with the next frame on its way up or not, and with a second batch in
/// flight where there are two slots.
fn run(slots: &mut Slots<Cuda>, frames: &[Frame], wanted: &[Vec<Vec<f32>>]) {
    let submit = |slots: &mut Slots<Cuda>, (key, image, maps): &Frame| {
        slots.submit(*key, image, maps).unwrap()
    };
    for (i, pair) in frames.windows(2).enumerate() {
        let ticket = submit(slots, &pair[0]);
        if i % 3 > 0 {
            slots.prefetch(pair[1].0, pair[1].1).unwrap();
        }
        check(&slots.collect(ticket).unwrap(), &wanted[i]);
    }
    if slots.device().slots.len() < 2 {
        return;
    }
    for (i, pair) in frames.chunks_exact(2).enumerate() {
        let tickets = [submit(slots, &pair[0]), submit(slots, &pair[1])];
        for (ticket, wanted) in tickets.into_iter().zip(&wanted[2 * i..]) {
            check(&slots.collect(ticket).unwrap(), wanted);
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_gpu_computes_what_the_cpu_does_with_any_buffering() {
    let (small, large) = (noise(12, SMALL), noise(12, LARGE));
    let frames = frames(300, &small, &large);
    let wanted: Vec<_> = frames.iter().map(|(_, image, maps)| sums(image, maps)).collect();
    for (count, graphs) in [(2, true), (2, false), (1, true), (1, false)] {
        let mut slots = device(count, graphs);
        for _ in 0..3 {
            run(&mut slots, &frames, &wanted);
        }
        assert_eq!(slots.device().graphs, graphs, "graphs cannot be recorded here");
    }
}

/// Resident memory of this process, and free memory of the GPU, MiB.
fn memory(context: &CudaContext) -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let resident: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    [resident / 1024.0, context.mem_get_info().unwrap().0 as f64 / f64::from(1 << 20)]
}

#[test]
#[ignore = "needs a GPU"]
fn ten_thousand_frames_need_no_more_memory_of_a_gpu() {
    let (small, large) = (noise(12, SMALL), noise(12, LARGE));
    let frames = frames(100, &small, &large);
    let wanted: Vec<_> = frames.iter().map(|(_, image, maps)| sums(image, maps)).collect();
    let mut slots = device(2, true);
    let mut ten_thousand = || {
        for _ in 0..50 {
            run(&mut slots, &frames, &wanted);
        }
        memory(&slots.device().context)
    };
    let (before, after) = (ten_thousand(), ten_thousand());
    println!("resident and free GPU memory, MiB: {before:?}, 10,000 frames later {after:?}");
    assert!(after[0] < before[0] + 20.0 && after[1] > before[1] - 20.0);
}

/// From the write of a frame to its results.
#[test]
#[ignore = "needs a GPU"]
fn how_fast_a_gpu_is_without_its_networks() {
    let frames = noise(12, LARGE);
    println!("{:?}, p50 ms of frame up, crops, results down", frames[0]);
    for (count, graphs) in [(2, true), (2, false), (1, true), (1, false)] {
        for faces in [1, 8, MAX_BATCH] {
            let maps = vec![CropMap::square([300.0, 200.0], 220.0, 0.1); faces];
            let wanted: Vec<_> = frames.iter().map(|image| sums(image, &maps)).collect();
            let mut slots = device(count, graphs);
            let mut times: Vec<_> = (0..600)
                .map(|i| {
                    let started = Instant::now();
                    let image = &frames[i % frames.len()];
                    let ticket = slots.submit(key(i), image, &maps).unwrap();
                    let outputs = slots.collect(ticket).unwrap();
                    let took = started.elapsed().as_secs_f64() * 1e3;
                    check(&outputs, &wanted[i % frames.len()]);
                    took
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!("slots {count}, graphs {graphs:5}, {faces:>2} faces: {:.3}", times[300]);
        }
    }
}
