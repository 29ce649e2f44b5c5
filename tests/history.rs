//! The history of a run: a line for every epoch of every block, current while the run goes on, whatever happens to it.

mod common;

use common::{SMALL, bloctrain, files, run, stderr, summary};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Lines of the history file of the only run in a folder; none where there is no file.
fn lines(folder: &Path) -> Vec<Value> {
    let found = files(folder, "history.jsonl");
    let text = found.first().map(|file| std::fs::read_to_string(file).expect("read")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// What of a line depends on neither time nor place.
fn figures(line: &Value) -> Value {
    let mut line = line.clone();
    let object = line.as_object_mut().expect("an object");
    ["images_per_second", "seconds", "waiting_seconds", "peak_bytes", "round"]
        .iter()
        .for_each(|name| drop(object.remove(*name)));
    line
}

fn undisturbed() -> &'static (tempfile::TempDir, Value) {
    static RUN: std::sync::OnceLock<(tempfile::TempDir, Value)> = std::sync::OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = summary(&run(folder.path(), &SMALL));
        (folder, summary)
    })
}

/// Block and epoch of every line.
fn places(lines: &[Value]) -> Vec<(u64, u64)> {
    let number = |line: &Value, name: &str| line[name].as_u64().expect("a number");
    lines.iter().map(|line| (number(line, "block"), number(line, "epoch"))).collect()
}

#[test]
fn later_blocks_have_their_share_of_the_epochs() {
    for more in [&["train.later_fraction=0.4"][..], &["train.later_fraction=0.4", "train.replicas=2"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let sets = more.iter().flat_map(|set| ["--set", set]);
        let summary = summary(&run(folder.path(), &SMALL.into_iter().chain(sets).collect::<Vec<_>>()));
        let lines = lines(folder.path());
        assert_eq!(places(&lines), [(1, 1), (1, 2), (2, 1), (3, 1)], "{more:?}");
        assert_eq!([0, 1, 2].map(|block| summary["blocks"][block]["epochs"].as_u64()), [Some(2), Some(1), Some(1)]);
        // The last step of a cosine from the top over the block's own epochs, which have no warm-up left.
        let rate = |at: usize| lines[at]["learning_rate"].as_f64().expect("a rate");
        assert!(rate(2) < rate(0), "{} after one epoch of one, {} after one of two", rate(2), rate(0));
    }
}

#[test]
fn every_epoch_has_a_line_that_agrees_with_the_summary() {
    let (folder, summary) = undisturbed();
    let lines = lines(folder.path());
    assert_eq!(places(&lines), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]);
    for block in summary["blocks"].as_array().expect("blocks") {
        let own: Vec<&Value> = lines.iter().filter(|line| line["block"] == block["block"]).collect();
        let sum = |name: &str| own.iter().map(|line| line[name].as_f64().expect("a number")).sum::<f64>();
        assert!(own.iter().all(|line| line["samples"] == block["train_samples"] && line["stage"] == "train"));
        assert!((sum("seconds") - block["train_seconds"].as_f64().expect("seconds")).abs() < 1e-6);
        let peak = own.iter().map(|line| line["peak_bytes"].as_u64().expect("measured")).max();
        assert_eq!(peak, block["peak_memory_bytes"].as_u64());
        let last = own.last().expect("a line");
        let (of_line, of_block) =
            (last["firing_rate"].as_f64().expect("a rate"), block["firing_rate"].as_f64().expect("a rate"));
        assert!((of_line - of_block).abs() < 1e-9, "{of_line} is not {of_block}");
        let rates: Vec<f64> =
            last["firing_rates"].as_array().expect("rates").iter().filter_map(Value::as_f64).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!(!rates.is_empty() && (mean - last["firing_rate"].as_f64().expect("a rate")).abs() < 1e-9, "{last}");
        assert!(
            last["learning_rate"].as_f64().expect("a rate") < own[0]["learning_rate"].as_f64().expect("a rate"),
            "cosine"
        );
        assert!(last.get("partial").is_none() && last.get("validation_accuracy").is_none(), "{last}");
    }
}

#[test]
fn show_says_the_same_from_the_state() {
    let (folder, summary) = undisturbed();
    let id = summary["run"].as_str().expect("an id");
    let shown = run(folder.path(), &["show", id, "--store", "bloctrain-runs", "--history", "--json"]);
    let shown: Vec<Value> = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown, lines(folder.path()));
    let table = run(folder.path(), &["show", id, "--history", "--csv"]);
    let file = std::fs::read(&files(folder.path(), "history.csv")[0]).expect("read");
    assert_eq!(table.stdout, file);
    assert_eq!(String::from_utf8_lossy(&file).lines().count(), 7);
    let people = run(folder.path(), &["show", id, "--history"]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("images/s"));
    let wrong = run(folder.path(), &["show", "r0", "--history"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("there is no run r0"), "{}", stderr(&wrong));
}

#[expect(clippy::disallowed_methods, reason = "the test watches another process")]
fn killed_with_lines(folder: &Path, args: &[&str], count: usize) {
    let mut child = bloctrain(folder).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    let begun = Instant::now();
    while lines(folder).len() < count {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before it was killed");
        assert!(begun.elapsed() < Duration::from_secs(120), "{count} lines did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("dead");
}

#[test]
fn a_run_that_is_killed_again_and_again_has_every_line_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for count in [1, 3, 4] {
        killed_with_lines(folder.path(), &SMALL, count);
        let places: BTreeSet<String> =
            lines(folder.path()).iter().map(|line| format!("{}/{}", line["block"], line["epoch"])).collect();
        assert_eq!(places.len(), lines(folder.path()).len(), "no line twice");
    }
    summary(&run(folder.path(), &SMALL));
    let whole: Vec<Value> = lines(undisturbed().0.path()).iter().map(figures).collect();
    assert_eq!(lines(folder.path()).iter().map(figures).collect::<Vec<_>>(), whole, "as if nothing had happened");
}

#[test]
fn merged_rounds_of_replicas_are_one_line_an_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let more =
        ["--set", "train.replicas=2", "--set", "train.round_steps=20", "--set", "train.patience=2", "--workers", "2"];
    let summary = summary(&run(folder.path(), &[SMALL.as_slice(), &more].concat()));
    let lines = lines(folder.path());
    assert_eq!(lines.len(), 2 * summary["blocks"].as_array().expect("blocks").len());
    for line in &lines {
        let block = &summary["blocks"][line["block"].as_u64().expect("a block") as usize - 1];
        assert_eq!(line["samples"], block["train_samples"], "of all replicas and rounds");
        assert!(line["round"].as_u64() > line["epoch"].as_u64(), "an epoch has several rounds: {line}");
        assert!(line["validation_accuracy"].is_f64(), "patience asks for it: {line}");
    }
}

#[test]
fn collection_keeps_it_and_deletion_removes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let summary = summary(&run(folder.path(), &SMALL));
    let id = summary["run"].as_str().expect("an id");
    let collected = run(folder.path(), &["cache", "gc", "--min-age-hours", "0"]);
    assert!(collected.status.success(), "{}", stderr(&collected));
    assert_eq!(files(folder.path(), "history.").len(), 2);
    let deleted = run(folder.path(), &["delete", id]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(files(folder.path(), "history."), [] as [std::path::PathBuf; 0]);
}
