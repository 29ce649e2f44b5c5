//! Everything that can be wrong with what a user gives: one clear message, the right exit code, never a panic.

mod common;

use common::{SMALL, bloctrain, files, run, stderr, summary, weights};
use std::io::Write;
use std::path::Path;

/// The command fails with this code and one message that holds all of these texts.
fn refused(folder: &Path, args: &[&str], code: i32, texts: &[&str]) {
    let output = run(folder, args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    for text in texts {
        assert!(message.contains(text), "{args:?}: `{text}` is not in: {message}");
    }
    assert_eq!(message.lines().filter(|line| line.starts_with("error")).count(), 1, "one message: {message}");
}

#[test]
fn wrong_specs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let set = |pair: &'static str| ["spec", "check", "--set", pair];
    refused(at, &set("train.epoch=3"), 2, &["unknown key `train.epoch`", "`train.epochs`"]);
    refused(at, &set("train.epochs=many"), 2, &["`train.epochs`", "string"]);
    refused(at, &set("train.epochs=0"), 2, &["`train.epochs` is 0", "at least 1"]);
    refused(at, &set("network.preset=resnet10"), 2, &["resnet10", "resnet9, resnet11"]);
    refused(at, &set("network.preset=vgg16"), 2, &["block 5", "max-pool", "does not fit"]);
    refused(at, &set("neuron.reset=halve"), 2, &["`neuron.reset`", "subtract"]);
    refused(at, &set("train.replicas=2000"), 2, &["train.replicas", "1..=1024"]);
    let unread = |command: &'static str| [command, "--set", "hard_classes.fraction=0.7"];
    for command in ["train", "submit"] {
        let said =
            ["`hard_classes.fraction` is set, but nothing reads it here", "`hard_classes.policy` `bottom-fraction`"];
        refused(at, &unread(command), 2, &said);
    }
    refused(at, &set("train.momentum=0.9"), 2, &["`train.momentum`", "`train.optimizer` `sgd`"]);
    std::fs::write(at.join("whole.toml"), "[run]\nend_to_end = true\n[exit]\ncombine = \"last\"").expect("written");
    refused(at, &["train", "whole.toml"], 2, &["`exit.combine`", "not trained end to end"]);
    refused(at, &["train", "--set", "train.epochs"], 2, &["KEY=VALUE"]);
    let large = ["spec", "check", "--set", "train.batch=4096", "--memory", "400MiB"];
    refused(at, &large, 2, &["training block 1 takes about", "more than the 400.0 MiB", "set train.micro_batch="]);
    refused(at, &["train", "--memory", "2MiB"], 2, &["not even train.micro_batch=1 fits"]);
    refused(at, &["spec", "check", "--memory", "much"], 2, &["--memory"]);
    refused(at, &["train", "nowhere.toml"], 2, &["nowhere.toml"]);
    std::fs::write(at.join("broken.toml"), "[train\nepochs = 1").expect("written");
    refused(at, &["train", "broken.toml"], 2, &["not valid TOML"]);
    std::fs::write(at.join("even.toml"), "[[network.block]]\nlayers = [{ type = \"conv\", channels = 4, kernel = 2 }]")
        .expect("written");
    refused(at, &["train", "even.toml"], 2, &["block 1, layer 1 (conv)", "kernel 2 is even"]);
    refused(at, &["train", "--device", "cuda:x"], 2, &["cuda:x"]);
    if !cfg!(feature = "cuda") {
        refused(at, &["train", "--device", "cuda:0"], 2, &["--features cuda", "--device cpu"]);
    }
}

#[test]
fn wrong_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    refused(at, &["train", "--data", "nowhere"], 1, &["error: cannot read ", "nowhere: there is no such folder\n"]);
    std::fs::write(at.join("file"), b"").expect("written");
    refused(at, &["train", "--data", "file"], 1, &["it is a file"]);
    std::fs::create_dir(at.join("empty")).expect("made");
    refused(at, &["train", "--data", "empty"], 1, &["no data set that is known", "data_batch_1.bin"]);
    let cifar = at.join("cifar");
    std::fs::create_dir(&cifar).expect("made");
    let record = |label: u8| [vec![label], vec![7; 3072]].concat();
    for file in [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ] {
        std::fs::write(cifar.join(file), record(1)).expect("written");
    }
    std::fs::write(cifar.join("data_batch_2.bin"), &record(1)[..100]).expect("written");
    refused(at, &["train", "--data", "cifar"], 1, &["data_batch_2.bin", "100 bytes", "cut"]);
    std::fs::write(cifar.join("data_batch_2.bin"), record(11)).expect("written");
    refused(at, &["train", "--data", "cifar"], 1, &["data_batch_2.bin", "record 0 has label 11", "10 classes"]);
    std::fs::remove_file(cifar.join("data_batch_2.bin")).expect("removed");
    refused(at, &["train", "--data", "cifar"], 1, &["data_batch_2.bin"]);
    let idx = at.join("idx");
    std::fs::create_dir(&idx).expect("made");
    std::fs::write(idx.join("train-images-idx3-ubyte.gz"), b"not published").expect("written");
    refused(at, &["data", "verify", "idx"], 1, &["train-labels-idx1-ubyte"]);
    refused(at, &["data", "get", "cifar11"], 1, &["cifar10, cifar100"]);
}

#[test]
fn wrong_stores_and_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(at.join("file"), b"").expect("written");
    refused(at, &["train", "--store", "file/store"], 1, &["cannot write to the store", "--store"]);
    refused(at, &["train", "--store", "ftp://bucket"], 1, &["ftp://bucket", "is not a store", "s3://BUCKET"]);
    refused(at, &["train", "--store", "s3://user:word@bucket"], 1, &["USER:PASSWORD", "is not a store"]);
    std::fs::create_dir(at.join("new")).expect("made");
    std::fs::write(at.join("new/format.json"), b"{\"version\":99}").expect("written");
    refused(at, &["train", "--store", "new"], 1, &["format version 99", "newer bloctrain"]);
    refused(at, &["runs", "--store", "new"], 1, &["format version 99"]);
    refused(at, &["eval", "nowhere"], 1, &["nowhere", "a model is the folder"]);
    refused(at, &["curve", "nowhere"], 1, &["nowhere"]);
}

#[test]
fn a_reader_that_goes_away_is_no_defect() {
    let folder = tempfile::tempdir().expect("a folder");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = bloctrain(folder.path()).args(["spec", "presets"]).stdout(writer).output().expect("the binary runs");
    assert!(!output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
}

/// A tiny file system that fills up. Needs the right to mount one.
#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        // Not `eprintln!`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "skipped: mounting a small file system is not permitted here");
        return;
    }
    let output = run(folder.path(), &[SMALL.as_slice(), &["--store", "disk"]].concat());
    let message = stderr(&output);
    assert!(std::process::Command::new("umount").arg("-l").arg(&disk).status().is_ok_and(|status| status.success()));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("space") && !message.contains("panicked"), "{message}");
}

/// Kills a run once files whose path contains `part` number `count`, damages the newest of kind `damage`, and resumes.
fn damaged(epochs: &str, part: &str, count: usize, (damage, victims): (&str, usize), note: &str) {
    let args = [SMALL.as_slice(), &["--set", epochs]].concat();
    let undisturbed = tempfile::tempdir().expect("a folder");
    let expected = weights(undisturbed.path(), &summary(&run(undisturbed.path(), &args)));
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = bloctrain(folder.path())
        .args(&args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    while files(folder.path(), part).len() < count {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("dead");
    let modified =
        |path: &std::path::PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).expect("a file");
    let mut candidates = files(folder.path(), damage);
    candidates.sort_by_key(modified);
    for victim in candidates.iter().rev().take(victims) {
        let mut bytes = std::fs::read(victim).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(victim, bytes).expect("damaged");
    }
    let resumed = run(folder.path(), &args);
    assert!(stderr(&resumed).contains(note), "`{note}` is not in: {}", stderr(&resumed));
    assert!(weights(folder.path(), &summary(&resumed)) == expected, "other weights after the damage");
}

#[test]
fn a_damaged_checkpoint_falls_back_and_says_so() {
    // Of three checkpoints the last may not have been committed when the run was killed: the last two are damaged.
    damaged(
        "train.epochs=6",
        "block2/optimizer",
        3,
        ("block2/optimizer", 2),
        "training goes on from the checkpoint before",
    );
}

#[test]
fn a_damaged_cached_shard_is_computed_again_and_said() {
    damaged("train.epochs=2", "block2/weights", 1, (".arrow", 1), "is computed again");
}
