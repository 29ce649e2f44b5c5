//! The real binary, killed in every kind of stage, interrupted, and run twice: the weights are the same, bit for bit.

mod common;

use common::{SMALL, bloctrain, files, run, stderr, summary, weights};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn baseline() -> &'static (serde_json::Value, Vec<u8>) {
    static BASELINE: std::sync::OnceLock<(serde_json::Value, Vec<u8>)> = std::sync::OnceLock::new();
    BASELINE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = summary(&run(folder.path(), &SMALL));
        let weights = weights(folder.path(), &summary);
        (summary, weights)
    })
}

/// Numbers that depend on neither time nor place.
fn figures(summary: &serde_json::Value) -> serde_json::Value {
    let mut figures = summary.clone();
    figures["wall_seconds"] = 0.into();
    for block in figures["blocks"].as_array_mut().expect("blocks") {
        block["train_seconds"] = 0.into();
        block["waiting_fraction"] = 0.into();
        block["peak_memory_bytes"] = 0.into();
    }
    figures
}

fn start(folder: &Path, args: &[&str]) -> Child {
    bloctrain(folder).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
}

#[expect(clippy::disallowed_methods, reason = "the test watches another process")]
fn wait_until(child: &mut Child, what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before {what}");
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a command in a folder and kills it as soon as files whose path contains `part` number `count`.
fn kill_after(folder: &Path, args: &[&str], what: &str, part: &str, count: usize) {
    let mut child = start(folder, args);
    wait_until(&mut child, what, || files(folder, part).len() >= count);
    child.kill().expect("killed"); // SIGKILL
    let status = child.wait().expect("dead");
    assert!(!status.success(), "the fault did not fire: the run had already ended");
}

/// Kills a fresh run as soon as files whose path contains `part` number `count`, then resumes it.
fn killed_after(what: &str, part: &str, count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    kill_after(folder.path(), &SMALL, what, part, count);
    let resumed = summary(&run(folder.path(), &SMALL));
    let (expected, expected_weights) = baseline();
    assert!(weights(folder.path(), &resumed) == *expected_weights, "{what}: other weights after the kill");
    assert_eq!(figures(&resumed), figures(expected), "{what}");
}

#[test]
fn a_second_run_elsewhere_gives_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let second = bloctrain(folder.path()).args(SMALL).env("RAYON_NUM_THREADS", "1").output().expect("runs");
    let second = summary(&second);
    assert!(weights(folder.path(), &second) == baseline().1, "another number of threads gives other weights");
    assert_eq!(figures(&second), figures(&baseline().0));
}

#[test]
fn two_workers_give_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = [SMALL.as_slice(), &["--workers", "2"]].concat();
    let second = summary(&run(folder.path(), &args));
    assert!(weights(folder.path(), &second) == baseline().1);
}

#[test]
fn killed_while_training() {
    killed_after("training of block 1", "block1/weights", 1);
}

#[test]
fn killed_while_validating() {
    // The second checkpoint ends training of block 1; validation follows.
    killed_after("validation of block 1", "block1/weights", 2);
}

#[test]
fn killed_while_exporting() {
    killed_after("export of block 1", "cache/", 1);
}

#[test]
fn killed_while_detecting() {
    // Seven training shards and one for validation, each with its manifest, come before the detector.
    killed_after("detection of block 1", "cache/", 16);
}

#[test]
fn killed_while_training_a_deeper_block() {
    killed_after("training of block 2", "block2/weights", 1);
}

#[test]
fn killed_while_evaluating() {
    killed_after("evaluation", "records/", 1);
}

/// A run whose later blocks compute their input again, with auxiliary networks and statistics that are counted anew.
#[test]
fn fresh_views_and_auxiliary_networks_give_the_same_bits_after_a_kill() {
    let settings = [
        "--set",
        "data.augment=[\"crop\", \"alternating-flip\"]",
        "--set",
        "data.views=0",
        "--set",
        "network.auxiliary.kind=conv",
        "--set",
        "network.auxiliary.exit_gradient=0.5",
        "--set",
        "train.recount=512",
        "--set",
        "exit.combine=stack",
    ];
    let args = [SMALL.as_slice(), &settings].concat();
    let folder = || tempfile::tempdir().expect("a folder");
    let (whole, killed, shared) = (folder(), folder(), folder());
    let expected = summary(&run(whole.path(), &args));
    let expected_weights = weights(whole.path(), &expected);
    let views = files(whole.path(), "cache/").len();
    assert!(views <= 4, "{views} files are cached; of each block before the last only one validation shard should be");
    let text = String::from_utf8_lossy(&expected_weights);
    assert!(text.contains("block1/layer1") && !text.contains("auxiliary"), "the package has what inference needs");

    kill_after(killed.path(), &args, "training of block 2", "block2/weights", 1);
    let resumed = summary(&run(killed.path(), &args));
    assert!(weights(killed.path(), &resumed) == expected_weights, "other weights after the kill");
    assert_eq!(figures(&resumed), figures(&expected));

    let two = summary(&run(shared.path(), &[args.as_slice(), &["--workers", "2"]].concat()));
    assert!(weights(shared.path(), &two) == expected_weights, "other weights with two workers");
}

/// Blocks that are trained with those that follow, which start from that: block by block, and by replicas.
#[test]
fn inherited_blocks_give_the_same_bits_after_a_kill_and_with_two_workers() {
    let settings =
        ["--set", "network.auxiliary.kind=next", "--set", "network.auxiliary.depth=2", "--set", "train.ema=0.9"];
    let replicas = ["--set", "network.auxiliary.kind=next", "--set", "train.replicas=2"];
    for settings in [settings.as_slice(), &replicas] {
        let args = [SMALL.as_slice(), settings].concat();
        let folder = || tempfile::tempdir().expect("a folder");
        let (whole, killed, shared) = (folder(), folder(), folder());
        let expected = summary(&run(whole.path(), &args));
        let expected_weights = weights(whole.path(), &expected);
        assert!(
            !String::from_utf8_lossy(&expected_weights).contains("auxiliary"),
            "the package has what inference needs"
        );

        // Killed before block 2 has a round, and its first values are gone: block 1 has to be trained once more.
        kill_after(killed.path(), &args, "a detector of block 1", "block1/detector", 1);
        if files(killed.path(), "block2/weights").is_empty() {
            files(killed.path(), "block1/weights")
                .iter()
                .for_each(|weights| std::fs::remove_file(weights).expect("removed"));
        }
        let resumed = summary(&run(killed.path(), &args));
        assert!(weights(killed.path(), &resumed) == expected_weights, "other weights after the kill");
        assert_eq!(figures(&resumed), figures(&expected));

        let two = summary(&run(shared.path(), &[args.as_slice(), &["--workers", "2"]].concat()));
        assert!(weights(shared.path(), &two) == expected_weights, "other weights with two workers");
    }
}

/// A run whose blocks train on the inputs that the block before was least sure of.
#[test]
fn hard_inputs_give_the_same_bits_after_a_kill_and_with_two_workers() {
    let small =
        ["train", "--json", "--set", "network.width=4", "--set", "train.epochs=2", "--set", "train.warmup_epochs=0"];
    let settings = ["--set", "data.augment=[\"crop\"]", "--set", "data.views=2", "--set", "hard_inputs.fraction=0.5"];
    let args = [small.as_slice(), &settings].concat();
    let folder = || tempfile::tempdir().expect("a folder");
    let (whole, lost, shared) = (folder(), folder(), folder());
    let expected = summary(&run(whole.path(), &args));
    let expected_weights = weights(whole.path(), &expected);
    let of = |key: &str| {
        expected["blocks"].as_array().expect("blocks").iter().map(|block| block[key].as_u64()).collect::<Vec<_>>()
    };
    let samples = of("train_samples")[0].expect("a number");
    assert_eq!(of("train_samples"), [Some(samples), Some(samples / 2), Some(samples / 2 / 2)]);
    assert_eq!(of("classes"), [Some(10); 3], "every block tells all classes apart");
    assert_eq!(files(whole.path(), "block1/selection").len(), 1);
    assert!(files(whole.path(), "scores-").is_empty(), "nothing needs them any more");

    // Killed while block 1 is scored, and a score is damaged meanwhile: it is made again.
    kill_after(lost.path(), &args, "the scores of block 1", "block1/scores-", 2);
    let scores = files(lost.path(), "block1/scores-0");
    scores.iter().for_each(|scores| std::fs::write(scores, b"{}").expect("written"));
    // And once more, when block 2 trains: its selection is gone.
    kill_after(lost.path(), &args, "training of block 2", "block2/weights", 1);
    files(lost.path(), "block1/selection")
        .iter()
        .for_each(|selection| std::fs::remove_file(selection).expect("removed"));
    let resumed = summary(&run(lost.path(), &args));
    assert!(weights(lost.path(), &resumed) == expected_weights, "other weights after two kills and two losses");
    assert_eq!(figures(&resumed), figures(&expected));

    let two = summary(&run(shared.path(), &[args.as_slice(), &["--workers", "2"]].concat()));
    assert!(weights(shared.path(), &two) == expected_weights, "other weights with two workers");
}

/// Averaged parameters, mixed images, full batches only, and time steps that grow.
#[test]
fn averages_and_mixed_images_give_the_same_bits_after_a_kill() {
    let settings = [
        "--set",
        "data.augment=[\"flip\", \"cutmix\"]",
        "--set",
        "data.views=2",
        "--set",
        "train.ema=0.9",
        "--set",
        "train.recount=512",
        "--set",
        "train.drop_last=true",
        "--set",
        "train.round_steps=40",
        "--set",
        "train.start_steps=2",
    ];
    let args = [SMALL.as_slice(), &settings].concat();
    let (whole, killed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let expected = summary(&run(whole.path(), &args));
    let expected_weights = weights(whole.path(), &expected);
    assert!(expected_weights != baseline().1);
    for (what, part, count) in
        [("training of block 1", "block1/weights", 2), ("training of block 2", "block2/weights", 1)]
    {
        kill_after(killed.path(), &args, what, part, count);
    }
    let resumed = summary(&run(killed.path(), &args));
    assert!(weights(killed.path(), &resumed) == expected_weights, "other weights after two kills");
    assert_eq!(figures(&resumed), figures(&expected));
}

#[test]
fn ctrl_c_leaves_a_resumable_run_and_130() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start(folder.path(), &SMALL);
    wait_until(&mut child, "a checkpoint", || !files(folder.path(), "block1/weights").is_empty());
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    let resumed = summary(&run(folder.path(), &SMALL));
    assert!(weights(folder.path(), &resumed) == baseline().1);
}

#[test]
fn a_completed_run_is_said_to_be_so_and_its_cache_is_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = summary(&run(folder.path(), &SMALL));
    let again = run(folder.path(), &SMALL);
    assert!(stderr(&again).contains("completed before"), "{}", stderr(&again));
    assert_eq!(summary(&again), first);
    // Another exit rule is another run on the same blocks: it finds their spikes in the cache.
    let other = run(folder.path(), &[SMALL.as_slice(), &["--set", "exit.combine=last"]].concat());
    assert!(stderr(&other).contains("are used again"), "{}", stderr(&other));
    assert!(weights(folder.path(), &summary(&other)) == baseline().1);
}
