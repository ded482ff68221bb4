//! The GPU as the scheduler's device: for each slot buffers, a stream, two events and CUDA graphs.
//!
//! The order between operations is up to the scheduler ([`crate::backend::slots`]); this file only
//! queues them.

#![allow(unsafe_code, reason = "memory is shared with a device, and a kernel is launched")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DriverError,
    LaunchConfig, PinnedHostSlice, PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;

use super::driver::failed;
use super::engine::CHUNK;
use super::networks::{CROP_BYTES, Contexts, Networks, Sizes};
use crate::backend::slots::{Event, SlotDevice, Stream};
use crate::backend::tensorrt::kernel::{self, Geometry};
use crate::backend::{MAX_BATCH, Output};
use crate::crop::CropMap;
use crate::error::{Error, Result};
use crate::image::Image;

/// The kernel's arguments are the geometry, then the crop maps, which start here (bytes).
const MAPS: usize = Geometry::SIZE.next_multiple_of(16);
/// Size of the kernel's arguments in bytes.
const ARGUMENTS: usize = MAPS + MAX_BATCH * kernel::MAP_SIZE;
/// Longest wait for a batch. A working GPU never takes as long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A GPU with both networks.
pub(super) struct Cuda {
    // Slots are dropped before the engines that their contexts belong to.
    slots: Vec<Slot>,
    _networks: Box<dyn Networks>,
    sizes: Sizes,
    crop: CudaFunction,
    copy: Arc<CudaStream>,
    context: Arc<CudaContext>,
    graphs: bool,
}

// SAFETY: TensorRT's contexts and CUDA's graphs are not bound to a thread; they only must not be
// used by two threads at once, and everything here takes `&mut self`. Each call makes the CUDA
// context current.
unsafe impl Send for Cuda {}

struct Slot {
    /// CUDA graphs by batch size. A size is inserted as `None` when it runs for the first time,
    /// without a graph.
    graphs: HashMap<usize, Option<CudaGraph>>,
    contexts: Box<dyn Contexts>,
    /// The frame in page-locked memory; write-combined, because the CPU only writes it.
    upload: PinnedHostSlice<u8>,
    /// Number of bytes of `upload` in use.
    length: usize,
    geometry: [u8; Geometry::SIZE],
    frame: CudaSlice<u8>,
    /// The kernel's arguments in page-locked memory, write-combined.
    arguments: PinnedHostSlice<u8>,
    device_arguments: CudaSlice<u8>,
    crops: CudaSlice<u8>,
    features: CudaSlice<u8>,
    results: CudaSlice<u8>,
    /// The results in page-locked memory; not write-combined, because the CPU reads it.
    download: PinnedHostSlice<f32>,
    stream: Arc<CudaStream>,
    uploaded: CudaEvent,
    done: CudaEvent,
}

/// Allocates page-locked memory, zeroed.
fn pinned<T>(
    context: &Arc<CudaContext>,
    count: usize,
    flags: u32,
) -> std::result::Result<PinnedHostSlice<T>, DriverError>
where
    T: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits + Copy + Default,
{
    // SAFETY: the memory is filled before it is returned.
    let mut memory = unsafe { context.alloc_pinned_with_flags::<T>(count, flags) }?;
    memory.as_mut_slice()?.fill(T::default());
    Ok(memory)
}

/// Queues the kernel that cuts `batch` crops.
fn cut(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    frame: &CudaSlice<u8>,
    arguments: &CudaSlice<u8>,
    crops: &mut CudaSlice<u8>,
    batch: usize,
) -> std::result::Result<(), DriverError> {
    let geometry = arguments.slice(..Geometry::SIZE);
    let maps = arguments.slice(MAPS..);
    let grid = LaunchConfig {
        grid_dim: (kernel::GRID[0], kernel::GRID[1], batch as u32),
        block_dim: (kernel::BLOCK[0], kernel::BLOCK[1], 1),
        shared_mem_bytes: 0,
    };
    let mut launch = stream.launch_builder(kernel);
    launch.arg(frame).arg(&geometry).arg(&maps).arg(crops);
    // SAFETY: the arguments are those of `crop` in crop.cu. The geometry was checked against the
    // frame's length; crops and maps have room for MAX_BATCH, and callers refuse larger batches.
    unsafe { launch.launch(grid) }.map(drop)
}

/// The bytes of each plane of an image.
fn planes<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a [u8]> {
    kernel::planes(image)
}

/// Writes the kernel's arguments: geometry and crop maps.
fn write_arguments(
    arguments: &mut [u8],
    geometry: &[u8; Geometry::SIZE],
    crops: &[CropMap],
) -> Result<()> {
    if crops.len() > MAX_BATCH {
        return Err(Error::Bug(format!("{} crops at once", crops.len())));
    }
    arguments[..Geometry::SIZE].copy_from_slice(geometry);
    for (to, map) in arguments[MAPS..].chunks_exact_mut(kernel::MAP_SIZE).zip(crops) {
        to.copy_from_slice(&kernel::map_bytes(map));
    }
    Ok(())
}

/// Cuts the crops of one image with the kernel, without running networks.
pub(super) fn crops(
    context: &Arc<CudaContext>,
    kernel: Vec<u8>,
    image: &Image,
    maps: &[CropMap],
) -> Result<Vec<u8>> {
    let failed = |e| failed("cutting crops", e);
    let mut arguments = [0; ARGUMENTS];
    write_arguments(&mut arguments, &Geometry::of(image)?.to_bytes(), maps)?;
    let module = context.load_module(Ptx::from_binary(kernel)).map_err(failed)?;
    let kernel = module.load_function(kernel::NAME).map_err(failed)?;
    let stream = context.new_stream().map_err(failed)?;
    let frame: Vec<u8> = planes(image).flatten().copied().collect();
    let frame = stream.clone_htod(&frame).map_err(failed)?;
    let arguments = stream.clone_htod(&arguments).map_err(failed)?;
    let mut crops = stream.alloc_zeros(maps.len() * CROP_BYTES).map_err(failed)?;
    cut(&stream, &kernel, &frame, &arguments, &mut crops, maps.len()).map_err(failed)?;
    stream.clone_dtoh(&crops).map_err(failed)
}

impl Slot {
    fn new(
        context: &Arc<CudaContext>,
        contexts: Box<dyn Contexts>,
        sizes: &Sizes,
    ) -> std::result::Result<Self, DriverError> {
        let stream = context.new_stream()?;
        let chunks = MAX_BATCH.div_ceil(CHUNK);
        Ok(Self {
            graphs: HashMap::new(),
            contexts,
            upload: pinned(context, 1, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?,
            length: 0,
            geometry: [0; Geometry::SIZE],
            frame: stream.alloc_zeros(1)?,
            arguments: pinned(context, ARGUMENTS, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?,
            device_arguments: stream.alloc_zeros(ARGUMENTS)?,
            crops: stream.alloc_zeros(MAX_BATCH * CROP_BYTES)?,
            features: stream.alloc_zeros(sizes.features)?,
            results: stream.alloc_zeros(chunks * sizes.block())?,
            download: pinned(context, chunks * sizes.block() / 4, 0)?,
            stream,
            uploaded: context.new_event(None)?,
            done: context.new_event(None)?,
        })
    }

    /// Queues everything from the kernel's arguments to the results, on the slot's stream.
    fn enqueue(&mut self, crop: &CudaFunction, sizes: &Sizes, batch: usize) -> Result<()> {
        let queued = |e| failed("queueing a batch", e);
        let stream = &self.stream;
        let arguments = self.arguments.as_slice().map_err(queued)?;
        stream.memcpy_htod(arguments, &mut self.device_arguments).map_err(queued)?;
        cut(stream, crop, &self.frame, &self.device_arguments, &mut self.crops, batch)
            .map_err(queued)?;
        let address = |memory: &CudaSlice<u8>| memory.device_ptr(stream).0;
        let memory = [address(&self.crops), address(&self.features), address(&self.results)];
        // SAFETY: the buffers live as long as the slot, which is dropped only after the device is
        // idle, and have the sizes given by `Sizes`.
        unsafe { self.contexts.enqueue(sizes, batch, memory, stream.cu_stream()) }?;
        let used = batch.div_ceil(CHUNK) * sizes.block();
        // SAFETY: any bytes are valid floats, and device memory is sufficiently aligned.
        let results = unsafe { self.results.transmute::<f32>(self.results.len() / 4) };
        let results = results.ok_or_else(|| Error::Bug("results are no floats".into()))?;
        let download = self.download.as_mut_slice().map_err(queued)?;
        stream.memcpy_dtoh(&results.slice(..used / 4), &mut download[..used / 4]).map_err(queued)
    }

    /// Captures [`Self::enqueue`] as a CUDA graph instead of running it.
    fn capture(&mut self, crop: &CudaFunction, sizes: &Sizes, batch: usize) -> Result<CudaGraph> {
        let recorded = |e| failed("recording a graph", e);
        // In the stricter modes, CUDA fails on queries of events during capture, and cudarc queries
        // an event on each access to page-locked memory (observed on an H100: nothing was
        // captured).
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.stream.begin_capture(mode).map_err(recorded)?;
        let queued = self.enqueue(crop, sizes, batch);
        // The capture must be ended even if queueing failed.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags_enum(0));
        queued?;
        graph.map_err(recorded)?.ok_or_else(|| Error::Bug("nothing was recorded".into()))
    }
}

impl Cuda {
    /// A device with `count` slots.
    pub(super) fn new(
        context: Arc<CudaContext>,
        kernel: Vec<u8>,
        mut networks: Box<dyn Networks>,
        count: usize,
        graphs: bool,
    ) -> Result<Self> {
        let started = |e| failed("its start", e);
        // SAFETY: streams are ordered by the scheduler's events, not by cudarc's own.
        unsafe { context.disable_event_tracking() };
        let sizes = networks.sizes()?;
        let module = context.load_module(Ptx::from_binary(kernel)).map_err(started)?;
        let crop = module.load_function(kernel::NAME).map_err(started)?;
        let slots = (0..count).map(|_| {
            let contexts = networks.contexts()?;
            Slot::new(&context, contexts, &sizes).map_err(started)
        });
        let slots = slots.collect::<Result<_>>()?;
        let copy = context.new_stream().map_err(started)?;
        // Memory is allocated in stream order; after this, every stream may use it.
        context.synchronize().map_err(started)?;
        Ok(Self { slots, _networks: networks, sizes, crop, copy, context, graphs })
    }

    fn event(&self, event: Event) -> &CudaEvent {
        match event {
            Event::Uploaded(slot) => &self.slots[slot].uploaded,
            Event::Done(slot) => &self.slots[slot].done,
        }
    }

    fn stream(&self, stream: Stream) -> &CudaStream {
        match stream {
            Stream::Copy => &self.copy,
            Stream::Compute(slot) => &self.slots[slot].stream,
        }
    }
}

impl SlotDevice for Cuda {
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()> {
        let filled = |e| failed("making room for a frame", e);
        let geometry = Geometry::of(image)?;
        let slot = &mut self.slots[slot];
        let length = planes(image).map(<[u8]>::len).sum();
        if length > slot.upload.len() {
            // Captured graphs contain the old addresses.
            slot.graphs.clear();
            slot.upload = pinned(&self.context, length, sys::CU_MEMHOSTALLOC_WRITECOMBINED)
                .map_err(filled)?;
            slot.frame = slot.stream.alloc_zeros(length).map_err(filled)?;
            slot.stream.synchronize().map_err(filled)?;
        }
        let mut rest = slot.upload.as_mut_slice().map_err(filled)?;
        for plane in planes(image) {
            let (to, behind) = rest.split_at_mut(plane.len());
            to.copy_from_slice(plane);
            rest = behind;
        }
        slot.length = length;
        slot.geometry = geometry.to_bytes();
        Ok(())
    }

    fn copy(&mut self, slot: usize) -> Result<()> {
        let copied = |e| failed("copying a frame", e);
        let Slot { upload, length, frame, .. } = &mut self.slots[slot];
        let bytes = &upload.as_slice().map_err(copied)?[..*length];
        self.copy.memcpy_htod(bytes, frame).map_err(copied)
    }

    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()> {
        let launched = |e| failed("starting a batch", e);
        self.context.bind_to_thread().map_err(launched)?;
        let slot = &mut self.slots[slot];
        write_arguments(slot.arguments.as_mut_slice().map_err(launched)?, &slot.geometry, crops)?;
        let batch = crops.len();
        if self.graphs {
            match slot.graphs.get(&batch) {
                Some(Some(graph)) => return graph.launch().map_err(launched),
                // TensorRT has run this size before.
                Some(None) => match slot.capture(&self.crop, &self.sizes, batch) {
                    Ok(graph) => {
                        graph.launch().map_err(launched)?;
                        slot.graphs.insert(batch, Some(graph));
                        return Ok(());
                    }
                    Err(why) => {
                        self.graphs = false;
                        tracing::warn!("CUDA graphs do not work here, going on without: {why}");
                    }
                },
                None => drop(slot.graphs.insert(batch, None)),
            }
        }
        slot.enqueue(&self.crop, &self.sizes, batch)
    }

    fn record(&mut self, event: Event, stream: Stream) -> Result<()> {
        let recorded = self.event(event).record(self.stream(stream));
        recorded.map_err(|e| failed("marking a stream", e))
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<()> {
        let waits = self.stream(stream).wait(self.event(event));
        waits.map_err(|e| failed("ordering two streams", e))
    }

    fn finish(&mut self, event: Event) -> Result<()> {
        let ran = |e| failed("running the networks", e);
        self.context.bind_to_thread().map_err(ran)?;
        let started = Instant::now();
        // The time limit keeps a hanging GPU from hanging the program.
        while !self.event(event).try_is_complete().map_err(ran)? {
            match started.elapsed() {
                waited if waited > LONGEST_WAIT => {
                    return Err(Error::Gpu("the GPU does not answer".into()));
                }
                // Spins for short waits, sleeps for long ones.
                waited if waited > Duration::from_millis(2) => {
                    std::thread::sleep(Duration::from_micros(100));
                }
                _ => std::hint::spin_loop(),
            }
        }
        Ok(())
    }

    fn read(&mut self, slot: usize, batch: usize) -> Result<Vec<Output>> {
        let read = |e| failed("reading results", e);
        let results = self.slots[slot].download.as_slice().map_err(read)?;
        let block = self.sizes.block() / 4;
        let [pose, presence, identity, expression, points] = self.sizes.outputs();
        Ok((0..batch)
            .map(|face| {
                let results = &results[face / CHUNK * block..][..block];
                let row = |(_, offset, count): (&str, usize, usize)| {
                    &results[offset / 4 + face % CHUNK * count..][..count]
                };
                Output {
                    pose: std::array::from_fn(|k| row(pose)[k]),
                    identity: row(identity).to_vec(),
                    expression: row(expression).to_vec(),
                    presence: row(presence)[0],
                    points: crate::backend::points_in_crop(row(points)),
                }
            })
            .collect())
    }

    fn drain(&mut self) {
        // An error means that the device is lost, and then nothing is in flight.
        let _ = self.context.synchronize();
    }
}

#[cfg(test)]
mod tests;
