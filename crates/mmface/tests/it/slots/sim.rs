//! A simulated device: it keeps a timeline, and finds every access to a buffer that is not in order
//! with the others.
//!
//! Order is judged as a race detector does it, not by the clock on the wall: each of the CPU and
//! the streams counts its operations and knows (by events) how far the others had come. An access
//! that does not know of an earlier one to the same buffer, one of them a write, is a hazard,
//! whatever the delays were this time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mmface::backend::Output;
use mmface::backend::slots::{Event, SlotDevice, Stream};
use mmface::crop::CropMap;
use mmface::{Error, Image, Result};

/// Where something happens: the CPU, the copy stream, a slot's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Cpu,
    Copy,
    Compute(usize),
}

/// A buffer of a slot, named by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Buffer {
    Upload,
    Frame,
    Maps,
    Crops,
    Features,
    Results,
    Download,
}
use Buffer::{Crops, Download, Features, Frame, Maps, Results, Upload};

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fill,
    Copy,
    Crop,
    Vmn,
    Pmn,
    Down,
    Read,
    /// The CPU's other work on a frame: following, smoothing, writing.
    Think,
}

/// One operation on the timeline, microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub lane: Lane,
    pub kind: Kind,
    /// Number of the frame.
    pub frame: u32,
    pub slot: usize,
    pub from: f64,
    pub to: f64,
}

/// How far every lane had come, as one of them knows it.
type Clock = BTreeMap<Lane, u64>;

#[derive(Default)]
struct LaneState {
    clock: Clock,
    /// When its last operation ends.
    ends: f64,
}

struct Access {
    lane: Lane,
    count: u64,
    write: bool,
    what: Kind,
}

/// What a test looks at while and after the scheduler has the device.
#[derive(Default)]
pub struct Log {
    pub spans: Vec<Span>,
    pub hazards: Vec<String>,
    pub calls: usize,
    pub drained: usize,
}

/// Calls that a broken device leaves out, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sloppy {
    No,
    Waits,
    Finishes,
    UploadFinishes,
}

pub struct Sim {
    pub log: Rc<RefCell<Log>>,
    pub sloppy: Sloppy,
    /// The call (counted from 1) that fails.
    pub fails_at: Option<usize>,
    /// Microseconds that an operation takes.
    duration: Box<dyn FnMut(Kind) -> f64>,
    lanes: BTreeMap<Lane, LaneState>,
    events: BTreeMap<String, (Clock, f64)>,
    accesses: BTreeMap<(usize, Buffer), Vec<Access>>,
    /// What the buffers hold: the frame's number, and the batch with the crops' centres.
    frames: BTreeMap<(usize, Buffer), u32>,
    batches: BTreeMap<usize, Vec<f32>>,
    /// The GPU computes for one stream at a time.
    gpu_free: f64,
}

/// A picture of one pixel that tells its number.
pub fn image(number: u32) -> Image<'static> {
    Image::rgb(1, 1, number.to_le_bytes()[..3].to_vec()).unwrap()
}

fn number(image: &Image) -> u32 {
    let bytes = &image.planes[0].bytes;
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
}

impl Sim {
    pub fn new(duration: impl FnMut(Kind) -> f64 + 'static) -> Self {
        Self {
            log: Rc::default(),
            sloppy: Sloppy::No,
            fails_at: None,
            duration: Box::new(duration),
            lanes: BTreeMap::new(),
            events: BTreeMap::new(),
            accesses: BTreeMap::new(),
            frames: BTreeMap::new(),
            batches: BTreeMap::new(),
            gpu_free: 0.0,
        }
    }

    fn call(&mut self) -> Result<()> {
        let mut log = self.log.borrow_mut();
        log.calls += 1;
        if self.fails_at == Some(log.calls) {
            return Err(Error::Gpu("the simulated device is lost".into()));
        }
        Ok(())
    }

    /// `lane` learns what `clock` knows, and is not before `time`.
    fn learn(&mut self, lane: Lane, clock: &Clock, time: f64) {
        let state = self.lanes.entry(lane).or_default();
        for (lane, count) in clock {
            let known = state.clock.entry(*lane).or_default();
            *known = (*known).max(*count);
        }
        state.ends = state.ends.max(time);
    }

    fn clock(&self, lane: Lane) -> (Clock, f64) {
        self.lanes.get(&lane).map_or_else(Default::default, |s| (s.clock.clone(), s.ends))
    }

    /// One operation of a lane that reads and writes buffers of a slot.
    fn act(&mut self, lane: Lane, kind: Kind, slot: usize, reads: &[Buffer], writes: &[Buffer]) {
        if lane != Lane::Cpu {
            // What the CPU queues comes after what the CPU did.
            let (clock, time) = self.clock(Lane::Cpu);
            self.learn(lane, &clock, time);
        }
        let duration = (self.duration)(kind);
        let computes = matches!(kind, Kind::Crop | Kind::Vmn | Kind::Pmn);
        let gpu_free = if computes { self.gpu_free } else { 0.0 };
        let state = self.lanes.entry(lane).or_default();
        let from = state.ends.max(gpu_free);
        state.ends = from + duration;
        if computes {
            self.gpu_free = state.ends;
        }
        self.touch(lane, kind, slot, reads, writes);
        let main = reads.first().or(writes.first()).map(|buffer| (slot, *buffer));
        let frame = main.and_then(|main| self.frames.get(&main).copied()).unwrap_or_default();
        let span = Span { lane, kind, frame, slot, from, to: from + duration };
        self.log.borrow_mut().spans.push(span);
    }

    /// The accesses of one operation, checked against all earlier ones.
    fn touch(&mut self, lane: Lane, kind: Kind, slot: usize, reads: &[Buffer], writes: &[Buffer]) {
        let clock = &mut self.lanes.entry(lane).or_default().clock;
        let count = clock.get(&lane).copied().unwrap_or_default() + 1;
        clock.insert(lane, count);
        let known = clock.clone();
        let uses = reads.iter().map(|b| (b, false)).chain(writes.iter().map(|b| (b, true)));
        for (buffer, write) in uses {
            let earlier = self.accesses.entry((slot, *buffer)).or_default();
            for access in earlier.iter() {
                let seen = known.get(&access.lane).is_some_and(|c| *c >= access.count);
                if (write || access.write) && !seen {
                    self.log.borrow_mut().hazards.push(format!(
                        "{kind:?} in {lane:?} and {:?} in {:?} race for {buffer:?} of slot {slot}",
                        access.what, access.lane
                    ));
                }
            }
            earlier.push(Access { lane, count, write, what: kind });
        }
    }

    /// The CPU does something else for a while.
    pub fn think(&mut self, frame: u32) {
        self.act(Lane::Cpu, Kind::Think, 0, &[], &[]);
        self.log.borrow_mut().spans.last_mut().unwrap().frame = frame;
    }

    fn pass(&mut self, slot: usize, from: Buffer, to: Buffer) {
        let frame = self.frames.get(&(slot, from)).copied().unwrap_or(u32::MAX);
        self.frames.insert((slot, to), frame);
    }
}

fn lane(stream: Stream) -> Lane {
    match stream {
        Stream::Copy => Lane::Copy,
        Stream::Compute(slot) => Lane::Compute(slot),
    }
}

impl SlotDevice for Sim {
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()> {
        self.call()?;
        self.frames.insert((slot, Upload), number(image));
        self.act(Lane::Cpu, Kind::Fill, slot, &[], &[Upload]);
        Ok(())
    }

    fn copy(&mut self, slot: usize) -> Result<()> {
        self.call()?;
        self.pass(slot, Upload, Frame);
        self.act(Lane::Copy, Kind::Copy, slot, &[Upload], &[Frame]);
        Ok(())
    }

    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()> {
        self.call()?;
        self.batches.insert(slot, crops.iter().map(|map| map.centre[0]).collect());
        let lane = Lane::Compute(slot);
        // Crop maps are a few floats: their writing takes no time worth drawing.
        self.touch(Lane::Cpu, Kind::Fill, slot, &[], &[Maps]);
        for (kind, reads, writes) in [
            (Kind::Crop, &[Frame, Maps][..], &[Crops][..]),
            (Kind::Vmn, &[Crops], &[Features]),
            (Kind::Pmn, &[Features], &[Results]),
            (Kind::Down, &[Results], &[Download]),
        ] {
            self.pass(slot, reads[0], writes[0]);
            self.act(lane, kind, slot, reads, writes);
        }
        Ok(())
    }

    fn record(&mut self, event: Event, stream: Stream) -> Result<()> {
        self.call()?;
        let clock = self.clock(lane(stream));
        self.events.insert(format!("{event:?}"), clock);
        Ok(())
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<()> {
        self.call()?;
        if self.sloppy != Sloppy::Waits
            && let Some((clock, time)) = self.events.get(&format!("{event:?}")).cloned()
        {
            self.learn(lane(stream), &clock, time);
        }
        Ok(())
    }

    fn finish(&mut self, event: Event) -> Result<()> {
        self.call()?;
        let left_out = match event {
            Event::Uploaded(_) => self.sloppy == Sloppy::UploadFinishes,
            Event::Done(_) => self.sloppy == Sloppy::Finishes,
        };
        if !left_out && let Some((clock, time)) = self.events.get(&format!("{event:?}")).cloned() {
            self.learn(Lane::Cpu, &clock, time);
        }
        Ok(())
    }

    fn read(&mut self, slot: usize, batch: usize) -> Result<Vec<Output>> {
        self.call()?;
        self.act(Lane::Cpu, Kind::Read, slot, &[Download], &[]);
        let frame = self.frames.get(&(slot, Download)).copied().unwrap_or(u32::MAX);
        let centres = self.batches.get(&slot).cloned().unwrap_or_default();
        let row = |i: usize| {
            let centre = centres.get(i).copied().unwrap_or(f32::NAN);
            let pose = [frame as f32, centre, 0.0, 0.0, 0.0, 0.0, 0.0];
            Output { pose, identity: vec![], expression: vec![], presence: 1.0, points: vec![] }
        };
        Ok((0..batch).map(row).collect())
    }

    fn drain(&mut self) {
        self.log.borrow_mut().drained += 1;
        let lanes: Vec<_> = self.lanes.values().map(|s| (s.clock.clone(), s.ends)).collect();
        for (clock, time) in lanes {
            self.learn(Lane::Cpu, &clock, time);
        }
    }
}
