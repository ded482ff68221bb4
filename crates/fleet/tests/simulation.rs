//! A day of failures: workers that die, stop for a while or are cut off, a store that restarts,
//! clocks that run at different speeds. What must hold is checked at every moment.
//!
//! The store and the network are simulated; the workers run the code of the program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod world;

use world::{Faults, Figures, Scale, World};

/// The fleet of the day: 100 workers, 2,000 streams, a lease of ten seconds.
fn scale() -> Scale {
    Scale { workers: 100, streams: 2000, capacity: 30, lease: 10_000 }
}

fn run(scale: Scale, faults: Faults, seed: u64, hours: f64) -> Figures {
    let mut world = World::new(scale, faults, seed);
    world.run((hours * 3.6e6) as u64);
    let figures = world.figures();
    println!("seed {seed}: {figures}");
    figures.check(scale);
    figures
}

#[test]
fn small_fleets_survive_everything() {
    let small = Scale { workers: 5, streams: 40, capacity: 40, lease: 10_000 };
    for seed in 0..20 {
        let figures = run(small, Faults::often(), seed, 2.0);
        assert!(figures.kills + figures.pauses + figures.partitions > 10, "{figures}");
    }
}

#[test]
fn without_faults_nothing_moves_and_loads_are_even() {
    let figures = run(Scale { workers: 12, streams: 100, ..scale() }, Faults::none(), 1, 1.0);
    assert_eq!(figures.starts, 100, "each stream is started once: {figures}");
    assert!(figures.imbalance < 1.2, "{figures}");
}

#[test]
fn a_stream_that_fails_is_tried_on_three_workers_and_stays() {
    let faults = Faults { broken: 10, ..Faults::none() };
    let figures = run(Scale { workers: 10, streams: 100, ..scale() }, faults, 1, 3.0);
    assert!(figures.moves <= 2 * 10, "{figures}");
    // Twelve attempts an hour at most, once it has waited the longest.
    assert!(figures.starts < 90 + 10 * (3 * 12 + 15), "{figures}");
}

/// So that every run of the tests sees a large fleet.
#[test]
fn two_hours_of_a_large_fleet() {
    let large = Scale { workers: 40, streams: 600, ..scale() };
    let figures = run(large, Faults::of_a_day(), 7, 2.0);
    assert!(figures.kills > 0, "{figures}");
}

/// Run by `make fleet-test`.
#[test]
#[ignore = "a day: run by make fleet-test"]
fn a_day_of_a_large_fleet() {
    let figures = run(scale(), Faults::of_a_day(), 35, 24.0);
    assert!(figures.kills > 50 && figures.restarts > 2, "{figures}");
}
