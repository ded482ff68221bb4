//! A resource that several threads share and use in turns.
//!
//! A thread hands in a job of one or more pieces and waits for the result. There is no server
//! thread:
//! a thread that finds the resource idle runs the next round itself, with pieces of all jobs that
//! are
//! queued at that moment. So a single thread never switches to another one, and no thread waits for
//! jobs that have not been handed in.

use std::collections::VecDeque;

use crate::sync::{Condvar, Mutex, lock, wait};

/// A resource that processes several pieces of work in one call.
pub trait Resource {
    /// A piece of work: the input, and room for the output.
    type Piece;
    /// How a round can fail. Every job with a piece in that round fails with it.
    type Error: Clone;

    /// Processes the pieces: at least one, at most the [width](Turns::new).
    ///
    /// # Errors
    /// The resource's own errors.
    fn round(&mut self, pieces: &mut [Self::Piece]) -> Result<(), Self::Error>;
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure<E> {
    /// The resource failed.
    Resource(E),
    /// The resource panicked, in this call or an earlier one.
    Panicked,
}

/// A resource and the queue of jobs for it.
///
/// A round takes one piece of each queued job in turn. So a job of one piece waits for at most the
/// round in progress and as many rounds as it takes to serve one piece of every job queued before
/// it.
pub struct Turns<R: Resource> {
    queue: Mutex<Queue<R>>,
    /// Locked only by the thread that has set `Queue::busy`.
    resource: Mutex<R>,
    /// Notified when a round has ended.
    changed: Condvar,
    width: usize,
}

struct Queue<R: Resource> {
    /// The next round starts with the job at the front.
    jobs: VecDeque<Job<R>>,
    next_id: u64,
    /// Whether a round is running.
    busy: bool,
    panicked: bool,
}

struct Job<R: Resource> {
    id: u64,
    /// Pieces that have not started, each with its index in the job.
    todo: VecDeque<(usize, R::Piece)>,
    done: Vec<(usize, R::Piece)>,
    /// Number of the job's pieces in the running round.
    running: usize,
    failure: Option<R::Error>,
}

/// Where a piece of a round comes from: the job's id and the piece's index in that job.
type Place = (u64, usize);

impl<R: Resource> Turns<R> {
    /// `width`: most pieces in one round, at least 1.
    pub fn new(resource: R, width: usize) -> Self {
        let queue = Queue { jobs: VecDeque::new(), next_id: 0, busy: false, panicked: false };
        Self {
            queue: Mutex::new(queue),
            resource: Mutex::new(resource),
            changed: Condvar::new(),
            width: width.max(1),
        }
    }

    /// Processes all pieces and returns them in their order.
    ///
    /// # Errors
    /// [`Failure`]; the pieces are dropped then.
    pub fn run(&self, pieces: Vec<R::Piece>) -> Result<Vec<R::Piece>, Failure<R::Error>> {
        let mut queue = lock(&self.queue);
        let id = queue.push(pieces);
        loop {
            if queue.panicked {
                return Err(Failure::Panicked);
            }
            if let Some(job) = queue.take_finished(id) {
                return job.result().map_err(Failure::Resource);
            }
            if queue.busy {
                queue = wait(&self.changed, queue);
                continue;
            }
            queue.busy = true;
            let (places, mut pieces) = queue.begin_round(self.width);
            drop(queue);
            let panic_guard = PanicGuard(self);
            let result = lock(&self.resource).round(&mut pieces);
            std::mem::forget(panic_guard);
            queue = lock(&self.queue);
            queue.end_round(places, pieces, result);
            self.changed.notify_all();
        }
    }
}

/// Marks the queue as panicked if a round panics, and wakes all waiting threads.
struct PanicGuard<'a, R: Resource>(&'a Turns<R>);

impl<R: Resource> Drop for PanicGuard<'_, R> {
    fn drop(&mut self) {
        lock(&self.0.queue).panicked = true;
        self.0.changed.notify_all();
    }
}

impl<R: Resource> Queue<R> {
    fn push(&mut self, pieces: Vec<R::Piece>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let todo = pieces.into_iter().enumerate().collect();
        self.jobs.push_back(Job { id, todo, done: Vec::new(), running: 0, failure: None });
        id
    }

    fn take_finished(&mut self, id: u64) -> Option<Job<R>> {
        let at = self.jobs.iter().position(|job| job.id == id && job.is_finished())?;
        self.jobs.remove(at)
    }

    /// Takes one piece of each job in turn until the round is full or no pieces are left.
    fn begin_round(&mut self, width: usize) -> (Vec<Place>, Vec<R::Piece>) {
        let (mut places, mut pieces) = (Vec::new(), Vec::new());
        let mut without_work = 0;
        while pieces.len() < width && without_work < self.jobs.len() {
            let Some(mut job) = self.jobs.pop_front() else { break };
            match job.todo.pop_front() {
                Some((place, piece)) => {
                    places.push((job.id, place));
                    pieces.push(piece);
                    job.running += 1;
                    without_work = 0;
                }
                None => without_work += 1,
            }
            self.jobs.push_back(job);
        }
        (places, pieces)
    }

    fn end_round(
        &mut self,
        places: Vec<Place>,
        pieces: Vec<R::Piece>,
        result: Result<(), R::Error>,
    ) {
        self.busy = false;
        for ((id, place), piece) in places.into_iter().zip(pieces) {
            if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
                job.running -= 1;
                job.done.push((place, piece));
                if let Err(error) = &result {
                    job.failure = Some(error.clone());
                    // The job has failed: its other pieces are not needed.
                    job.todo.clear();
                }
            }
        }
    }
}

impl<R: Resource> Job<R> {
    fn is_finished(&self) -> bool {
        self.todo.is_empty() && self.running == 0
    }

    fn result(mut self) -> Result<Vec<R::Piece>, R::Error> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        self.done.sort_unstable_by_key(|(place, _)| *place);
        Ok(self.done.into_iter().map(|(_, piece)| piece).collect())
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::thread;

    use super::*;
    use crate::sync::Arc;

    /// Adds 1 to each piece.
    struct Increment;

    impl Resource for Increment {
        type Piece = u32;
        type Error = ();
        fn round(&mut self, pieces: &mut [u32]) -> Result<(), ()> {
            pieces.iter_mut().for_each(|piece| *piece += 1);
            Ok(())
        }
    }

    #[test]
    fn two_threads_get_what_they_asked_for_in_every_order() {
        loom::model(|| {
            let turns = Arc::new(Turns::new(Increment, 2));
            let other = turns.clone();
            let thread = thread::spawn(move || other.run(vec![10, 20]));
            assert_eq!(turns.run(vec![1]), Ok(vec![2]));
            assert_eq!(thread.join().expect("joined"), Ok(vec![11, 21]));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Doubles each piece, notes the rounds; fails at 13, panics at 666.
    #[derive(Default)]
    struct Double {
        rounds: Arc<Mutex<Vec<Vec<u64>>>>,
        /// If set, every round waits for a word.
        gate: Option<mpsc::Receiver<()>>,
    }

    impl Resource for Double {
        type Piece = u64;
        type Error = String;
        fn round(&mut self, pieces: &mut [u64]) -> Result<(), String> {
            self.rounds.lock().expect("rounds").push(pieces.to_vec());
            if let Some(gate) = &self.gate {
                gate.recv_timeout(Duration::from_secs(30)).expect("the test opens the gate");
            }
            assert!(!pieces.contains(&666), "a panic of the resource");
            if pieces.contains(&13) {
                return Err("thirteen".into());
            }
            pieces.iter_mut().for_each(|piece| *piece *= 2);
            Ok(())
        }
    }

    /// Waits until `count` jobs are in the queue.
    fn until_waiting(turns: &Turns<Double>, count: usize) {
        for _ in 0..3000 {
            if lock(&turns.queue).jobs.len() == count {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} jobs never waited");
    }

    /// One job runs behind the gate; `jobs` wait meanwhile. The rounds that followed.
    fn rounds_of(jobs: &[Vec<u64>], width: usize) -> Vec<Vec<u64>> {
        let (open, gate) = mpsc::sync_channel(100);
        let double = Double { gate: Some(gate), ..Double::default() };
        let rounds = double.rounds.clone();
        let turns = Turns::new(double, width);
        thread::scope(|scope| {
            let first = scope.spawn(|| turns.run(vec![1000]));
            until_waiting(&turns, 1);
            for (i, job) in jobs.iter().enumerate() {
                let turns = &turns;
                scope.spawn(move || {
                    let expected: Vec<u64> = job.iter().map(|piece| 2 * piece).collect();
                    assert_eq!(turns.run(job.clone()), Ok(expected));
                });
                until_waiting(turns, 2 + i);
            }
            for _ in 0..100 {
                open.send(()).expect("sent");
            }
            assert_eq!(first.join().expect("joined"), Ok(vec![2000]));
        });
        let rounds = rounds.lock().expect("rounds");
        rounds[1..].to_vec()
    }

    #[test]
    fn jobs_that_wait_at_the_same_moment_go_through_in_one_round() {
        assert_eq!(rounds_of(&[vec![1], vec![2]], 2), [[1, 2]]);
        assert_eq!(rounds_of(&[vec![1], vec![2], vec![3]], 2), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_large_job_does_not_hold_up_a_small_one() {
        let large: Vec<u64> = (1..=6).collect();
        let rounds = rounds_of(&[large, vec![100]], 2);
        assert_eq!(rounds, [vec![1, 100], vec![2, 3], vec![4, 5], vec![6]]);
    }

    #[test]
    fn who_is_alone_does_not_wait() {
        let turns = Turns::new(Double::default(), 4);
        assert_eq!(turns.run(vec![3, 4, 5, 6, 7]), Ok(vec![6, 8, 10, 12, 14]));
        assert_eq!(turns.run(vec![]), Ok(vec![]));
    }

    #[test]
    fn a_failure_reaches_those_whose_pieces_failed_and_nobody_else() {
        let turns = Turns::new(Double::default(), 1);
        assert_eq!(turns.run(vec![1, 13, 2]), Err(Failure::Resource("thirteen".into())));
        assert_eq!(turns.run(vec![4]), Ok(vec![8]));
    }

    #[test]
    fn a_panic_is_told_to_everybody_and_leaves_nobody_waiting() {
        let (open, gate) = mpsc::sync_channel(100);
        let turns = Turns::new(Double { gate: Some(gate), ..Double::default() }, 1);
        thread::scope(|scope| {
            let bad = scope.spawn(|| turns.run(vec![666]));
            until_waiting(&turns, 1);
            let waiting = scope.spawn(|| turns.run(vec![1]));
            until_waiting(&turns, 2);
            open.send(()).expect("sent");
            assert!(bad.join().is_err(), "the panic goes on in its own thread");
            assert_eq!(waiting.join().expect("joined"), Err(Failure::Panicked));
        });
        assert_eq!(turns.run(vec![1]), Err(Failure::Panicked));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the jobs, everybody gets their own pieces back, in order.
        #[test]
        fn everybody_gets_their_own(
            jobs in prop::collection::vec(prop::collection::vec(1000u64..2000, 0..6), 1..6),
            width in 1usize..5,
        ) {
            let turns = Turns::new(Double::default(), width);
            thread::scope(|scope| {
                for job in &jobs {
                    let turns = &turns;
                    scope.spawn(move || {
                        for _ in 0..5 {
                            let expected: Vec<u64> = job.iter().map(|piece| 2 * piece).collect();
                            assert_eq!(turns.run(job.clone()), Ok(expected));
                        }
                    });
                }
            });
        }
    }
}
