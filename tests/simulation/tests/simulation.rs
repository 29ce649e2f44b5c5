//! Some hundred seeds, the same seed twice, and planted bugs. Many more: `cargo run --release -p bloctrain-simulation
//! -- --seeds 10000`.

use bloctrain_simulation::{Bug, Counts, Outcome, command, simulate, simulate_all};
use std::collections::BTreeMap;

/// Seeds of every test run.
const SEEDS: u64 = 250;

/// Threads; each simulates one seed at a time.
const THREADS: usize = 2;

fn explain(outcomes: &BTreeMap<u64, Outcome>, bug: Option<Bug>) -> Vec<String> {
    let failed = outcomes.values().filter_map(|outcome| Some((outcome.seed, outcome.violation.as_ref()?)));
    failed.map(|(seed, violation)| format!("{violation}\n    {}", command(seed, bug))).collect()
}

#[test]
fn seeds_keep_every_invariant_and_complete() {
    let outcomes = simulate_all(0..SEEDS, None, THREADS, |_| {});
    let failed = explain(&outcomes, None);
    assert!(failed.is_empty(), "{} seeds fail:\n{}", failed.len(), failed.join("\n"));
    // The faults have fired: a simulation in which nothing happens shows nothing.
    let sum = |count: fn(&Counts) -> u64| outcomes.values().map(|outcome| count(&outcome.counts)).sum::<u64>();
    assert!(sum(|counts| counts.openings) > 2 * SEEDS, "coordinators took over");
    assert!(sum(|counts| counts.adopted) > SEEDS / 10, "work was adopted");
    assert!(sum(|counts| counts.rejected) > SEEDS, "events were refused");
    assert!(sum(|counts| counts.lost) > 0, "objects were lost");
    assert!(sum(|counts| counts.shared) > SEEDS / 10, "blocks were shared");
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    for seed in 0..10 {
        assert_eq!(simulate(seed, None, false), simulate(seed, None, false), "{}", command(seed, None));
    }
    assert_ne!(simulate(0, None, false).trace, simulate(1, None, false).trace);
}

/// Simulates seeds until the planted bug is found; which seed, and what it broke.
fn hunt(bug: Bug) -> (u64, String) {
    const AT_ONCE: u64 = 20;
    for first in (0..1_000).step_by(AT_ONCE as usize) {
        let outcomes = simulate_all(first..first + AT_ONCE, Some(bug), THREADS, |_| {});
        if let Some((seed, outcome)) = outcomes.into_iter().find(|(_, outcome)| outcome.violation.is_some()) {
            return (seed, outcome.violation.unwrap_or_default());
        }
    }
    panic!("{bug:?} is not found in 1,000 seeds");
}

#[test]
fn planted_bugs_are_found_within_a_thousand_seeds() {
    let invariants = [
        (Bug::LostFence, ["R-3", "R-7"]),
        (Bug::LostLease, ["R-3", "R-3"]),
        (Bug::DoubleCommit, ["R-1", "R-3"]),
        (Bug::SkippedSample, ["R-2", "R-2"]),
        (Bug::EarlyAnswer, ["R-7", "R-4"]),
        (Bug::BelievedLoss, ["run", "R-4"]),
        (Bug::StaleInputs, ["R-3", "R-4"]),
        (Bug::SharedSpec, ["R-3", "run"]),
        (Bug::UncountedLosses, ["liveness", "liveness"]),
        (Bug::Unwatched, ["liveness", "liveness"]),
        (Bug::WallClock, ["leases", "R-3"]),
        (Bug::KeptTime, ["leases", "leases"]),
        (Bug::TrustedAddress, ["a token", "a token"]),
    ];
    for (bug, broken) in invariants {
        let (seed, violation) = hunt(bug);
        println!("{bug:?}: {} ({violation})", command(seed, Some(bug)));
        assert!(broken.iter().any(|name| violation.starts_with(name)), "{bug:?} shows as {violation}");
        assert_eq!(simulate(seed, None, false).violation, None, "seed {seed} without the bug");
    }
}
