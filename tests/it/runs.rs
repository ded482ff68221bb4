//! A run with sinks of one's own: what they are told, and what becomes of slow and broken ones.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, OnceLock, mpsc};
use std::time::Duration;

use mmface::record::End;
use mmface::{Device, Precision, Runtime, TrackerOptions};
use mmface_live::counters::Counters;
use mmface_live::run::{self, Options};
use mmface_live::sink::{Context, Event, OnFailure, Plan, Sink, WhenSlow};
use mmface_live::source::{self, Input};
use mmface_live::{Error, Result};

use crate::common::rtsp::{LIVE, RtspServer};
use crate::common::{clip, models};

/// No step of a test takes so long; whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(120);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let builder = Runtime::builder(models()).device(Device::Cpu).precision(Some(Precision::F32));
    builder.build().unwrap()
});

/// What a sink was told, in short.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Header,
    /// Its connection.
    Stream(u32),
    /// Its number, and its connection.
    Frame(u64, u32),
    /// The connection that ended it.
    Gap(u32),
    /// Its reason.
    End(String),
    /// To write what is left.
    Finish,
}

impl Told {
    fn of(event: &Event) -> Self {
        match event {
            Event::Header(_) => Self::Header,
            Event::Stream(stream) => Self::Stream(stream.connection),
            Event::Frame(event) => Self::Frame(event.frame.number, event.frame.connection),
            Event::Gap(gap) => Self::Gap(gap.connection),
            Event::End(end) => Self::End(end.reason.clone()),
        }
    }
}

/// Remembers what its sink is told.
#[derive(Default)]
struct Log {
    told: Mutex<Vec<Told>>,
    changed: Condvar,
    counters: OnceLock<Arc<Counters>>,
}

impl Log {
    fn add(&self, told: Told) {
        self.told.lock().unwrap().push(told);
        self.changed.notify_all();
    }

    fn all(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until enough was told.
    fn wait(&self, enough: impl Fn(&[Told]) -> bool) {
        let told = self.told.lock().unwrap();
        let wait = self.changed.wait_timeout_while(told, DEADLINE, |told| !enough(told));
        let (told, waited) = wait.unwrap();
        assert!(!waited.timed_out(), "so far it was told {told:?}");
    }

    /// The numbers of the frames.
    fn frames(&self) -> Vec<u64> {
        numbers(&self.all())
    }

    /// Frames that were dropped because a sink was slow.
    fn dropped(&self, sink: &str) -> u64 {
        let sinks = self.counters.get().unwrap().sinks();
        sinks.iter().find(|counters| counters.name == sink).unwrap().dropped.get()
    }
}

fn numbers(told: &[Told]) -> Vec<u64> {
    told.iter().filter_map(|t| if let Told::Frame(n, _) = t { Some(*n) } else { None }).collect()
}

/// What a sink does with an event after it was remembered.
type Act = Box<dyn FnMut(&Event) -> Result<ControlFlow<&'static str>> + Send>;

/// A sink that a test watches.
struct Probe {
    name: &'static str,
    when_slow: WhenSlow,
    log: Arc<Log>,
    act: Act,
}

impl Probe {
    fn plan(
        name: &'static str,
        when_slow: WhenSlow,
        act: impl FnMut(&Event) -> Result<ControlFlow<&'static str>> + Send + 'static,
    ) -> (Box<dyn Plan>, Arc<Log>) {
        let log = Arc::new(Log::default());
        (Box::new(Self { name, when_slow, log: log.clone(), act: Box::new(act) }), log)
    }

    /// One that takes everything.
    fn quick(name: &'static str) -> (Box<dyn Plan>, Arc<Log>) {
        Self::plan(name, WhenSlow::Wait, |_| Ok(ControlFlow::Continue(())))
    }
}

impl Plan for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn when_slow(&self) -> WhenSlow {
        self.when_slow
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        self.log.counters.set(context.counters.clone()).ok().expect("opened once");
        Ok(self)
    }
}

impl Sink for Probe {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        self.log.add(Told::of(event));
        (self.act)(event)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.log.add(Told::Finish);
        Ok(())
    }
}

/// A run on a thread of its own.
struct Run {
    stop: Arc<AtomicBool>,
    end: mpsc::Receiver<Result<End>>,
}

impl Run {
    fn start(source: source::Options, sinks: Vec<Box<dyn Plan>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let options = Options {
            neutral: Default::default(),
            lens: None,
            stream: "test".into(),
            source,
            tracker: TrackerOptions::default(),
            volumes: None,
            sinks,
            idle_keyframes: false,
            sink_failure: OnFailure::End,
            progress: false,
            counters: Arc::default(),
        };
        let (sender, end) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        std::thread::spawn(move || {
            // Fails where the test has failed already.
            let _ = sender.send(run::run(&RUNTIME, options, &stopped));
        });
        Self { stop, end }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn end(self) -> Result<End> {
        self.end.recv_timeout(DEADLINE).expect("the run does not end")
    }
}

/// A clip, as a file or played at its own speed.
fn of_clip(realtime: bool) -> source::Options {
    let input = Input::File(clip("single_face.mp4"));
    source::Options { realtime, ..source::Options::new(input) }
}

#[test]
fn every_sink_is_told_everything_of_a_file() {
    let (one, quick) = Probe::quick("quick");
    // Slower than the run, which waits for it, whatever it would do in a live one.
    let (other, slow) = Probe::plan("slow", WhenSlow::DropOldest, |_| {
        std::thread::sleep(Duration::from_millis(3));
        Ok(ControlFlow::Continue(()))
    });
    let end = Run::start(of_clip(false), vec![one, other]).end().unwrap();
    let told = quick.all();
    assert_eq!(told, slow.all());
    assert_eq!(told[..2], [Told::Header, Told::Stream(1)]);
    assert_eq!(numbers(&told), (0..72).collect::<Vec<_>>());
    assert_eq!(told[74..], [Told::End("end of stream".into()), Told::Finish]);
    assert_eq!((end.frames.processed, quick.dropped("slow")), (72, 0));
}

#[test]
fn a_slow_sink_of_a_live_run_loses_the_oldest_frames_and_they_are_counted() {
    let (quick, all) = Probe::quick("quick");
    let others = all.clone();
    let mut first = true;
    let (slow, seen) = Probe::plan("slow", WhenSlow::DropOldest, move |event| {
        if matches!(event, Event::Frame(_)) && std::mem::take(&mut first) {
            others.wait(|told| numbers(told).len() >= 10);
        }
        Ok(ControlFlow::Continue(()))
    });
    // The slow one comes first: what the other is told waits for it already.
    Run::start(of_clip(true), vec![slow, quick]).end().unwrap();
    let (all_frames, frames) = (all.frames(), seen.frames());
    assert!(all_frames.len() >= 10 && frames.len() >= 2, "{all_frames:?} {frames:?}");
    assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
    assert!(frames.iter().all(|number| all_frames.contains(number)));
    assert!(frames[1] >= all_frames[9], "{frames:?} of {all_frames:?}: not the newest was kept");
    assert_eq!(frames.last(), all_frames.last());
    let dropped = seen.dropped("slow");
    assert!(dropped >= 7, "{dropped}");
    assert_eq!(frames.len() as u64 + dropped, all_frames.len() as u64);
    assert_eq!(all.dropped("quick"), 0);
    let rest = |log: &Log| -> Vec<_> {
        log.all().into_iter().filter(|told| !matches!(told, Told::Frame(..))).collect()
    };
    let end = Told::End("end of stream".into());
    assert_eq!(rest(&seen), [Told::Header, Told::Stream(1), end, Told::Finish]);
    assert_eq!(rest(&seen), rest(&all));
}

#[test]
fn a_slow_sink_of_a_live_run_is_told_of_every_gap() {
    let server = RtspServer::start(LIVE, 0, None);
    let (url, port) = (server.url(""), server.port());
    let (quick, all) = Probe::quick("quick");
    let others = all.clone();
    let after_gap = |told: &[Told]| {
        let frames = told.iter().filter(|told| matches!(told, Told::Frame(_, 2))).count();
        frames >= 5
    };
    let mut first = true;
    let (slow, seen) = Probe::plan("slow", WhenSlow::DropOldest, move |event| {
        if matches!(event, Event::Frame(_)) && std::mem::take(&mut first) {
            others.wait(after_gap);
        }
        Ok(ControlFlow::Continue(()))
    });
    let run = Run::start(source::Options::new(Input::Rtsp(url)), vec![slow, quick]);
    all.wait(|told| numbers(told).len() >= 5);
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    let _server = RtspServer::start(LIVE, port, None);
    all.wait(after_gap);
    run.stop();
    let end = run.end().unwrap();
    assert_eq!((end.reconnects, end.reason.as_str()), (1, "stopped"));
    let told = seen.all();
    let frames = told.iter().filter(|told| matches!(told, Told::Frame(_, 1))).count();
    assert_eq!(frames, 1, "all but the first frame of the first connection are lost: {told:?}");
    let rest: Vec<_> = told.iter().filter(|told| !matches!(told, Told::Frame(..))).collect();
    let [Told::Header, Told::Stream(1), between @ .., Told::End(_), Told::Finish] = &rest[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(between.len(), 2, "{told:?}");
    assert!(between.contains(&&Told::Gap(2)) && between.contains(&&Told::Stream(2)), "{told:?}");
    // In their order: nothing of the second connection comes before its gap.
    let at = |wanted: &Told| told.iter().position(|told| told == wanted).unwrap();
    let second = told.iter().position(|told| matches!(told, Told::Frame(_, 2))).unwrap();
    assert!(at(&Told::Gap(2)) < second && at(&Told::Stream(2)) < second, "{told:?}");
    assert_eq!(told.len() as u64 + seen.dropped("slow"), all.all().len() as u64);
}

#[test]
fn a_sink_that_fails_does_not_keep_the_others_from_their_end() {
    for realtime in [false, true] {
        let (one, before) = Probe::quick("before");
        let mut frames = 0;
        let (broken, failed) = Probe::plan("broken", WhenSlow::DropOldest, move |event| {
            frames += u32::from(matches!(event, Event::Frame(_)));
            if frames < 3 {
                return Ok(ControlFlow::Continue(()));
            }
            Err(Error::Sink("the paper is out".into()))
        });
        let (other, after) = Probe::quick("after");
        let error = Run::start(of_clip(realtime), vec![one, broken, other]).end().unwrap_err();
        assert!(matches!(&error, Error::Sink(why) if why == "the paper is out"), "{error:?}");
        assert_eq!(failed.frames().len(), 3);
        assert!(!failed.all().contains(&Told::Finish));
        for log in [before, after] {
            let told = log.all();
            assert_eq!(
                told[told.len() - 2..],
                [Told::End("the paper is out".into()), Told::Finish]
            );
            assert!((3..72).contains(&log.frames().len()), "{:?}", log.frames());
        }
    }
}

#[test]
fn a_sink_that_has_enough_ends_the_run_well() {
    let (one, others) = Probe::quick("other");
    let (window, closed) = Probe::plan("window", WhenSlow::DropOldest, |event| {
        Ok(match event {
            Event::Frame(_) => ControlFlow::Break("the window was closed"),
            _ => ControlFlow::Continue(()),
        })
    });
    let end = Run::start(of_clip(true), vec![one, window]).end().unwrap();
    assert_eq!(end.reason, "the window was closed");
    assert_eq!(closed.frames().len(), 1);
    assert_eq!(closed.all().last(), Some(&Told::Finish));
    let told = others.all();
    assert_eq!(told[told.len() - 2..], [Told::End(end.reason), Told::Finish]);
}
