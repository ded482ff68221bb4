//! How a stream is doing: whether it is up, since when and why not, and whether a thread is stuck.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A thread that works on one thing for this long is stuck.
pub const STUCK: Duration = Duration::from_secs(60);

/// State of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Not tried yet, or the first attempt is under way.
    #[default]
    Starting,
    /// Connected: frames come.
    Up,
    /// Not reached, or lost. It is tried again.
    Down,
    /// It came to its end, or was told to end.
    Ended,
    /// It failed and is not tried again.
    Failed,
}

impl State {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// A state and its history.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The state.
    pub state: State,
    /// Since when it holds.
    pub since: SystemTime,
    /// Why it is not up, without passwords.
    pub reason: Option<String>,
    /// When the last frame was decoded.
    pub last_frame: Option<Instant>,
    /// Frames per second as the source says; 0 if it does not.
    pub fps: f64,
}

/// How a stream is doing. Source and run write it, health checks and metrics read it.
#[derive(Debug)]
pub struct Status {
    condition: Mutex<Condition>,
    /// Faces in the last frame.
    faces: AtomicU64,
    /// Whether the first attempt is over.
    tried: AtomicBool,
    /// The thread that talks to the source.
    pub source: Pulse,
    /// The thread that looks at frames.
    pub observe: Pulse,
    /// The thread that makes faces and passes them on.
    pub output: Pulse,
}

impl Default for Status {
    fn default() -> Self {
        let condition = Condition {
            state: State::Starting,
            since: SystemTime::now(),
            reason: None,
            last_frame: None,
            fps: 0.0,
        };
        Self {
            condition: Mutex::new(condition),
            faces: AtomicU64::new(0),
            tried: AtomicBool::new(false),
            source: Pulse::default(),
            observe: Pulse::default(),
            output: Pulse::default(),
        }
    }
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Condition> {
        // Every assignment leaves it valid.
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State, reason: Option<&str>) {
        self.tried.store(true, Ordering::Relaxed);
        let mut condition = self.lock();
        if matches!(condition.state, State::Ended | State::Failed) {
            // A thread that was left behind changes nothing any more.
            return;
        }
        if condition.state != state {
            condition.since = SystemTime::now();
        }
        condition.state = state;
        condition.reason = reason.map(Into::into);
    }

    /// Notes a decoded frame: the stream is up.
    pub fn frame(&self) {
        if self.condition().state != State::Up {
            self.set(State::Up, None);
        }
        self.lock().last_frame = Some(Instant::now());
    }

    /// Notes the frame rate that the source tells.
    pub fn rate(&self, fps: f64) {
        self.lock().fps = fps;
    }

    /// Notes that the stream is away and is tried again. Passwords in `reason` are masked already,
    /// here and in the others.
    pub fn down(&self, reason: &str) {
        self.set(State::Down, Some(reason));
    }

    /// Notes that the stream has ended as it should.
    pub fn ended(&self, reason: &str) {
        self.set(State::Ended, Some(reason));
    }

    /// Notes that the stream has failed for good.
    pub fn failed(&self, reason: &str) {
        self.set(State::Failed, Some(reason));
    }

    /// The state, and since when.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.lock().clone()
    }

    /// Whether the first attempt to get a frame is over, with or without success.
    #[must_use]
    pub fn is_tried(&self) -> bool {
        self.tried.load(Ordering::Relaxed)
    }

    /// Notes the number of faces in a frame.
    pub fn faces_seen(&self, faces: usize) {
        self.faces.store(faces as u64, Ordering::Relaxed);
    }

    /// Faces in the last frame; none while no frames come.
    #[must_use]
    pub fn faces(&self) -> u64 {
        let up = self.condition().state == State::Up;
        if up { self.faces.load(Ordering::Relaxed) } else { 0 }
    }

    /// The threads that are stuck, and for how long.
    #[must_use]
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        self.stuck_at(START.elapsed())
    }

    fn stuck_at(&self, now: Duration) -> Vec<(&'static str, Duration)> {
        let threads =
            [("source", &self.source), ("observe", &self.observe), ("output", &self.output)];
        let stuck = |(name, pulse): (_, &Pulse)| {
            Some((name, pulse.works_for(now)?)).filter(|(_, time)| *time > STUCK)
        };
        threads.into_iter().filter_map(stuck).collect()
    }
}

/// Pulses count milliseconds from here.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a thread is doing: it works on something since a moment, or it waits for others.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// The thread begins the next piece of work.
    pub fn works(&self) {
        self.0.store(1 + START.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The thread has nothing to do, or waits for another thread.
    pub fn waits(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// For how long the thread has worked on one thing; `None` if it waits.
    fn works_for(&self, now: Duration) -> Option<Duration> {
        let since = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_millis(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_up_with_its_first_frame_and_says_why_it_is_not() {
        let status = Status::default();
        assert_eq!(status.condition().state, State::Starting);
        assert!(!status.is_tried());
        status.down("the camera cannot be reached");
        let down = status.condition();
        assert_eq!(down.state, State::Down);
        assert_eq!(down.reason.as_deref(), Some("the camera cannot be reached"));
        assert!(status.is_tried() && down.last_frame.is_none());
        status.faces_seen(2);
        assert_eq!(status.faces(), 0, "nobody is seen while it is down");
        status.frame();
        let up = status.condition();
        assert!(up.state == State::Up && up.reason.is_none() && up.last_frame.is_some());
        assert_eq!(status.faces(), 2);
        status.frame();
        assert_eq!(status.condition().since, up.since, "it is up since the first frame");
    }

    #[test]
    fn a_thread_is_stuck_that_works_for_too_long() {
        let status = Status::default();
        status.observe.works();
        let now = START.elapsed();
        assert!(status.stuck_at(now).is_empty());
        let later = now + STUCK + Duration::from_secs(1);
        let [(name, time)] = status.stuck_at(later)[..] else { panic!("not one thread") };
        assert!(name == "observe" && time > STUCK);
        status.observe.works();
        assert!(status.stuck_at(START.elapsed()).is_empty(), "it went on");
        status.observe.waits();
        assert!(status.stuck_at(later).is_empty(), "it waits");
    }
}
