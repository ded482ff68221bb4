//! Who should take which stream. All who know the same compute the same.

use std::cmp::Ordering;

/// Most streams that a worker takes at once: starting one is work.
pub(crate) const STARTS: usize = 4;
/// Loads that differ by less are balanced.
const UNEVEN: f64 = 0.1;

/// A worker as the plan sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How many streams it can run.
    pub capacity: usize,
    /// How many it runs.
    pub streams: usize,
    /// Whether it is to give its streams away.
    pub draining: bool,
    /// Whether it was heard of lately, so that it can be counted on.
    pub awake: bool,
}

impl Worker {
    fn has_room(&self) -> bool {
        !self.draining && self.awake && self.streams < self.capacity
    }

    fn load(&self) -> f64 {
        self.streams as f64 / (self.capacity.max(1)) as f64
    }
}

/// Streams without an owner, and the workers there are.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The workers.
    pub workers: Vec<Worker>,
}

impl Plan {
    /// Which of the `free` streams `who` takes now. Each comes with the worker that had it last, if
    /// that is to have it again, and those that it has failed on.
    #[must_use]
    pub fn claims<'a>(
        &self,
        free: &[(&'a str, Option<&str>, &[String])],
        who: &str,
    ) -> Vec<&'a str> {
        let mut workers = self.workers.clone();
        let mut starts = vec![0; workers.len()];
        let mut mine = Vec::new();
        for (stream, last, tried) in free {
            let fits = |at: usize, worker: &Worker, starts: &[usize]| {
                worker.has_room() && starts[at] < STARTS
            };
            let is_last = |worker: &Worker| *last == Some(worker.name.as_str());
            let is_tried = |worker: &Worker| tried.contains(&worker.name);
            let again = workers
                .iter()
                .enumerate()
                .position(|(at, worker)| is_last(worker) && fits(at, worker, &starts));
            let better = |a: &&usize, b: &&usize| {
                let (one, other) = (&workers[**a], &workers[**b]);
                is_tried(one)
                    .cmp(&is_tried(other))
                    .then(one.load().partial_cmp(&other.load()).unwrap_or(Ordering::Equal))
                    .then_with(|| hash(stream, &one.name).cmp(&hash(stream, &other.name)))
            };
            let candidates: Vec<_> =
                (0..workers.len()).filter(|at| fits(*at, &workers[*at], &starts)).collect();
            let Some(at) = again.or_else(|| candidates.iter().min_by(better).copied()) else {
                continue;
            };
            starts[at] += 1;
            workers[at].streams += 1;
            if workers[at].name == who {
                mine.push(*stream);
            }
        }
        mine
    }

    /// How many streams `who` gives away now, so that loads become even. It keeps what nobody has
    /// room for.
    #[must_use]
    pub fn gives(&self, who: &str) -> usize {
        let mut workers = self.workers.clone();
        let streams: usize = workers.iter().map(|worker| worker.streams).sum();
        let (mut given, most) = (0, (streams / 50).max(1));
        let mut moves = 0;
        loop {
            let by_load = |a: &usize, b: &usize| {
                let (one, other) = (&workers[*a], &workers[*b]);
                let loads = one.load().partial_cmp(&other.load()).unwrap_or(Ordering::Equal);
                loads.then_with(|| one.name.cmp(&other.name))
            };
            let rank = |at: &usize| workers[*at].draining && workers[*at].streams > 0;
            let Some(from) =
                (0..workers.len()).max_by(|a, b| rank(a).cmp(&rank(b)).then(by_load(a, b)))
            else {
                break;
            };
            let to = (0..workers.len())
                .filter(|at| *at != from && workers[*at].has_room())
                .min_by(by_load);
            let Some(to) = to else { break };
            let (giver, taker) = (&workers[from], &workers[to]);
            let after = (taker.streams + 1) as f64 / taker.capacity.max(1) as f64;
            let is_over = giver.streams > giver.capacity;
            let is_uneven = giver.load() - after > UNEVEN && giver.streams > taker.streams + 1;
            let drains = rank(&from);
            if giver.streams == 0 || !(drains || is_over || is_uneven) {
                break;
            }
            if !drains {
                moves += 1;
                if moves > most {
                    break;
                }
            }
            if workers[from].name == who {
                given += 1;
            }
            workers[from].streams -= 1;
            workers[to].streams += 1;
        }
        given.min(STARTS)
    }

    /// The place of `who` among the others that are awake, to do something for `what`: the first
    /// does it, the next only if nothing happens.
    #[must_use]
    pub fn rank(&self, what: &str, who: &str) -> usize {
        let own = hash(what, who);
        let others = self.workers.iter().filter(|worker| worker.awake && worker.name != who);
        others.filter(|worker| hash(what, &worker.name) < own).count()
    }
}

/// FNV-1a, with its bits mixed: the same on every machine.
fn hash(a: &str, b: &str) -> u64 {
    let bytes = a.bytes().chain(std::iter::once(0)).chain(b.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    for _ in 0..2 {
        hash = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, capacity: usize, streams: usize) -> Worker {
        Worker { name: name.into(), capacity, streams, draining: false, awake: true }
    }

    fn plan(workers: &[Worker]) -> Plan {
        Plan { workers: workers.to_vec() }
    }

    /// All claims of a plan, by worker.
    fn all(plan: &Plan, free: &[(&str, Option<&str>, &[String])]) -> Vec<usize> {
        let of = |worker: &Worker| plan.claims(free, &worker.name).len();
        plan.workers.iter().map(of).collect()
    }

    #[test]
    fn every_free_stream_goes_to_one_worker_and_those_with_room_get_more() {
        let names: Vec<_> = (0..6).map(|n| format!("camera-{n}")).collect();
        let free: Vec<_> = names.iter().map(|name| (name.as_str(), None, &[][..])).collect();
        let even = plan(&[worker("a", 10, 0), worker("b", 10, 0), worker("c", 10, 0)]);
        assert_eq!(all(&even, &free), [2, 2, 2]);
        let one = plan(&[worker("a", 10, 5), worker("b", 10, 0), worker("c", 10, 8)]);
        assert_eq!(all(&one, &free), [2, 4, 0], "no more than four at once");
        let full = plan(&[worker("a", 2, 2), worker("b", 1, 0)]);
        assert_eq!(all(&full, &free), [0, 1]);
    }

    #[test]
    fn a_stream_goes_back_to_who_had_it_and_not_to_where_it_failed() {
        let both = plan(&[worker("a", 9, 5), worker("b", 9, 0)]);
        assert_eq!(all(&both, &[("x", Some("a"), &[])]), [1, 0]);
        assert_eq!(all(&both, &[("x", None, &["b".into()])]), [1, 0]);
        let only = plan(&[worker("b", 9, 0)]);
        assert_eq!(all(&only, &[("x", None, &["b".into()])]), [1], "better than nobody");
    }

    #[test]
    fn who_sleeps_or_drains_gets_nothing() {
        let mut workers = [worker("a", 9, 0), worker("b", 9, 3)];
        workers[0].awake = false;
        assert_eq!(all(&plan(&workers), &[("x", None, &[])]), [0, 1]);
        workers[0] = Worker { draining: true, ..worker("a", 9, 0) };
        assert_eq!(all(&plan(&workers), &[("x", None, &[])]), [0, 1]);
    }

    #[test]
    fn loads_become_even_and_then_nothing_moves() {
        let mut workers = vec![worker("a", 10, 6), worker("b", 10, 6), worker("c", 10, 0)];
        let mut moves = 0;
        loop {
            let plan = plan(&workers);
            let gives: Vec<_> = workers.iter().map(|worker| plan.gives(&worker.name)).collect();
            let Some(from) = gives.iter().position(|gives| *gives > 0) else { break };
            workers[from].streams -= 1;
            let to = workers.iter_mut().min_by_key(|worker| worker.streams).expect("some");
            to.streams += 1;
            moves += 1;
            assert!(moves < 9, "{workers:?}");
        }
        let streams: Vec<_> = workers.iter().map(|worker| worker.streams).collect();
        assert_eq!((streams.as_slice(), moves), (&[5, 4, 3][..], 3), "near enough");
    }

    #[test]
    fn who_drains_gives_only_what_others_have_room_for() {
        let workers = [Worker { draining: true, ..worker("a", 9, 5) }, worker("b", 3, 1)];
        assert_eq!(plan(&workers).gives("a"), 2);
        assert_eq!(plan(&workers).gives("b"), 0);
    }

    #[test]
    fn somebody_is_first() {
        let plan = plan(&[worker("a", 1, 0), worker("b", 1, 0), worker("c", 1, 0)]);
        let mut ranks: Vec<_> = ["a", "b", "c"].map(|who| plan.rank("x", who)).into();
        ranks.sort_unstable();
        assert_eq!(ranks, [0, 1, 2]);
    }
}
