//! The answers to `/healthz` and `/readyz`, and systemd's status line.

use mmface::record::timestamp;
use serde::Serialize;

use crate::board::{Board, View};
use crate::status::State;

/// Whether the process works.
#[derive(Serialize)]
pub(super) struct Health {
    healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stuck: Vec<StuckThread>,
}

#[derive(Serialize)]
struct StuckThread {
    stream: String,
    thread: &'static str,
    seconds: f64,
}

impl Health {
    pub(super) fn of(board: &Board) -> Self {
        let thread = |stuck: crate::board::Stuck| StuckThread {
            stream: stuck.stream.to_string(),
            thread: stuck.thread,
            seconds: rounded(stuck.time.as_secs_f64()),
        };
        let stuck: Vec<_> = board.stuck().into_iter().map(thread).collect();
        Self { healthy: stuck.is_empty(), stuck }
    }

    pub(super) fn is_good(&self) -> bool {
        self.healthy
    }
}

/// Whether all streams are up, or have ended as they should.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    streams: Vec<StreamState>,
}

/// How one stream is doing.
#[derive(Serialize)]
pub(super) struct StreamState {
    stream: String,
    ready: bool,
    state: &'static str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_frame_age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Readiness {
    pub(super) fn of(board: &Board) -> Self {
        let listed = board.views().into_iter().filter(|view| view.listed);
        let streams: Vec<_> = listed.map(StreamState::of).collect();
        let ready = !streams.is_empty() && streams.iter().all(|s| s.ready || s.has_ended());
        Self { ready, streams }
    }

    pub(super) fn is_good(&self) -> bool {
        self.ready
    }

    /// One stream of them.
    pub(super) fn into_stream(self, name: &str) -> Option<StreamState> {
        self.streams.into_iter().find(|stream| stream.stream == name)
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let up = self.streams.iter().filter(|stream| stream.ready).count();
        let is_down = |stream: &&StreamState| !stream.ready && !stream.has_ended();
        let mut line = match self.streams.len() {
            1 => if up == 1 { "the stream is up" } else { "the stream is not up" }.to_string(),
            all => format!("{up} of {all} streams are up"),
        };
        if let Some(down) = self.streams.iter().find(is_down) {
            line += &format!("; {}: {}", down.stream, down.state);
            line += &down.reason.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        }
        line
    }
}

impl StreamState {
    fn of(view: View) -> Self {
        let ready = view.is_up();
        let condition = view.condition;
        Self {
            stream: view.name.to_string(),
            ready,
            state: condition.state.name(),
            since: timestamp(condition.since),
            last_frame_age_seconds: condition
                .last_frame
                .map(|frame| rounded(frame.elapsed().as_secs_f64())),
            reason: condition.reason,
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.ready
    }

    fn has_ended(&self) -> bool {
        self.state == State::Ended.name()
    }
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::counters::Counters;

    #[test]
    fn one_stream_that_is_down_makes_all_not_ready() {
        let board = Board::default();
        assert!(!Readiness::of(&board).is_good(), "without a stream there is nothing to be ready");
        let (door, garden) = (Arc::<Counters>::default(), Arc::<Counters>::default());
        board.put("door", &door);
        board.put("garden", &garden);
        door.status.frame();
        garden.status.down("nobody answers");
        let all = Readiness::of(&board);
        assert_eq!(all.line(), "1 of 2 streams are up; garden: down (nobody answers)");
        assert!(!all.is_good());
        assert!(Readiness::of(&board).into_stream("door").is_some_and(|door| door.is_good()));
        let garden = Readiness::of(&board).into_stream("garden").expect("is there");
        assert!(!garden.is_good());
        assert_eq!(garden.reason.as_deref(), Some("nobody answers"));
        let clip = Arc::<Counters>::default();
        clip.status.ended("end of stream");
        board.put("clip", &clip);
        board.list_only(&["door", "clip"]);
        assert!(Readiness::of(&board).is_good(), "nobody waits for what is not wanted");
    }
}
