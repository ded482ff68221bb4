//! Double buffering, on a device that notices every missing order.

mod draw;
mod sim;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use mmface::backend::Output;
use mmface::backend::slots::{Event, ImageKey, SlotDevice, Slots, Stream};
use mmface::crop::CropMap;
use mmface::{Error, Image, Result};
use proptest::prelude::*;
use sim::{Kind, Lane, Log, Sim, Sloppy, Span, image};

/// What a caller may do.
#[derive(Debug, Clone)]
enum Step {
    /// The next frame is not submitted yet, but known.
    Prefetch,
    /// The next frame, so many faces.
    Submit(usize),
    /// The last submitted frame again, so many faces.
    Again(usize),
    /// A prefetched frame is dropped: the next one is another.
    Skip,
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Prefetch),
        (1usize..5).prop_map(Step::Submit),
        (1usize..5).prop_map(Step::Again),
        Just(Step::Skip),
        Just(Step::Collect),
        Just(Step::Collect),
    ]
}

fn maps(frame: u32, faces: usize) -> Vec<CropMap> {
    let map = |i| CropMap::square([(frame * 10 + i as u32) as f32, 0.0], 256.0, 0.0);
    (0..faces).map(map).collect()
}

/// What a frame is called. Two sessions take turns, and each counts its own frames.
fn key(frame: usize) -> ImageKey {
    ImageKey { session: frame as u64 % 2, frame: frame as u64 / 2 }
}

/// The results must be those of the frame, face by face.
fn is_right(outputs: &[Output], frame: u32, faces: usize) -> bool {
    let wanted = maps(frame, faces);
    outputs.len() == faces
        && outputs
            .iter()
            .zip(&wanted)
            .all(|(out, map)| out.pose[0] == frame as f32 && out.pose[1] == map.centre[0])
}

/// Plays the steps; what went wrong, if anything.
fn play(sim: Sim, slots: usize, steps: &[Step]) -> std::result::Result<Rc<RefCell<Log>>, String> {
    let log = sim.log.clone();
    let mut slots = Slots::new(sim, slots);
    let mut frames = vec![image(0)];
    let mut flying = VecDeque::new();
    let mut last = 0;
    let mut failed = false;
    let submit = |slots: &mut Slots<Sim>, frames: &[Image], at: usize, faces| {
        let ticket = slots.submit(key(at), &frames[at], &maps(at as u32, faces));
        ticket.map(|ticket| Some((ticket, faces)))
    };
    for step in steps {
        let next = frames.len() - 1;
        let outcome = match *step {
            Step::Prefetch => slots.prefetch(key(next), &frames[next]).map(|()| None),
            Step::Skip => {
                frames.push(image(next as u32 + 1));
                Ok(None)
            }
            Step::Submit(faces) => {
                last = next;
                frames.push(image(next as u32 + 1));
                submit(&mut slots, &frames, last, faces)
            }
            Step::Again(faces) => submit(&mut slots, &frames, last, faces),
            Step::Collect => match flying.pop_front() {
                Some((ticket, frame, faces)) => slots.collect(ticket).map(|outputs| {
                    if !is_right(&outputs, frame, faces) {
                        log.borrow_mut().hazards.push(format!("frame {frame}: wrong results"));
                    }
                    None
                }),
                None => Ok(None),
            },
        };
        match outcome {
            Ok(Some(_)) if failed => return Err(format!("{step:?} went on after a failure")),
            Ok(Some((ticket, faces))) => flying.push_back((ticket, last as u32, faces)),
            Ok(None) if failed => {
                // Nothing was asked of the device, or it should have failed.
                if !matches!(step, Step::Skip | Step::Collect) {
                    return Err(format!("{step:?} went on after a failure"));
                }
            }
            Ok(None) => {}
            Err(Error::Gpu(_)) => failed = true,
            Err(Error::Bug(_)) if matches!(step, Step::Submit(_) | Step::Again(_)) => {}
            Err(error) => return Err(format!("{step:?}: {error}")),
        }
    }
    drop(slots);
    let seen = log.borrow();
    if seen.drained != 1 {
        return Err(format!("drained {} times", seen.drained));
    }
    drop(seen);
    Ok(log)
}

/// Delays between none and long, from a seed.
fn delays(mut seed: u64) -> impl FnMut(Kind) -> f64 {
    move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % 1000) as f64
    }
}

proptest! {
    #[test]
    fn no_hazard_whatever_is_done(
        steps in prop::collection::vec(step(), 0..60), slots in 1usize..4, seed: u64,
    ) {
        let log = play(Sim::new(delays(seed)), slots, &steps).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&log.borrow().hazards, &Vec::<String>::new());
    }

    #[test]
    fn after_a_failure_nothing_is_touched_before_it_is_at_rest(
        steps in prop::collection::vec(step(), 0..60), slots in 1usize..4, seed: u64, at in 1usize..80,
    ) {
        let mut sim = Sim::new(delays(seed));
        sim.fails_at = Some(at);
        let log = play(sim, slots, &steps).map_err(TestCaseError::fail)?;
        let log = log.borrow();
        prop_assert_eq!(&log.hazards, &Vec::<String>::new());
        // The failing call is the last one that the device saw.
        prop_assert!(log.calls <= at);
    }
}

#[test]
fn the_simulation_notices_what_is_left_out() {
    use Step::{Collect, Prefetch, Skip, Submit};
    let steps = [
        Submit(1),
        Prefetch,
        Skip,
        Prefetch,
        Submit(2),
        Collect,
        Submit(1),
        Collect,
        Collect,
        Prefetch,
        Skip,
        Prefetch,
        Skip,
        Prefetch,
        Skip,
        Prefetch,
        Submit(1),
        Collect,
    ];
    for (sloppy, hazard) in [
        (Sloppy::No, None),
        (Sloppy::Waits, Some("Crop in Compute(0) and Copy in Copy race for Frame")),
        (Sloppy::Finishes, Some("Read in Cpu and Down in Compute(0) race for Download")),
        (Sloppy::UploadFinishes, Some("Fill in Cpu and Copy in Copy race for Upload")),
    ] {
        let mut sim = Sim::new(delays(7));
        sim.sloppy = sloppy;
        let log = play(sim, 2, &steps).unwrap();
        let hazards = &log.borrow().hazards;
        match hazard {
            None => assert!(hazards.is_empty(), "{hazards:?}"),
            Some(hazard) => {
                assert!(hazards.iter().any(|h| h.contains(hazard)), "{sloppy:?}: {hazards:?}");
            }
        }
    }
}

#[test]
fn a_frame_goes_up_once_for_several_batches() {
    let steps = [Step::Prefetch, Step::Submit(1), Step::Collect, Step::Again(3), Step::Collect];
    let log = play(Sim::new(|_| 1.0), 2, &steps).unwrap();
    let copies = log.borrow().spans.iter().filter(|s| s.kind == Kind::Copy).count();
    assert_eq!(copies, 1);
}

/// What the operations on a frame might take, microseconds. Assumed, to draw with, not measured:
/// a 1080p frame (3.1 MB) at memory and PCIe speed, the lite networks on a mid-range chip.
fn assumed(kind: Kind) -> f64 {
    match kind {
        Kind::Fill => 300.0,
        Kind::Copy => 250.0,
        Kind::Crop => 30.0,
        Kind::Vmn => 450.0,
        Kind::Pmn => 250.0,
        Kind::Down => 15.0,
        Kind::Read => 10.0,
        Kind::Think => 200.0,
    }
}

/// The loop of the pipeline on a file: each frame's crops need the fit of the one before, so only
/// writing and copying run ahead.
fn follow(slots: usize, frames: u32) -> Vec<Span> {
    let sim = Sim::new(assumed);
    let log = sim.log.clone();
    let mut slots = Slots::new(Shared(Rc::new(RefCell::new(sim))), slots);
    let pictures: Vec<_> = (0..=frames).map(image).collect();
    for frame in 0..frames {
        let at = frame as usize;
        let ticket = slots.submit(key(at), &pictures[at], &maps(frame, 1)).unwrap();
        if frame + 1 < frames {
            slots.prefetch(key(at + 1), &pictures[at + 1]).unwrap();
        }
        assert!(is_right(&slots.collect(ticket).unwrap(), frame, 1));
        slots.device().0.borrow_mut().think(frame);
    }
    drop(slots);
    assert!(log.borrow().hazards.is_empty());
    log.borrow().spans.clone()
}

/// A device that the test may use beside the scheduler.
struct Shared(Rc<RefCell<Sim>>);

impl SlotDevice for Shared {
    fn fill(&mut self, slot: usize, image: &Image) -> Result<()> {
        self.0.borrow_mut().fill(slot, image)
    }
    fn copy(&mut self, slot: usize) -> Result<()> {
        self.0.borrow_mut().copy(slot)
    }
    fn launch(&mut self, slot: usize, crops: &[CropMap]) -> Result<()> {
        self.0.borrow_mut().launch(slot, crops)
    }
    fn record(&mut self, event: Event, stream: Stream) -> Result<()> {
        self.0.borrow_mut().record(event, stream)
    }
    fn wait(&mut self, stream: Stream, event: Event) -> Result<()> {
        self.0.borrow_mut().wait(stream, event)
    }
    fn finish(&mut self, event: Event) -> Result<()> {
        self.0.borrow_mut().finish(event)
    }
    fn read(&mut self, slot: usize, batch: usize) -> Result<Vec<Output>> {
        self.0.borrow_mut().read(slot, batch)
    }
    fn drain(&mut self) {
        self.0.borrow_mut().drain();
    }
}

fn ends(spans: &[Span]) -> f64 {
    spans.iter().map(|s| s.to).fold(0.0, f64::max)
}

#[test]
fn two_slots_gain_what_is_hidden() {
    let (one, two) = (ends(&follow(1, 50)), ends(&follow(2, 50)));
    // Writing and copying are hidden behind the networks.
    let hidden = 50.0 * (assumed(Kind::Fill) + assumed(Kind::Copy));
    assert!(one - two > 0.9 * hidden, "{one} µs with one slot, {two} with two");
    // In every frame but the first, the copy runs while the other slot computes.
    let spans = follow(2, 50);
    let computes: Vec<_> = spans.iter().filter(|s| s.kind == Kind::Vmn).collect();
    for copy in spans.iter().filter(|s| s.lane == Lane::Copy && s.frame > 0) {
        let beside = |c: &&&Span| c.slot != copy.slot && c.from < copy.to && copy.from < c.to;
        assert!(computes.iter().any(|c| beside(&c)), "{copy:?}");
    }
}

#[test]
fn the_drawing_in_the_docs_is_this_one() {
    let path = crate::common::root().join("docs/gpu-timeline.svg");
    let drawn = draw::timelines(&[
        ("one slot", &follow(1, 4)),
        (
            "two slots: the next frame is written and copied while this one is computed",
            &follow(2, 4),
        ),
    ]);
    if std::env::var_os("MMFACE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == drawn, "draw it anew: MMFACE_UPDATE_DOCS=1 cargo test -p mmface the_drawing");
}
