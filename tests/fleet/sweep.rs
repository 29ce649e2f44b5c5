//! A sweep: several runs at once on one fleet.

use crate::common::{run as run_alone, stderr, summary, weights};
use crate::process::{Fleet, spec};

const SWEEP: &str = "[sweep]\nname = \"grid\"\n\"exit.combine\" = [\"last\", \"mixture\", \"last\"]\n";

#[test]
fn a_sweep_is_a_run_for_every_combination_and_each_gives_the_weights_that_it_would_give_alone() {
    let mut fleet = Fleet::new();
    std::fs::write(fleet.path().join("sweep.toml"), SWEEP).expect("written");
    let (_coordinator, address) = fleet.coordinator("coordinator", &[]);
    let _workers = [fleet.worker("one", &address), fleet.worker("two", &address)];
    let submit = ["submit", "sweep.toml", "--coordinator", &address, "--json"];
    let output = fleet.run(&[&submit, spec()].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let submitted: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let runs = submitted["runs"].as_array().expect("runs");
    let names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["grid/combine=last", "grid/combine=mixture"], "the value given twice is one run");
    // Submitted again, they are the same runs; this time they are followed.
    let output = fleet.run(&[&submit[..4], &["--watch"], spec()].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).expect("utf-8");
    for run in runs {
        let id = run["run"].as_str().expect("an id");
        assert!(
            table.lines().any(|line| line.contains(id) && line.contains("completed") && line.contains('%')),
            "{table}"
        );
        // How exits combine changes no weight: both are those of the baseline.
        fleet.finish(id, "two runs at once");
    }
    let listed = fleet.run(&["runs", "--sweep", "grid", "--store", "store", "--json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed.len(), 2);
    let unknown = fleet.run(&["runs", "--sweep", "gri", "--store", "store"]);
    assert!(!unknown.status.success() && stderr(&unknown).contains("of the sweep gri"), "{}", stderr(&unknown));
}

/// A sweep of what decides hard classes: block 1 is trained once, and each run has the weights that it has alone.
#[test]
fn a_sweep_trains_once_what_its_runs_agree_in() {
    const THRESHOLDS: &str = "[sweep]\nname = \"hard\"\n\"hard_classes.k\" = [6, 4]\n";
    // All but the number of hard classes, which is swept.
    let base = &spec()[..8];
    assert_eq!(base.last(), Some(&"hard_classes.policy=bottom-k"));
    let mut fleet = Fleet::new();
    std::fs::write(fleet.path().join("sweep.toml"), THRESHOLDS).expect("written");
    let (_coordinator, address) = fleet.coordinator("coordinator", &[]);
    let _workers = [fleet.worker("one", &address), fleet.worker("two", &address)];
    let output =
        fleet.run(&[&["submit", "sweep.toml", "--coordinator", &address, "--json", "--watch"][..], base].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = fleet.run(&["runs", "--sweep", "hard", "--store", "store", "--json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed.len(), 2);
    let mut rounds = 0;
    for run in &listed {
        let (id, name) = (run["run"].as_str().expect("an id"), run["name"].as_str().expect("a name"));
        assert_eq!(run["state"]["state"], "completed", "{name}");
        let log = fleet.run(&["logs", id, "--coordinator", &address]);
        let log = String::from_utf8(log.stdout).expect("utf-8");
        rounds += log.lines().filter(|line| line.contains("block1/train/") && line.contains("committed")).count();
        let k = name.rsplit('=').next().expect("a value");
        let alone = tempfile::tempdir().expect("a folder");
        let setting = format!("hard_classes.k={k}");
        let summary = summary(&run_alone(alone.path(), &[&["train", "--json", "--set", &setting][..], base].concat()));
        assert!(fleet.weights(id) == weights(alone.path(), &summary), "{name}: other weights than alone");
    }
    assert_eq!(rounds, 2, "two epochs of block 1, once");
}

#[test]
fn a_sweep_that_cannot_be_submitted_is_refused_before_any_run_is() {
    let fleet = Fleet::new();
    std::fs::write(fleet.path().join("sweep.toml"), SWEEP).expect("written");
    for (args, said) in [
        (vec!["train", "sweep.toml"], "bloctrain submit sweep.toml"),
        (vec!["submit", "sweep.toml", "--store", "store", "--max-runs", "2"], "--max-runs 3"),
        (vec!["submit", "sweep.toml", "--store", "store", "--set", "exit.combine=last"], "it is swept"),
        (
            vec!["submit", "sweep.toml", "--store", "store", "--set", "train.epochs=0"],
            "combine=last of the sweep cannot work",
        ),
    ] {
        let output = fleet.run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_specification_may_come_through_a_pipe() {
    let mut fleet = Fleet::new();
    let (_coordinator, address) = fleet.coordinator("coordinator", &[]);
    let submit = ["submit", "/dev/stdin", "--coordinator", &address];
    let output = fleet.run_on("[run]\nname = \"piped\"\n", &submit);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = String::from_utf8(output.stdout).expect("utf-8");
    assert_eq!(fleet.show(run.trim())["name"], "piped");
}
