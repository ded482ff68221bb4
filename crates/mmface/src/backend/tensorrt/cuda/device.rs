//! The GPU as the scheduler sees it: per slot, buffers, a stream, two events, graphs.
//!
//! Order between the operations is the scheduler's affair ([`crate::backend::slots`]); here each is
//! queued and no more.

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
use crate::image::Image;
use crate::{Error, Result};

/// Where crop maps begin in what the kernel is told; before them lies the geometry.
const MAPS: usize = Geometry::SIZE.next_multiple_of(16);
const TOLD: usize = MAPS + MAX_BATCH * kernel::MAP_SIZE;
/// Nothing on a healthy GPU takes so long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A GPU with both networks.
pub(super) struct Cuda {
    // Slots go before the engines that their contexts belong to.
    slots: Vec<Slot>,
    _networks: Box<dyn Networks>,
    sizes: Sizes,
    crop: CudaFunction,
    copy: Arc<CudaStream>,
    context: Arc<CudaContext>,
    graphs: bool,
}

// SAFETY: TensorRT's contexts and CUDA's graphs are not tied to a thread, they only must not be used
// by two at once: everything here takes `&mut self`. The CUDA context is made current in every call.
unsafe impl Send for Cuda {}

struct Slot {
    /// Graphs by batch size; `None` after the first, plain run of that size.
    graphs: HashMap<usize, Option<CudaGraph>>,
    contexts: Box<dyn Contexts>,
    /// The frame on its way up: write-combined, the CPU only writes it.
    upload: PinnedHostSlice<u8>,
    /// Bytes of it that are used.
    length: usize,
    geometry: [u8; Geometry::SIZE],
    frame: CudaSlice<u8>,
    /// Geometry and crop maps, on their way up and on the device.
    told: PinnedHostSlice<u8>,
    maps: CudaSlice<u8>,
    crops: CudaSlice<u8>,
    features: CudaSlice<u8>,
    results: CudaSlice<u8>,
    /// Not write-combined: the CPU reads it.
    download: PinnedHostSlice<f32>,
    stream: Arc<CudaStream>,
    uploaded: CudaEvent,
    done: CudaEvent,
}

/// Page-locked memory, all zeros.
fn pinned<T>(
    context: &Arc<CudaContext>,
    count: usize,
    flags: u32,
) -> std::result::Result<PinnedHostSlice<T>, DriverError>
where
    T: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits + Copy + Default,
{
    // SAFETY: it is filled before anybody sees it.
    let mut memory = unsafe { context.alloc_pinned_with_flags::<T>(count, flags) }?;
    memory.as_mut_slice()?.fill(T::default());
    Ok(memory)
}

/// Queues the kernel that cuts `batch` crops.
fn cut(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    frame: &CudaSlice<u8>,
    told: &CudaSlice<u8>,
    crops: &mut CudaSlice<u8>,
    batch: usize,
) -> std::result::Result<(), DriverError> {
    let geometry = told.slice(..Geometry::SIZE);
    let maps = told.slice(MAPS..);
    let grid = LaunchConfig {
        grid_dim: (kernel::GRID[0], kernel::GRID[1], batch as u32),
        block_dim: (kernel::BLOCK[0], kernel::BLOCK[1], 1),
        shared_mem_bytes: 0,
    };
    let mut launch = stream.launch_builder(kernel);
    launch.arg(frame).arg(&geometry).arg(&maps).arg(crops);
    // SAFETY: the arguments are those of `crop` in crop.cu; geometry was checked against the
    // frame's length, crops and maps hold MAX_BATCH of them, and the callers refuse more.
    unsafe { launch.launch(grid) }.map(drop)
}

/// Bytes of an image's planes, one behind the other.
fn planes<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a [u8]> {
    kernel::planes(image)
}

/// Writes geometry and crop maps as the kernel is told them.
fn tell(told: &mut [u8], geometry: &[u8; Geometry::SIZE], crops: &[CropMap]) -> Result<()> {
    if crops.len() > MAX_BATCH {
        return Err(Error::Bug(format!("{} crops at once", crops.len())));
    }
    told[..Geometry::SIZE].copy_from_slice(geometry);
    for (to, map) in told[MAPS..].chunks_exact_mut(kernel::MAP_SIZE).zip(crops) {
        to.copy_from_slice(&kernel::map_bytes(map));
    }
    Ok(())
}

/// The crops of one image and nothing else, by the same kernel.
pub(super) fn crops(
    context: &Arc<CudaContext>,
    kernel: Vec<u8>,
    image: &Image,
    maps: &[CropMap],
) -> Result<Vec<u8>> {
    let failed = |e| failed("cutting crops", e);
    let mut told = [0; TOLD];
    tell(&mut told, &Geometry::of(image)?.to_bytes(), maps)?;
    let module = context.load_module(Ptx::from_binary(kernel)).map_err(failed)?;
    let kernel = module.load_function(kernel::NAME).map_err(failed)?;
    let stream = context.new_stream().map_err(failed)?;
    let frame: Vec<u8> = planes(image).flatten().copied().collect();
    let frame = stream.clone_htod(&frame).map_err(failed)?;
    let told = stream.clone_htod(&told).map_err(failed)?;
    let mut crops = stream.alloc_zeros(maps.len() * CROP_BYTES).map_err(failed)?;
    cut(&stream, &kernel, &frame, &told, &mut crops, maps.len()).map_err(failed)?;
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
            told: pinned(context, TOLD, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?,
            maps: stream.alloc_zeros(TOLD)?,
            crops: stream.alloc_zeros(MAX_BATCH * CROP_BYTES)?,
            features: stream.alloc_zeros(sizes.features)?,
            results: stream.alloc_zeros(chunks * sizes.block())?,
            download: pinned(context, chunks * sizes.block() / 4, 0)?,
            stream,
            uploaded: context.new_event(None)?,
            done: context.new_event(None)?,
        })
    }

    /// Queues everything from the maps to the results, on the slot's stream.
    fn enqueue(&mut self, crop: &CudaFunction, sizes: &Sizes, batch: usize) -> Result<()> {
        let queued = |e| failed("queueing a batch", e);
        let stream = &self.stream;
        let told = self.told.as_slice().map_err(queued)?;
        stream.memcpy_htod(told, &mut self.maps).map_err(queued)?;
        cut(stream, crop, &self.frame, &self.maps, &mut self.crops, batch).map_err(queued)?;
        let address = |memory: &CudaSlice<u8>| memory.device_ptr(stream).0;
        let memory = [address(&self.crops), address(&self.features), address(&self.results)];
        // SAFETY: the buffers live as long as the slot, which is drained before it is dropped, and
        // have the sizes that `Sizes` asked for.
        unsafe { self.contexts.enqueue(sizes, batch, memory, stream.cu_stream()) }?;
        let used = batch.div_ceil(CHUNK) * sizes.block();
        // SAFETY: any bytes are floats, and device memory is aligned for them.
        let results = unsafe { self.results.transmute::<f32>(self.results.len() / 4) };
        let results = results.ok_or_else(|| Error::Bug("results are no floats".into()))?;
        let download = self.download.as_mut_slice().map_err(queued)?;
        stream.memcpy_dtoh(&results.slice(..used / 4), &mut download[..used / 4]).map_err(queued)
    }

    /// Records [`Self::enqueue`] instead of running it.
    fn capture(&mut self, crop: &CudaFunction, sizes: &Sizes, batch: usize) -> Result<CudaGraph> {
        let recorded = |e| failed("recording a graph", e);
        // In the stricter modes CUDA refuses to be asked for an event while it records, and cudarc
        // asks for one at each access to page-locked memory (seen on an H100: nothing was recorded).
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.stream.begin_capture(mode).map_err(recorded)?;
        let queued = self.enqueue(crop, sizes, batch);
        // The recording has to end whatever happened.
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
        // Memory is given out in the order of a stream; from here on every stream may use it.
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
            // Graphs hold the old address.
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
        tell(slot.told.as_mut_slice().map_err(launched)?, &slot.geometry, crops)?;
        let batch = crops.len();
        if self.graphs {
            match slot.graphs.get(&batch) {
                Some(Some(graph)) => return graph.launch().map_err(launched),
                // TensorRT has met this size by now.
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
        // A wait without end would hang the program with the device.
        while !self.event(event).try_is_complete().map_err(ran)? {
            match started.elapsed() {
                waited if waited > LONGEST_WAIT => {
                    return Err(Error::Gpu("the GPU does not answer".into()));
                }
                // Short work is waited for without leaving the CPU, long work is not.
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
        // A device that is lost has nothing in flight.
        let _ = self.context.synchronize();
    }
}

#[cfg(test)]
mod tests;
