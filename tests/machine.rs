//! One machine: a process does what it was asked, and what is around it, as stores, streams and other processes, is
//! said.

mod common;

use common::{SMALL, files, stderr, summary, weights};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The command with the log that people get.
fn bloctrain(folder: &Path) -> Command {
    let mut command = common::bloctrain(folder);
    command.env_remove("BLOCTRAIN_LOG");
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    bloctrain(folder).args(args).output().expect("the binary runs")
}

/// A run of another seed, in the same store as [`SMALL`].
fn other() -> Vec<&'static str> {
    [SMALL.as_slice(), &["--set", "run.seed=2"]].concat()
}

fn start(folder: &Path, args: &[&str]) -> Child {
    bloctrain(folder).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

#[expect(clippy::disallowed_methods, reason = "the test watches another process")]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a run and kills it (SIGKILL) after its first checkpoint; gives its id.
fn unfinished(folder: &Path, args: &[&str]) -> String {
    let mut child = start(folder, args);
    wait_for("a checkpoint", || !files(folder, "block1/weights").is_empty());
    child.kill().expect("killed");
    child.wait().expect("dead");
    let mut first = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut first).expect("a line");
    first.trim_start_matches("run ").split(':').next().expect("an id").to_owned()
}

/// The command fails with this code, and one message is all that standard error has beside progress.
fn one_message(output: &Output, code: i32, texts: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    // The run by its name, and how far it is, where a machine is slow.
    let is_progress = |line: &str| line.starts_with("run r") || line.starts_with("block");
    let lines: Vec<&str> = said.lines().filter(|line| !is_progress(line)).collect();
    assert_eq!(lines.len(), 1, "one message: {said}");
    assert!(lines[0].starts_with("error: "), "{said}");
    texts.iter().for_each(|text| assert!(lines[0].contains(text), "`{text}` is not in: {said}"));
}

fn shown(folder: &Path, id: &str) -> serde_json::Value {
    let output = run(folder, &["show", id, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_process_trains_the_run_that_it_was_asked_for_and_names_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let left = unfinished(at, &SMALL);
    let before = files(at, &left).len();
    let done = run(at, &other());
    let said = stderr(&done);
    assert!(said.contains(&format!("{left} is unfinished and left alone")), "{said}");
    assert_eq!(files(at, &left).len(), before, "nothing of the other run was worked on");
    let own = summary(&done);
    let alone = tempfile::tempdir().expect("a folder");
    let expected = weights(alone.path(), &summary(&run(alone.path(), &other())));
    assert!(weights(at, &own) == expected, "and its own is as if it were alone");
    assert_eq!(shown(at, &left)["state"]["state"], "running");
    assert_eq!(summary(&run(at, &SMALL))["run"], left, "the command that began it goes on with it");
}

#[test]
fn runs_of_the_same_blocks_do_not_wait_for_one_that_nobody_works_on() {
    let folder = tempfile::tempdir().expect("a folder");
    unfinished(folder.path(), &SMALL);
    // It trains the same blocks, and in a fleet would wait for the one that is ahead.
    let other = run(folder.path(), &[SMALL.as_slice(), &["--set", "exit.combine=last"]].concat());
    assert!(other.status.success(), "{}", stderr(&other));
}

#[test]
fn orders_need_no_coordinator() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let id = unfinished(at, &SMALL);
    let state = |at: &Path| shown(at, &id)["state"]["state"].as_str().expect("a state").to_owned();
    let order = |order: &str| {
        let output = run(at, &[order, &id]);
        assert!(output.status.success(), "{order}: {}", stderr(&output));
        stderr(&output)
    };
    order("pause");
    assert_eq!(state(at), "paused");
    assert!(order("resume").contains("goes on with the command that began it"));
    assert_eq!(state(at), "running");
    one_message(&run(at, &["delete", &id]), 1, &["has not ended", "cancel it"]);
    order("cancel");
    assert_eq!(state(at), "cancelled");
    order("delete");
    one_message(&run(at, &["show", &id]), 1, &["there is no run"]);
    one_message(&run(at, &["cancel", &id]), 1, &[&id]);
    one_message(&run(at, &["cancel", &id, "--store", "typo"]), 1, &["there is no store at typo"]);
    assert!(!at.join("typo").exists(), "nothing is created by looking");
}

#[test]
fn a_second_process_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut first = start(at, &[SMALL.as_slice(), &["--set", "train.epochs=200"]].concat());
    wait_for("a checkpoint", || !files(at, "block1/weights").is_empty());
    let process = first.id().to_string();
    one_message(&run(at, &other()), 1, &["is at work", &process, "--take-over"]);
    one_message(&run(at, &["cancel", "r0"]), 1, &["is at work", &process]);
    assert!(run(at, &["runs"]).status.success(), "looking disturbs nobody");
    assert!(first.try_wait().expect("a child").is_none(), "the first lives on");
    let second = run(at, &[other().as_slice(), &["--take-over"]].concat());
    assert!(second.status.success(), "{}", stderr(&second));
    let first = first.wait_with_output().expect("ended");
    one_message(&first, 1, &["another bloctrain process has taken over this store"]);
}

#[test]
fn a_stream_that_closes_ends_no_run() {
    let folder = tempfile::tempdir().expect("a folder");
    for (which, name) in ["out", "err"].into_iter().zip(["a", "b"]) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = bloctrain(folder.path());
        command.args(SMALL).args(["--store", name]).env("BLOCTRAIN_LOG", "info");
        let output = if which == "out" { command.stdout(writer).output() } else { command.stderr(writer).output() };
        let output = output.expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{which}: {}", stderr(&output));
        assert_eq!(files(&folder.path().join(name), "model.safetensors").len(), 1, "{which}");
    }
}

#[test]
fn what_a_completed_run_promises_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let first = summary(&run(at, &SMALL));
    let expected = weights(at, &first);
    let package = at.join(first["model"].as_str().expect("a model"));
    let again = |what: &str| {
        let output = run(at, &SMALL);
        assert!(stderr(&output).contains("the model package is made again"), "{what}: {}", stderr(&output));
        assert_eq!(summary(&output), first, "{what}");
        assert!(weights(at, &first) == expected, "{what}");
        assert!(run(at, &["curve", first["model"].as_str().expect("a model")]).status.success(), "{what}");
    };
    for round in 0..5 {
        std::fs::remove_dir_all(&package).expect("removed");
        again(&format!("deleted {round} times before"));
    }
    std::fs::remove_file(package.join("curve.json")).expect("removed");
    again("a file is missing");
    std::fs::write(package.join("model.safetensors"), b"damaged").expect("written");
    again("the parameters are damaged");
    // What garbage collection took is computed anew.
    assert!(
        run(at, &["cache", "gc", "--all"]).status.success()
            && run(at, &["cache", "gc", "--min-age-hours", "0"]).status.success()
    );
    std::fs::remove_dir_all(&package).expect("removed");
    again("after garbage collection");
    let kept = run(at, &SMALL);
    assert!(stderr(&kept).contains("completed before") && !stderr(&kept).contains("made again"), "{}", stderr(&kept));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures another process")]
fn looking_writes_nothing_and_takes_no_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let done = summary(&run(at, &SMALL));
    let id = done["run"].as_str().expect("an id").to_owned();
    let content = || {
        let meta = |path: std::path::PathBuf| {
            let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).expect("a file");
            (path, modified)
        };
        files(&at.join("bloctrain-runs"), "").into_iter().map(meta).collect::<Vec<_>>()
    };
    let before = content();
    let commands: [&[&str]; 6] = [
        &["runs"],
        &["runs", "--json"],
        &["show", &id],
        &["cache", "ls"],
        &["cache", "gc", "--dry-run", "--min-age-hours", "0"],
        &["cache", "gc", "--dry-run", "--all"],
    ];
    let look = |what: &str| {
        for command in commands {
            let begun = Instant::now();
            let output = run(at, command);
            assert!(output.status.success(), "{what}, {command:?}: {}", stderr(&output));
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}, {command:?}: {:?}", begun.elapsed());
            assert!(stderr(&output).is_empty(), "{what}, {command:?}: {}", stderr(&output));
        }
    };
    look("a folder");
    assert_eq!(content(), before, "looking writes nothing");
    if read_only(&at.join("bloctrain-runs")) {
        look("mounted for reading only");
        one_message(&run(at, &other()), 1, &["cannot write to the store", "--store"]);
        unmount(&at.join("bloctrain-runs"));
    }
    for command in
        [&["runs", "--store", "typo"][..], &["show", &id, "--store", "typo"], &["cache", "ls", "--store", "typo/"]]
    {
        one_message(&run(at, command), 1, &["there is no store at typo"]);
    }
    assert!(!at.join("typo").exists(), "nothing is created by looking");
}

/// Makes a folder read-only for everybody, root among them; false where that is not permitted.
fn read_only(folder: &Path) -> bool {
    let bind = Command::new("mount").arg("--bind").arg(folder).arg(folder).output();
    if !bind.is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: mounting is not permitted here");
        return false;
    }
    let again = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(folder).output();
    again.is_ok_and(|output| output.status.success())
}

fn unmount(folder: &Path) {
    assert!(Command::new("umount").arg("-l").arg(folder).status().is_ok_and(|status| status.success()));
}

#[test]
fn addresses_and_variables_are_understood_or_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (address, reason) in
        [("s3:/bucket/x", "two slashes"), ("s3://b/a#b", "%23"), ("file:x", "two slashes"), ("", "empty")]
    {
        one_message(&run(at, &[SMALL.as_slice(), &["--store", address]].concat()), 1, &["is not a store", reason]);
    }
    assert_eq!(std::fs::read_dir(at).expect("a folder").count(), 0, "nothing is made");
    let variables = [
        ("AWS_ENDPOINT", "127.0.0.1:9000"),
        ("AWS_ENDPOINT", ""),
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ALLOW_HTTP", "maybe"),
        ("AWS_PROFILE", "nobody"),
    ];
    for (name, value) in variables {
        let mut command = bloctrain(at);
        let output = command.args(["runs", "--store", "s3://bucket/x"]).env("HOME", at).env(name, value).output();
        one_message(&output.expect("runs"), 1, &[name, "s3://bucket/x"]);
    }
    // A slash at the end is no part of the address, and what the summary names can be read.
    let done = summary(&run(at, &[SMALL.as_slice(), &["--store", "runs/"]].concat()));
    let model = done["model"].as_str().expect("a model");
    assert!(!model.contains("//") && run(at, &["curve", model]).status.success(), "{model}");
}

#[test]
fn weights_that_are_no_numbers_are_refused_where_they_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let wild = ["--set", "train.learning_rate=1e39", "--set", "train.batch=7000", "--set", "train.micro_batch=500"];
    let output = run(folder.path(), &[SMALL.as_slice(), &wild].concat());
    one_message(&output, 1, &["training of block 1 diverged", "not a number", "train.learning_rate"]);
    assert!(files(folder.path(), "block1/weights").is_empty(), "nothing of it was committed");
}

#[test]
fn a_network_that_never_fires_and_a_budget_that_cannot_be_kept_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let dead = ["--set", "neuron.threshold=1000000", "--set", "exit.compute_budget=0.0001"];
    let args = [SMALL.as_slice(), &dead].concat();
    let output = run(folder.path(), &args);
    let notes = summary(&output)["notes"].to_string();
    for text in ["block 1 never fires", "no better than guessing", "exit.compute_budget = 0.0001 cannot be kept"] {
        assert!(notes.contains(text), "`{text}` is not in: {notes}");
    }
    let table: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--json").collect();
    let table = String::from_utf8(run(folder.path(), &table).stdout).expect("text");
    assert!(table.contains("note: block 1 never fires"), "{table}");
}

#[test]
fn a_damaged_state_is_said_fast_and_clearly() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    assert!(run(at, &SMALL).status.success());
    let damage = |name: &str, how: &dyn Fn(&Path), texts: &[&str]| {
        let store = at.join(name);
        copy(&at.join("bloctrain-runs"), &store);
        how(&store.join("state"));
        one_message(&run(at, &[SMALL.as_slice(), &["--store", name]].concat()), 1, texts);
        one_message(&run(at, &["runs", "--store", name]), 1, texts);
    };
    let last = |folder: &Path| {
        std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).max().expect("one")
    };
    let cut = |state: &Path| {
        let manifest = std::fs::OpenOptions::new().write(true).open(last(&state.join("manifest"))).expect("opens");
        manifest.set_len(50).expect("cut");
    };
    damage("cut", &cut, &["state in the store is damaged", "move its folder `state` away"]);
    let gone = |state: &Path| std::fs::remove_dir_all(state.join("manifest")).expect("removed");
    damage("gone", &gone, &["is incomplete", "`manifest`"]);
    let lost = |state: &Path| std::fs::remove_file(last(&state.join("compacted"))).expect("removed");
    damage("lost", &lost, &["is incomplete", "compacted"]);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().is_ok_and(|status| status.success()));
}

/// Tiny file systems that fill up at every place of a run. Needs the right to mount one.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures another process")]
fn a_full_disk_is_said_within_seconds_wherever_it_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for kib in [12, 40, 80, 150, 300, 600] {
        let disk = at.join(format!("disk{kib}"));
        std::fs::create_dir(&disk).expect("made");
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            let _ = writeln!(std::io::stderr(), "skipped: mounting a small file system is not permitted here");
            return;
        }
        let begun = Instant::now();
        let output = run(at, &[SMALL.as_slice(), &["--store", &format!("disk{kib}")]].concat());
        let took = begun.elapsed();
        unmount(&disk);
        one_message(&output, 1, &["no space is left"]);
        assert!(took < Duration::from_secs(25), "{kib} KiB: {took:?}");
    }
}

#[test]
fn progress_without_a_terminal_is_lines_and_a_finished_run_says_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start(folder.path(), &SMALL);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("ended").success());
    assert!(said.starts_with("run r") && said.lines().count() <= 12, "{said}");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
}
