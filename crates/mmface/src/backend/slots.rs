//! Double buffering: which slot a frame goes to, and what waits for what.
//!
//! A slot is everything that one frame needs on its way through a device: page-locked memory that
//! goes up, device buffers, execution contexts, a stream, page-locked memory that comes down, two
//! events. While one slot computes, the next frame is written into another and copied up.
//!
//! ```text
//! CPU          fill A      fill B            read A
//! copy stream       copy A      copy B
//! slot A's stream         crop VMN PMN down
//! slot B's stream                       crop VMN PMN down
//! ```
//!
//! The order is kept by events alone: a slot's stream waits for [`Event::Uploaded`], the CPU for
//! [`Event::Done`] before it reads results or uses the slot again. This file knows no CUDA: the
//! same logic runs on a simulated device in the tests, which finds every missing order.

use std::collections::VecDeque;

use super::Output;
use crate::crop::CropMap;
use crate::image::Image;
use crate::{Error, Result};

/// Names a batch that was submitted and not yet collected.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Names an image: the same key is the same pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageKey {
    /// Whose image.
    pub session: u64,
    /// Which of theirs.
    pub frame: u64,
}

/// A queue of the device. What is in one queue runs in order; queues run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Frames on their way up, of all slots.
    Copy,
    /// The computation of one slot.
    Compute(usize),
}

/// A mark in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The slot's frame is on the device.
    Uploaded(usize),
    /// The slot's results are in page-locked memory.
    Done(usize),
}

/// What the scheduler needs of a device. Only [`finish`](Self::finish) and
/// [`drain`](Self::drain) wait; what is queued runs later.
pub trait SlotDevice {
    /// The CPU writes the image into the slot's upload memory.
    ///
    /// # Errors
    /// [`Error::Gpu`], as for all of these.
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()>;

    /// Queues the copy of the slot's upload memory to the device, on [`Stream::Copy`].
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn copy(&mut self, slot: usize) -> Result<()>;

    /// The CPU writes the crop maps; queues crops, networks and the copy of the results into the
    /// slot's download memory, on the slot's own stream.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()>;

    /// Queues a mark.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn record(&mut self, event: Event, stream: Stream) -> Result<()>;

    /// Lets what is queued in `stream` from now on wait for the event as last recorded.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn wait(&mut self, stream: Stream, event: Event) -> Result<()>;

    /// The CPU waits for the event as last recorded.
    ///
    /// # Errors
    /// [`Error::Gpu`], also for whatever failed on the device before the event.
    fn finish(&mut self, event: Event) -> Result<()>;

    /// The CPU reads the results of a batch out of the slot's download memory.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    fn read(&mut self, slot: usize, batch: usize) -> Result<Vec<Output>>;

    /// Waits until nothing is in flight. Called once, at the end; failures no longer matter.
    fn drain(&mut self);
}

/// The slots of a device.
pub struct Slots<D: SlotDevice> {
    device: D,
    slots: Vec<Slot>,
    /// Batches in flight, oldest first.
    flights: VecDeque<Flight>,
    tickets: u64,
    /// The first failure: after it nothing on the device can be relied upon.
    failure: Option<String>,
}

#[derive(Default)]
struct Slot {
    /// The image whose pixels are on the device, or on their way there.
    image: Option<ImageKey>,
    /// Whether a batch was started on this image.
    used: bool,
    /// Whether the upload memory may still be read by a copy.
    copying: bool,
    busy: bool,
}

struct Flight {
    ticket: u64,
    slot: usize,
    batch: usize,
}

impl<D: SlotDevice> Slots<D> {
    /// `count` slots (at least one) on a device that has as many.
    pub fn new(device: D, count: usize) -> Self {
        let slots = (0..count.max(1)).map(|_| Slot::default()).collect();
        Self { device, slots, flights: VecDeque::new(), tickets: 0, failure: None }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Brings an image that will be submitted soon up to the device, if a slot is free.
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
    /// [`Error::Gpu`]; [`Error::Bug`] if every slot is busy or there is no crop.
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

    /// Waits for the oldest batch, which must be that of the ticket.
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
            // The computation waited for the copy, so the copy is over too.
            slots.slots[slot].copying = false;
            slots.slots[slot].busy = false;
            slots.device.read(slot, batch)
        })
    }

    /// The idle slot for an image: one that holds it; else one whose image has been used; else one
    /// that was filled in vain.
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

    /// Brings an image into an idle slot, unless it is there.
    fn upload(&mut self, slot: usize, key: ImageKey, image: &Image) -> Result<()> {
        if self.slots[slot].image == Some(key) {
            return Ok(());
        }
        if self.slots[slot].copying {
            // Filled before, and never used.
            self.device.finish(Event::Uploaded(slot))?;
        }
        self.device.fill(slot, image)?;
        self.device.copy(slot)?;
        self.device.record(Event::Uploaded(slot), Stream::Copy)?;
        self.slots[slot] = Slot { image: Some(key), used: false, copying: true, busy: false };
        Ok(())
    }

    /// Runs `work`, unless the device has failed before; remembers if it fails now.
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
    /// No buffer is freed that the device may still touch.
    fn drop(&mut self) {
        self.device.drain();
    }
}
