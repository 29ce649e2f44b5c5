//! The real binary with data-parallel replicas: the weights follow from their number, never from the number of workers,
//! and not from what was killed.

mod common;

use common::{SMALL, bloctrain, files, run, stderr, summary, weights};
use std::process::Stdio;

const FOUR: [&str; 6] = ["--set", "train.replicas=4", "--set", "train.round_steps=7", "--set", "train.patience=2"];

fn four(more: &[&'static str]) -> Vec<&'static str> {
    [SMALL.as_slice(), &FOUR, more].concat()
}

fn baseline() -> &'static (serde_json::Value, Vec<u8>) {
    static BASELINE: std::sync::OnceLock<(serde_json::Value, Vec<u8>)> = std::sync::OnceLock::new();
    BASELINE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = summary(&run(folder.path(), &four(&[])));
        let weights = weights(folder.path(), &summary);
        (summary, weights)
    })
}

#[test]
fn any_number_of_workers_gives_the_same_bits() {
    for workers in ["2", "4"] {
        let folder = tempfile::tempdir().expect("a folder");
        let other = summary(&run(folder.path(), &four(&["--workers", workers])));
        assert!(weights(folder.path(), &other) == baseline().1, "{workers} workers give other weights");
    }
    let block = &baseline().0["blocks"][0];
    assert_eq!(block["epochs"], 2);
}

#[test]
fn a_killed_run_goes_on_with_other_workers_and_gives_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    // Two rounds of four parts and their merges, and some parts of the third.
    killed(folder.path(), "block1/optimizer", 12);
    killed(folder.path(), "block2/optimizer", 7);
    let resumed = summary(&run(folder.path(), &four(&["--workers", "3"])));
    assert!(weights(folder.path(), &resumed) == baseline().1, "other weights after two kills");
    assert_eq!(resumed["accuracy"], baseline().0["accuracy"]);
}

/// Kills a run with two workers as soon as files whose path contains `part` number `count`.
#[expect(clippy::disallowed_methods, reason = "the test watches another process")]
fn killed(folder: &std::path::Path, part: &str, count: usize) {
    let mut command = bloctrain(folder);
    let mut child = command
        .args(four(&["--workers", "2"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    while files(folder, part).len() < count {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before {count} of {part} were there");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("killed"); // SIGKILL
    assert!(!child.wait().expect("dead").success(), "the fault did not fire: the run had already ended");
}

#[test]
fn end_to_end_training_takes_replicas_too() {
    let more = ["--end-to-end", "--set", "train.epochs=1", "--set", "train.patience=0"];
    let mut weights_of = ["1", "2"].map(|workers| {
        let folder = tempfile::tempdir().expect("a folder");
        let done = summary(&run(folder.path(), &[four(&more).as_slice(), &["--workers", workers]].concat()));
        assert!(done["accuracy"]["test"].as_f64().expect("a number") > 0.3, "four replicas learn something: {done}");
        weights(folder.path(), &done)
    });
    weights_of.sort();
    assert!(weights_of[0] == weights_of[1]);
}

#[test]
fn more_replicas_than_batches_are_refused_with_the_number_that_is_possible() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in [["train", "--json"].as_slice(), &["spec", "check"]] {
        let refused = run(folder.path(), &[command, &["--set", "train.replicas=1000"]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("use at most 96 replicas"), "{}", stderr(&refused));
    }
    let checked = run(folder.path(), &["spec", "check", "--set", "train.replicas=4"]);
    assert!(stderr(&checked).contains("4 replicas"), "{}", stderr(&checked));
}
