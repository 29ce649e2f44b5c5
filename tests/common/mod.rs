//! The real binary, as tests run it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Arguments of a run that takes a second or two: three small blocks, all of whose stages happen.
pub(crate) const SMALL: [&str; 12] = [
    "train",
    "--json",
    "--set",
    "network.width=4",
    "--set",
    "train.epochs=2",
    "--set",
    "train.warmup_epochs=0",
    "--set",
    "hard_classes.policy=bottom-k",
    "--set",
    "hard_classes.k=6",
];

pub(crate) fn bloctrain(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bloctrain"));
    command.current_dir(folder).env("BLOCTRAIN_LOG", "error").stdin(Stdio::null());
    command
}

pub(crate) fn run(folder: &Path, args: &[&str]) -> Output {
    bloctrain(folder).args(args).output().expect("the binary runs")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn summary(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("--json prints one JSON object and nothing else")
}

/// The model's parameters, bit for bit.
pub(crate) fn weights(folder: &Path, summary: &serde_json::Value) -> Vec<u8> {
    let model = folder.join(summary["model"].as_str().expect("a model"));
    std::fs::read(model.join("model.safetensors")).expect("the model's parameters")
}

/// Every file below a folder whose path contains a text.
pub(crate) fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().contains(part) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
