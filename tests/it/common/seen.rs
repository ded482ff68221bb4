//! What a source gives: its frames and events, taken to the end or until a test has seen enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mmface_live::counters::Counters;
use mmface_live::frame::{Frame, StreamInfo};
use mmface_live::source::{End, Event, Input, Options, Source};

/// No test takes so long; whatever does hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Opens a source with counters of its own.
pub fn open(options: Options) -> mmface_live::Result<(Source, Arc<Counters>)> {
    let counters = Arc::new(Counters::default());
    Ok((Source::open(options, counters.clone())?, counters))
}

/// The size of a frame.
pub fn size(frame: &Frame) -> (u32, u32) {
    (frame.image().width, frame.image().height)
}

/// The name of a picture.
pub fn name(frame: &Frame) -> Option<&str> {
    frame.still.as_ref().map(|still| &*still.name)
}

/// Everything that a source gave.
#[derive(Default)]
pub struct Seen {
    pub frames: Vec<Frame>,
    pub connected: Vec<StreamInfo>,
    pub gaps: Vec<(String, u32)>,
    pub end: Option<End>,
}

impl Seen {
    /// Takes frames until `enough`, or to the end.
    pub fn watch(&mut self, source: &Source, mut enough: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !enough(self) {
            let frame = source.frames.recv_deadline(deadline);
            for (_, event) in source.events.try_iter() {
                assert!(self.end.is_none(), "something came after the end: {event:?}");
                match event {
                    Event::Connected(info) => self.connected.push(info),
                    Event::Gap { from, to, reason, connection } => {
                        assert!(from <= to);
                        self.gaps.push((reason, connection));
                    }
                    Event::Ended(end) => self.end = Some(end),
                }
            }
            match frame {
                Ok(frame) => {
                    assert!(!self.connected.is_empty(), "a frame came before its stream was told");
                    self.frames.push(frame);
                }
                Err(e) if e.is_disconnected() => return,
                Err(_) => panic!("no frame within {DEADLINE:?}, and no end"),
            }
        }
    }

    /// Opens a source and takes everything it gives.
    pub fn all(input: Input) -> Self {
        let (source, _) = open(Options::new(input)).unwrap();
        let mut seen = Self::default();
        seen.watch(&source, |_| false);
        seen
    }

    pub fn reason(&self) -> &str {
        &self.end.as_ref().expect("the source did not say that it ended").reason
    }

    /// The sentence with which the source failed.
    pub fn error(&self) -> String {
        let error = self.end.as_ref().and_then(|end| end.error.as_ref()).expect("no error");
        assert_eq!(error.exit_code(), 3);
        error.to_string()
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.number).collect()
    }
}
