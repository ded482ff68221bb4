//! Double buffering on a GPU: which slot a frame uses, and which operations wait for which.
//!
//! A slot is everything that one frame needs on the device: page-locked upload memory, device
//! buffers, execution contexts, a stream, page-locked download memory and two events. While one
//! slot computes, the next frame is written into another slot and copied to the device.
//!
//! ```text
//! CPU          fill A      fill B            read A
//! copy stream       copy A      copy B
//! slot A's stream         crop VMN PMN down
//! slot B's stream                       crop VMN PMN down
//! ```
//!
//! Only events keep the order: a slot's stream waits for [`Event::Uploaded`]; the CPU waits for
//! [`Event::Done`] before it reads the results or reuses the slot. This file does not depend on
//! CUDA. The tests run the same code on a simulated device that detects any missing
//! synchronisation.

use std::collections::VecDeque;

use super::Output;
use crate::crop::CropMap;
use crate::error::{Error, Result};
use crate::image::Image;

/// Identifies a batch that was submitted and not yet collected.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Identifies an image: equal keys mean equal pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageKey {
    /// The session that the image belongs to.
    pub session: u64,
    /// Number of the image within the session.
    pub frame: u64,
}

/// A queue of the device. Operations in one queue run in order; different queues run in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Uploads of the frames of all slots.
    Copy,
    /// The computation of one slot.
    Compute(usize),
}

/// A marker in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The slot's frame has been copied to the device.
    Uploaded(usize),
    /// The slot's results have been copied to page-locked memory.
    Done(usize),
}

/// The operations that the scheduler needs from a device. Only [`finish`](Self::finish) and
/// [`drain`](Self::drain) wait; all others queue work or write to host memory.
pub trait SlotDevice {
    /// Writes the image into the slot's upload memory, on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()>;

    /// Queues the copy of the slot's upload memory to the device, on [`Stream::Copy`].
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn copy(&mut self, slot: usize) -> Result<()>;

    /// Writes the crop maps, on the CPU. Then queues crops, networks and the copy of the results to
    /// the slot's download memory, on the slot's own stream.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()>;

    /// Queues a marker.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn record(&mut self, event: Event, stream: Stream) -> Result<()>;

    /// Makes everything that is queued in `stream` from now on wait for the event as last recorded.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn wait(&mut self, stream: Stream, event: Event) -> Result<()>;

    /// Waits for the event as last recorded, on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`], also for anything that failed on the device before the event.
    fn finish(&mut self, event: Event) -> Result<()>;

    /// Reads the results of a batch from the slot's download memory, on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn read(&mut self, slot: usize, batch: usize) -> Result<Vec<Output>>;

    /// Waits until the device is idle. Called once, at the end; failures are ignored.
    fn drain(&mut self);
}

/// Schedules batches on the slots of a device.
pub struct Slots<D: SlotDevice> {
    device: D,
    slots: Vec<Slot>,
    /// Batches in flight, oldest first.
    flights: VecDeque<Flight>,
    tickets: u64,
    /// The first failure. After it the device is not used again.
    failure: Option<String>,
}

#[derive(Default)]
struct Slot {
    /// The image whose pixels are on the device or being copied to it.
    image: Option<ImageKey>,
    /// Whether a batch was started on this image.
    used: bool,
    /// Whether a copy may still be reading the upload memory.
    copying: bool,
    busy: bool,
}

struct Flight {
    ticket: u64,
    slot: usize,
    batch: usize,
}

impl<D: SlotDevice> Slots<D> {
    /// A scheduler for `count` slots (at least one). The device must have as many.
    pub fn new(device: D, count: usize) -> Self {
        let slots = (0..count.max(1)).map(|_| Slot::default()).collect();
        Self { device, slots, flights: VecDeque::new(), tickets: 0, failure: None }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Uploads an image that will be submitted soon, if a slot is idle.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    pub fn prefetch(&mut self, key: ImageKey, image: &Image) -> Result<()> {
        self.checked(|slots| match slots.choose(key) {
            Some(slot) => slots.upload(slot, key, image),
            None => Ok(()),
        })
    }

    /// Starts a batch.
    ///
    /// # Errors
    /// [`Error::Gpu`]; [`Error::Bug`] if every slot is busy or `crops` is empty.
    pub fn submit(&mut self, key: ImageKey, image: &Image, crops: &[CropMap]) -> Result<Ticket> {
        self.checked(|slots| {
            let slot = slots.choose(key).filter(|_| !crops.is_empty());
            let slot =
                slot.ok_or_else(|| Error::Bug("a batch was submitted out of turn".into()))?;
            slots.upload(slot, key, image)?;
            let stream = Stream::Compute(slot);
            slots.device.wait(stream, Event::Uploaded(slot))?;
            slots.device.launch(slot, crops)?;
            slots.device.record(Event::Done(slot), stream)?;
            slots.slots[slot].used = true;
            slots.slots[slot].busy = true;
            slots.tickets += 1;
            let ticket = slots.tickets;
            slots.flights.push_back(Flight { ticket, slot, batch: crops.len() });
            Ok(Ticket(ticket))
        })
    }

    /// Waits for the oldest batch, which must be the ticket's, and returns its outputs.
    ///
    /// # Errors
    /// [`Error::Gpu`]; [`Error::Bug`] for another ticket.
    pub fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>> {
        self.checked(|slots| {
            let Some(&Flight { slot, batch, .. }) =
                slots.flights.front().filter(|flight| flight.ticket == ticket.0)
            else {
                return Err(Error::Bug("a batch was collected that is not in flight".into()));
            };
            slots.flights.pop_front();
            slots.device.finish(Event::Done(slot))?;
            // The computation has waited for the upload, so the upload has finished too.
            slots.slots[slot].copying = false;
            slots.slots[slot].busy = false;
            slots.device.read(slot, batch)
        })
    }

    /// The idle slot for an image: preferably one that holds it, then one that is empty or whose
    /// image has been used, then one whose image was uploaded but not used.
    fn choose(&self, key: ImageKey) -> Option<usize> {
        let rank = |slot: &Slot| match (slot.image == Some(key), slot.image.is_none() || slot.used)
        {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
        idle.min_by_key(|(_, slot)| rank(slot)).map(|(index, _)| index)
    }

    /// Uploads an image into an idle slot, unless the slot holds it already.
    fn upload(&mut self, slot: usize, key: ImageKey, image: &Image) -> Result<()> {
        if self.slots[slot].image == Some(key) {
            return Ok(());
        }
        if self.slots[slot].copying {
            // The slot was filled before, but not used.
            self.device.finish(Event::Uploaded(slot))?;
        }
        self.device.fill(slot, image)?;
        self.device.copy(slot)?;
        self.device.record(Event::Uploaded(slot), Stream::Copy)?;
        self.slots[slot] = Slot { image: Some(key), used: false, copying: true, busy: false };
        Ok(())
    }

    /// Runs `work`, unless the device has failed before; records a failure.
    fn checked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(why) = &self.failure {
            return Err(Error::Gpu(why.clone()));
        }
        work(self).inspect_err(|error| {
            if !matches!(error, Error::Bug(_)) {
                self.failure = Some(error.to_string());
            }
        })
    }
}

impl<D: SlotDevice> Drop for Slots<D> {
    /// Waits, so that no buffer is freed while the device may use it.
    fn drop(&mut self) {
        self.device.drain();
    }
}
