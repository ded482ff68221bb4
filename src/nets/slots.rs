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
use std::sync::{Arc, Weak};

use super::{Output, Ticket};
use crate::crop::CropMap;
use crate::frame::{Image, Planes};
use crate::{Error, Result};

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
    /// [`Error::Device`], as for all of these.
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()>;

    /// Queues the copy of the slot's upload memory to the device, on [`Stream::Copy`].
    ///
    /// # Errors
    /// [`Error::Device`].
    fn copy(&mut self, slot: usize) -> Result<()>;

    /// The CPU writes the crop maps; queues crops, networks and the copy of the results into the
    /// slot's download memory, on the slot's own stream.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()>;

    /// Queues a mark.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn record(&mut self, event: Event, stream: Stream) -> Result<()>;

    /// Lets what is queued in `stream` from now on wait for the event as last recorded.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn wait(&mut self, stream: Stream, event: Event) -> Result<()>;

    /// The CPU waits for the event as last recorded.
    ///
    /// # Errors
    /// [`Error::Device`], also for whatever failed on the device before the event.
    fn finish(&mut self, event: Event) -> Result<()>;

    /// The CPU reads the results of a batch out of the slot's download memory.
    ///
    /// # Errors
    /// [`Error::Device`].
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
    /// The image whose pixels are, or are on their way, on the device. Weak: it does not keep a
    /// decoder's buffer from being used again.
    image: Option<Weak<dyn Planes>>,
    /// Whether a batch was started on this image.
    used: bool,
    /// Whether the upload memory may still be read by a copy.
    copying: bool,
    busy: bool,
}

impl Slot {
    fn holds(&self, image: &Image) -> bool {
        let here = Arc::as_ptr(&image.planes);
        self.image.as_ref().is_some_and(|there| std::ptr::addr_eq(there.as_ptr(), here))
    }
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
    /// [`Error::Device`].
    pub fn prefetch(&mut self, image: &Image) -> Result<()> {
        self.checked(|slots| match slots.choose(image) {
            Some(slot) => slots.upload(slot, image),
            None => Ok(()),
        })
    }

    /// Starts a batch.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::Bug`] if every slot is busy or there is no crop.
    pub fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket> {
        self.checked(|slots| {
            let slot = slots.choose(image).filter(|_| !crops.is_empty());
            let slot =
                slot.ok_or_else(|| Error::Bug("a batch was submitted out of turn".into()))?;
            slots.upload(slot, image)?;
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
    /// [`Error::Device`]; [`Error::Bug`] for another ticket.
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
    fn choose(&self, image: &Image) -> Option<usize> {
        let rank = |slot: &Slot| match (slot.holds(image), slot.image.is_none() || slot.used) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
        idle.min_by_key(|(_, slot)| rank(slot)).map(|(index, _)| index)
    }

    /// Brings an image into an idle slot, unless it is there.
    fn upload(&mut self, slot: usize, image: &Image) -> Result<()> {
        if self.slots[slot].holds(image) {
            return Ok(());
        }
        if self.slots[slot].copying {
            // Filled before, and never used.
            self.device.finish(Event::Uploaded(slot))?;
        }
        self.device.fill(slot, image)?;
        self.device.copy(slot)?;
        self.device.record(Event::Uploaded(slot), Stream::Copy)?;
        let planes = Some(Arc::downgrade(&image.planes));
        self.slots[slot] = Slot { image: planes, used: false, copying: true, busy: false };
        Ok(())
    }

    /// Runs `work`, unless the device has failed before; remembers if it fails now.
    fn checked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(why) = &self.failure {
            return Err(Error::Device(why.clone()));
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
