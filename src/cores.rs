//! Keeps the program to some of the machine's cores.

use std::collections::BTreeSet;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Lets this thread, and all that it starts from now on, compute on `most` cores at once: decoder,
/// detector, networks and outputs together. Of those that the process may use, one of each
/// physical core comes first.
pub(crate) fn limit(most: u32) {
    let set = sched_getaffinity(None).and_then(|allowed| {
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let mut set = CpuSet::new();
        for cpu in chosen(&allowed, most as usize, siblings) {
            set.set(cpu);
        }
        sched_setaffinity(None, &set)
    });
    if let Err(error) = set {
        tracing::warn!("--threads bounds the networks only: the system refuses more ({error})");
    }
}

/// The first `most` of `allowed`, where the second thread of a physical core comes behind all
/// first ones.
fn chosen(
    allowed: &[usize],
    most: usize,
    siblings: impl Fn(usize) -> Option<String>,
) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let is_first = |cpu: &usize| siblings(*cpu).is_none_or(|core| seen.insert(core));
    let (first, second): (Vec<usize>, Vec<usize>) = allowed.iter().copied().partition(is_first);
    first.into_iter().chain(second).take(most).collect()
}

/// The CPUs of the same physical core, as the system writes them.
fn siblings(cpu: usize) -> Option<String> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn physical_cores_come_first() {
        let pairs = |cpu: usize| Some((cpu / 2).to_string());
        assert_eq!(chosen(&[0, 1, 2, 3], 2, pairs), [0, 2]);
        assert_eq!(chosen(&[0, 1, 2, 3], 3, pairs), [0, 2, 1]);
        assert_eq!(chosen(&[1, 2, 3], 9, pairs), [1, 2, 3]);
        assert_eq!(chosen(&[4, 5], 1, |_| None), [4]);
    }

    #[test]
    fn threads_that_come_later_are_limited_too() {
        let cores = || {
            (0..CpuSet::MAX_CPU).filter(|&cpu| sched_getaffinity(None).unwrap().is_set(cpu)).count()
        };
        let limited = std::thread::spawn(move || {
            limit(1);
            (cores(), std::thread::spawn(cores).join().unwrap())
        });
        assert_eq!(limited.join().unwrap(), (1, 1));
    }
}
