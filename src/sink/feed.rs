//! Records for readers that come and go while streams run: `/records`.
//!
//! Each reader has a bounded queue of its own. A slow reader loses records and is told how many; it
//! never delays a stream or another reader.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use mmface::face::FaceModel;

use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::{Error, Result};

/// Most records that wait for a reader.
const RECORDS: usize = 256;
/// Most bytes of records that wait for a reader. One record may always wait, however long it is.
const BYTES: usize = 4 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that could panic runs under the locks here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where streams publish records and readers get them. Clones are the same feed.
#[derive(Clone, Default)]
pub struct Feed(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    readers: Vec<Arc<Queue>>,
    /// Header and latest stream record of each running stream, for readers that come later.
    beginnings: BTreeMap<String, Vec<Line>>,
    /// The face model of all streams.
    model: Option<Arc<FaceModel>>,
    closed: bool,
    /// Records that readers who are gone have lost.
    lost: u64,
}

/// One record as JSON.
#[derive(Clone)]
struct Line {
    text: Arc<str>,
    is_frame: bool,
}

/// The records that wait for a reader.
struct Queue {
    /// The only stream that the reader wants.
    only: Option<String>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lost records that the reader does not know of yet, and all of them.
    untold: u64,
    lost: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(Arc<str>),
    /// So many records were lost here, because the reader was slow.
    Dropped(u64),
}

/// A reader of a [`Feed`]. Dropping it ends it.
pub struct Reader {
    feed: Feed,
    queue: Arc<Queue>,
}

impl Feed {
    /// A reader of one stream or of all. It gets the headers and latest stream records of what runs,
    /// then everything from now on. `None` if there are `most` readers already.
    #[must_use]
    pub fn subscribe(&self, only: Option<String>, most: usize) -> Option<Reader> {
        let mut state = lock(&self.0);
        if state.readers.len() >= most {
            return None;
        }
        let queue = Arc::new(Queue { only, waiting: Mutex::default() });
        let wanted = |(stream, _): &(&String, _)| queue.wants(stream);
        state.beginnings.iter().filter(wanted).flat_map(|(_, lines)| lines).for_each(|line| {
            queue.push(line.clone());
        });
        lock(&queue.waiting).closed = state.closed;
        state.readers.push(queue.clone());
        Some(Reader { feed: self.clone(), queue })
    }

    /// Number of readers, and of the records that all readers so far have lost.
    #[must_use]
    pub fn readers(&self) -> (usize, u64) {
        let state = lock(&self.0);
        let lost = state.readers.iter().map(|queue| lock(&queue.waiting).lost).sum::<u64>();
        (state.readers.len(), state.lost + lost)
    }

    /// Ends all readers once they have got what waits for them.
    pub fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        for queue in &state.readers {
            let waker = {
                let mut waiting = lock(&queue.waiting);
                waiting.closed = true;
                waiting.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// The face model of the records, as soon as a stream runs.
    #[must_use]
    pub fn model(&self) -> Option<Arc<FaceModel>> {
        lock(&self.0).model.clone()
    }

    fn is_wanted(&self, stream: &str) -> bool {
        lock(&self.0).readers.iter().any(|queue| queue.wants(stream))
    }

    fn publish(&self, stream: &str, event: &Event, text: String) {
        let line = Line { text: text.into(), is_frame: matches!(event, Event::Frame(_)) };
        let mut state = lock(&self.0);
        match event {
            Event::Header(_) => {
                state.beginnings.insert(stream.into(), vec![line.clone()]);
            }
            Event::Stream(_) => {
                let lines = state.beginnings.entry(stream.into()).or_default();
                lines.truncate(1);
                lines.push(line.clone());
            }
            Event::End(_) => {
                state.beginnings.remove(stream);
            }
            Event::Frame(_) | Event::Gap(_) => {}
        }
        state.readers.iter().filter(|queue| queue.wants(stream)).for_each(|queue| {
            queue.push(line.clone());
        });
    }
}

impl Queue {
    fn wants(&self, stream: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == stream)
    }

    /// Appends a record. If there is no room, the oldest frame is dropped, or, where no frame waits,
    /// the oldest record.
    fn push(&self, line: Line) {
        let mut waiting = lock(&self.waiting);
        waiting.bytes += line.text.len();
        waiting.lines.push_back(line);
        while waiting.lines.len() > RECORDS || (waiting.bytes > BYTES && waiting.lines.len() > 1) {
            let oldest = waiting.lines.iter().position(|line| line.is_frame).unwrap_or(0);
            let Some(dropped) = waiting.lines.remove(oldest) else { break };
            waiting.bytes -= dropped.text.len();
            waiting.untold += 1;
            waiting.lost += 1;
        }
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Reader {
    /// The next record; `None` at the end.
    pub fn poll_next(&mut self, task: &TaskContext<'_>) -> Poll<Option<Next>> {
        let mut waiting = lock(&self.queue.waiting);
        if waiting.untold > 0 {
            return Poll::Ready(Some(Next::Dropped(std::mem::take(&mut waiting.untold))));
        }
        if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes -= line.text.len();
            return Poll::Ready(Some(Next::Record(line.text)));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.waker = Some(task.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.feed.0);
        state.readers.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        state.lost += lock(&self.queue.waiting).lost;
    }
}

/// The sink that publishes records in a feed.
pub struct FeedRecords {
    /// The feed.
    pub feed: Feed,
    /// Optional parts of the records.
    pub content: Content,
}

impl Plan for FeedRecords {
    fn name(&self) -> &'static str {
        "feed"
    }

    /// Publishing never blocks.
    fn when_slow(&self) -> WhenSlow {
        WhenSlow::Wait
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        lock(&self.feed.0).model = Some(context.model.clone());
        Ok(Box::new(Publisher { plan: *self, stream: context.stream.clone() }))
    }
}

struct Publisher {
    plan: FeedRecords,
    stream: String,
}

impl Sink for Publisher {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let FeedRecords { feed, content } = &self.plan;
        let kept = matches!(event, Event::Header(_) | Event::Stream(_) | Event::End(_));
        // Nobody pays for what nobody reads.
        if kept || feed.is_wanted(&self.stream) {
            let text = serde_json::to_string(&event.record(*content))
                .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
            feed.publish(&self.stream, event, text);
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Drop for Publisher {
    /// A run that failed has no end record.
    fn drop(&mut self) {
        lock(&self.plan.feed.0).beginnings.remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, is_frame: bool) -> Line {
        Line { text: text.into(), is_frame }
    }

    fn send(feed: &Feed, line: &Line) {
        lock(&feed.0).readers.iter().for_each(|queue| queue.push(line.clone()));
    }

    /// Everything that waits.
    fn read(reader: &mut Reader) -> Vec<Next> {
        let task = TaskContext::from_waker(Waker::noop());
        let next = || match reader.poll_next(&task) {
            Poll::Ready(next) => next,
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_frames_and_is_told() {
        let feed = Feed::default();
        let (mut slow, mut quick) =
            (feed.subscribe(None, 9).expect("room"), feed.subscribe(None, 9).expect("room"));
        send(&feed, &line("gap", false));
        for number in 0..RECORDS + 9 {
            send(&feed, &line(&number.to_string(), true));
            let got = read(&mut quick);
            assert_eq!(got.last(), Some(&Next::Record(number.to_string().into())));
        }
        let got = read(&mut slow);
        assert_eq!(got[..2], [Next::Dropped(10), Next::Record("gap".into())]);
        assert_eq!(got.len(), 1 + RECORDS);
        assert_eq!(got[2], Next::Record("10".into()));
        assert_eq!(feed.readers(), (2, 10));
        drop((slow, quick));
        assert_eq!(feed.readers(), (0, 10), "what was lost stays counted");
    }

    #[test]
    fn long_records_are_limited_by_their_bytes() {
        let feed = Feed::default();
        let mut reader = feed.subscribe(None, 9).expect("room");
        let long = "x".repeat(BYTES + 1);
        send(&feed, &line(&long, true));
        send(&feed, &line(&long, true));
        assert_eq!(read(&mut reader), [Next::Dropped(1), Next::Record(long.into())]);
    }

    #[test]
    fn what_cannot_be_dropped_as_a_frame_is_dropped_too() {
        let feed = Feed::default();
        let mut reader = feed.subscribe(None, 9).expect("room");
        (0..2 * RECORDS).for_each(|_| send(&feed, &line("gap", false)));
        assert_eq!(read(&mut reader).len(), 1 + RECORDS);
    }

    #[test]
    fn a_closed_feed_ends_its_readers_when_they_have_everything() {
        let feed = Feed::default();
        let mut reader = feed.subscribe(None, 1).expect("room");
        assert!(feed.subscribe(None, 1).is_none(), "one too many");
        send(&feed, &line("last", false));
        feed.close();
        assert_eq!(read(&mut reader), [Next::Record("last".into())]);
        let task = TaskContext::from_waker(Waker::noop());
        assert_eq!(reader.poll_next(&task), Poll::Ready(None));
    }
}
