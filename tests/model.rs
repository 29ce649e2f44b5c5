//! What a finished run leaves: figures that a new process reproduces, answers to images, a curve, memory that was
//! measured.

mod common;

use common::{SMALL, files, run, stderr, summary};
use std::path::{Path, PathBuf};

fn trained() -> &'static (tempfile::TempDir, serde_json::Value) {
    static TRAINED: std::sync::OnceLock<(tempfile::TempDir, serde_json::Value)> = std::sync::OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = summary(&run(folder.path(), &SMALL));
        (folder, summary)
    })
}

fn model() -> PathBuf {
    PathBuf::from(trained().1["model"].as_str().expect("a model"))
}

fn on_model(command: &str, rest: &[&str]) -> std::process::Output {
    let model = model();
    run(trained().0.path(), &[&[command, model.to_str().expect("utf-8")], rest].concat())
}

#[test]
fn eval_gives_the_summarys_accuracy_to_the_last_digit() {
    let output = on_model("eval", &["--json"]);
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(outcome["accuracy"], trained().1["accuracy"]["test"]);
    let exits: Vec<_> =
        trained().1["blocks"].as_array().expect("blocks").iter().map(|block| block["exit_fraction"].clone()).collect();
    assert_eq!(outcome["exit_fraction"].as_array().expect("fractions"), &exits);
}

#[test]
fn images_are_answered_by_name_and_wrong_ones_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let image = folder.join("ankle-boot.png");
    let output = on_model("predict", &["--json", image.to_str().expect("utf-8")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        answers[0]["class"].is_string()
            && answers[0]["exit_block"].as_u64().is_some_and(|block| (1..=3).contains(&block))
    );
    let wide = folder.join("wide.png");
    let output = on_model("predict", &[wide.to_str().expect("utf-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the image is 30 x 28 pixels, the network takes 28 x 28"), "{}", stderr(&output));
}

#[test]
fn the_curve_is_there_as_table_and_picture() {
    let output = on_model("curve", &[]);
    assert!(String::from_utf8_lossy(&output.stdout).contains('*'));
    assert_eq!(files(trained().0.path(), "curve.svg").len(), 1);
}

#[test]
fn accuracy_without_early_exits_is_said() {
    let curve: serde_json::Value = serde_json::from_slice(&on_model("curve", &["--json"]).stdout).expect("JSON");
    let whole = &curve["without_exits"]["test"];
    assert_eq!(whole["exit_fraction"], serde_json::json!([0.0, 0.0, 1.0]));
    assert!(whole["relative_compute"].as_f64().is_some_and(|compute| compute > 1.0), "all exits are computed: {whole}");
    let accuracy = format!("{:.2} %", 100.0 * whole["accuracy"].as_f64().expect("a number"));
    let text = |command| String::from_utf8(on_model(command, &[]).stdout).expect("text");
    let line = |text: &str, start: &str| text.lines().find(|line| line.starts_with(start)).expect(start).to_string();
    assert!(line(&text("curve"), "- ").contains(&accuracy));
    assert_eq!(line(&text("eval"), "without"), format!("without early exits {accuracy}"));
}

#[test]
fn runs_and_show_read_what_is_there() {
    let id = trained().1["run"].as_str().expect("an id");
    let listed = run(trained().0.path(), &["runs"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "{}", stderr(&listed));
    let shown = run(trained().0.path(), &["show", id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("test accuracy"), "{}", stderr(&shown));
    assert_eq!(run(trained().0.path(), &["show", "r000"]).status.code(), Some(1));
}

#[test]
fn every_block_takes_less_memory_than_the_end_to_end_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let end_to_end =
        summary(&run(folder.path(), &[SMALL.as_slice(), &["--end-to-end", "--set", "train.epochs=1"]].concat()));
    let whole = end_to_end["blocks"][0]["peak_memory_bytes"].as_u64().expect("measured");
    for block in trained().1["blocks"].as_array().expect("blocks") {
        let own = block["peak_memory_bytes"].as_u64().expect("measured");
        assert!(0 < own && own < whole, "block {}: {own} bytes, end to end {whole}", block["block"]);
    }
}

#[test]
fn the_cache_is_listed_and_collected() {
    let folder = tempfile::tempdir().expect("a folder");
    summary(&run(folder.path(), &SMALL));
    let before = files(folder.path(), "cache/").len();
    let listed = run(folder.path(), &["cache", "ls", "--json"]);
    let shards: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(shards.as_array().map(Vec::len), Some(before / 2));
    assert!(run(folder.path(), &["cache", "gc"]).status.success());
    assert_eq!(files(folder.path(), "cache/").len(), before, "a run names them all");
    assert!(run(folder.path(), &["cache", "gc", "--all"]).status.success());
    assert_eq!(files(folder.path(), "cache/").len(), 0);
}
