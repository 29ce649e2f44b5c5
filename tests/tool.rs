//! Commands around the work: a dry run, a specification to start from, a look at the machine, completions, manual
//! pages, pictures from folders and pipes, TensorBoard's files.

mod common;

use common::{SMALL, bloctrain, files, run, stderr, summary};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

fn trained() -> &'static (tempfile::TempDir, Value) {
    static TRAINED: std::sync::OnceLock<(tempfile::TempDir, Value)> = std::sync::OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let args = [SMALL.as_slice(), &["--tensorboard", "boards"]].concat();
        let summary = summary(&run(folder.path(), &args));
        (folder, summary)
    })
}

#[test]
fn a_dry_run_goes_through_every_stage_and_keeps_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &["train", "--dry-run", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!((&found["dry_run"], &found["blocks"]), (&true.into(), &3.into()));
    assert!(found["peak_memory_bytes"].as_u64() > Some(1 << 16), "{found}");
    for left in ["runs", "models", "cache"] {
        assert_eq!(files(folder.path(), &format!("/{left}/")), [] as [PathBuf; 0]);
    }
    let replicas =
        ["train", "--dry-run", "--set", "train.replicas=3", "--set", "network.width=4", "--set", "train.patience=2"];
    let output = run(folder.path(), &replicas);
    assert!(output.status.success(), "{}", stderr(&output));
    // A share that leaves nothing of so few images.
    let inputs = ["hard_inputs.fraction=0.01", "hard_inputs.floor=0", "network.width=4"];
    let inputs: Vec<&str> = inputs.iter().flat_map(|set| ["--set", set]).collect();
    let output = run(folder.path(), &[&["train", "--dry-run"][..], &inputs].concat());
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 blocks were trained"), "{}", stderr(&output));
    let output = run(folder.path(), &["train", "--dry-run", "--end-to-end", "--set", "network.width=4"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 blocks were trained"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_finds_what_would_fail_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), b"no folder").expect("written");
    let output = run(folder.path(), &["train", "--dry-run", "--store", "file/store"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--store"), "{}", stderr(&output));
    // A rate at which the first step ends in numbers that are none.
    let rate = ["train", "--dry-run", "--set", "network.width=4", "--set", "train.learning_rate=1e39"];
    let output = run(folder.path(), &rate);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr(&output).contains("as the run would"), "{}", stderr(&output));
}

#[test]
fn init_writes_a_specification_that_trains_and_writes_over_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (preset, more) in [("small", vec![]), ("resnet9", vec!["--data", "data"])] {
        for class in ["a", "it's \"b\""] {
            for split in ["train", "test"] {
                let place = folder.path().join("data").join(split).join(class);
                std::fs::create_dir_all(&place).expect("a folder");
                for at in 0..8 {
                    std::fs::copy(images().join("ankle-boot.png"), place.join(format!("{at}.png"))).expect("copied");
                }
            }
        }
        let name = format!("{preset}.toml");
        let made = run(folder.path(), &[&["init", &name, "--preset", preset], more.as_slice()].concat());
        assert!(made.status.success(), "{}", stderr(&made));
        let checked = run(folder.path(), &["spec", "check", &name]);
        assert!(checked.status.success(), "{}", stderr(&checked));
        let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(printed.contains(&format!("preset = \"{preset}\"")), "{printed}");
        let dry = run(folder.path(), &["train", &name, "--dry-run", "--set", "network.width=4"]);
        assert!(dry.status.success(), "{}", stderr(&dry));
        let again = run(folder.path(), &["init", &name]);
        assert_eq!(again.status.code(), Some(2));
        assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    }
    let forced = run(folder.path(), &["init", "small.toml", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    let wrong = run(folder.path(), &["init", "--preset", "lenet"]);
    assert!(wrong.status.code() == Some(2) && stderr(&wrong).contains("resnet9"), "{}", stderr(&wrong));
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_do() {
    let (folder, _) = trained();
    let output = bloctrain(folder.path())
        .args(["doctor", "--store", "bloctrain-runs", "--json"])
        .env("BLOCTRAIN_STROE", "typo")
        .output()
        .expect("runs");
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of =
        |name: &str| findings.iter().find(|finding| finding["of"] == name).unwrap_or_else(|| panic!("{findings:?}"));
    for good in ["versions", "device", "store", "clock"] {
        assert_eq!(of(good)["state"], "good", "{}", of(good));
    }
    assert!(findings.iter().any(|finding| finding["what"] == "nothing reads BLOCTRAIN_STROE"), "{findings:?}");
    assert!(output.status.success(), "a note is no failure");
    let wrong = run(folder.path(), &["doctor", "--store", "no/such/store"]);
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert!(text.contains("WRONG  store") && text.contains("docs/storage.md"), "{text}");
    assert_eq!(files(folder.path(), "doctor-"), [] as [PathBuf; 0], "it leaves nothing behind");
}

#[test]
fn completions_and_pages_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = run(folder.path(), &["completions", shell]);
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(["train", "report", "track", "doctor"].iter().all(|command| text.contains(command)), "{shell}");
    }
    let made = run(folder.path(), &["man", "pages/man1"]);
    assert!(made.status.success(), "{}", stderr(&made));
    for page in ["bloctrain.1", "bloctrain-train.1", "bloctrain-report.1", "bloctrain-cache-gc.1"] {
        let text = std::fs::read_to_string(folder.path().join("pages/man1").join(page)).expect(page);
        assert!(text.contains(".TH") && text.contains(".SH"), "{page}");
    }
    // bash itself takes the script.
    let script = run(folder.path(), &["completions", "bash"]).stdout;
    std::fs::write(folder.path().join("script"), script).expect("written");
    let checked =
        std::process::Command::new("bash").arg("-n").arg(folder.path().join("script")).status().expect("bash runs");
    assert!(checked.success());
}

#[test]
fn pictures_come_from_folders_and_pipes() {
    let (folder, summary) = trained();
    let model = folder.path().join(summary["model"].as_str().expect("a model"));
    let model = model.to_str().expect("utf-8");
    let place = folder.path().join("pictures");
    std::fs::create_dir_all(place.join("deep")).expect("a folder");
    let image = images().join("ankle-boot.png");
    for name in ["b.png", "a.PNG", "deep/c.png"] {
        std::fs::copy(&image, place.join(name)).expect("copied");
    }
    std::fs::write(place.join("notes.txt"), b"no picture").expect("written");
    let output = run(folder.path(), &["predict", model, "pictures", image.to_str().expect("utf-8"), "--json"]);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let names: Vec<&str> = answers.iter().filter_map(|answer| answer["file"].as_str()).collect();
    assert_eq!(names[..3], ["pictures/a.PNG", "pictures/b.png", "pictures/deep/c.png"]);
    let mut child = bloctrain(folder.path())
        .args(["predict", model, "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("a pipe").write_all(&std::fs::read(&image).expect("read")).expect("written");
    let piped: Vec<Value> = serde_json::from_slice(&child.wait_with_output().expect("ends").stdout).expect("JSON");
    assert_eq!((&piped[0]["file"], &piped[0]["probability"]), (&"-".into(), &answers[3]["probability"]));
    std::fs::create_dir_all(folder.path().join("empty")).expect("a folder");
    let none = run(folder.path(), &["predict", model, "empty"]);
    assert!(none.status.code() == Some(1) && stderr(&none).contains("no picture"), "{}", stderr(&none));
}

#[test]
fn boards_are_written_while_training_and_the_same_afterwards() {
    let (folder, summary) = trained();
    let id = summary["run"].as_str().expect("an id");
    let found = |of: &str| -> Vec<(String, Vec<u8>)> {
        let read = |file: PathBuf| {
            (
                file.strip_prefix(folder.path().join(of)).expect("below").display().to_string(),
                std::fs::read(&file).expect("read"),
            )
        };
        files(&folder.path().join(of), "tfevents").into_iter().map(read).collect()
    };
    let live = found("boards");
    assert_eq!(
        live.len(),
        4,
        "three blocks and the result: {:?}",
        live.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    let told = run(folder.path(), &["track", id, "--tensorboard", "again"]);
    assert!(told.status.success(), "{}", stderr(&told));
    assert_eq!(found("again"), live);
    let nothing = run(folder.path(), &["track", id]);
    assert!(nothing.status.code() == Some(2) && stderr(&nothing).contains("--tensorboard"), "{}", stderr(&nothing));
    let away = run(folder.path(), &["track", id, "--mlflow", "http://127.0.0.1:9"]);
    assert!(
        away.status.code() == Some(1) && stderr(&away).contains("MLflow server at http://127.0.0.1:9"),
        "{}",
        stderr(&away)
    );
}

/// TensorBoard itself, where it is installed (`BLOCTRAIN_TENSORBOARD_PYTHON`, or `python3`).
#[test]
fn tensorboard_reads_every_scalar() {
    let (folder, summary) = trained();
    let python = std::env::var("BLOCTRAIN_TENSORBOARD_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
board = EventAccumulator(sys.argv[1]); board.Reload()
print(json.dumps({tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}))
"#;
    let place = folder.path().join("boards").join(summary["run"].as_str().expect("an id")).join("block1");
    let output = std::process::Command::new(&python).args(["-c", script]).arg(&place).output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |output| stderr(&output));
            assert!(std::env::var("BLOCTRAIN_REQUIRE_TENSORBOARD").is_err(), "{why}");
            eprintln!("skipped: tensorboard is not installed");
            return;
        }
    };
    let scalars: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = std::fs::read_to_string(&files(folder.path(), "history.jsonl")[0]).expect("read");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (index, line) in lines.iter().filter(|line| line["block"] == 1).enumerate() {
        for tag in ["loss", "accuracy", "firing_rate", "learning_rate", "images_per_second"] {
            let seen = &scalars[tag][index];
            assert_eq!(seen[0], line["epoch"], "{tag}");
            let (seen, told) = (seen[1].as_f64().expect("a number"), line[tag].as_f64().expect("a number"));
            assert!((seen - told).abs() <= 1e-6 * told.abs(), "{tag}: {seen} instead of {told}");
        }
    }
    assert!(scalars["firing_rates/layer1"].is_array(), "{scalars}");
}

/// A server of MLflow with everything that it started.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// MLflow itself, where it is installed (`BLOCTRAIN_MLFLOW_PYTHON`, or `python3`).
#[test]
#[expect(clippy::disallowed_methods, reason = "the test waits for another process")]
fn mlflow_shows_every_epoch_once() {
    use std::os::unix::process::CommandExt;
    let python = std::env::var("BLOCTRAIN_MLFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = std::process::Command::new(&python).args(["-c", "import mlflow.server"]).output();
    if !import.is_ok_and(|import| import.status.success()) {
        assert!(std::env::var("BLOCTRAIN_REQUIRE_MLFLOW").is_err(), "mlflow is not installed");
        eprintln!("skipped: mlflow is not installed");
        return;
    }
    let (folder, summary) = trained();
    let id = summary["run"].as_str().expect("an id");
    let place = tempfile::tempdir().expect("a folder");
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let port = address.port().to_string();
    let _server = Server(
        std::process::Command::new(&python)
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port, "--workers", "1"])
            .args(["--backend-store-uri", "sqlite:///ml.db", "--default-artifact-root", "artifacts"])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("it starts"),
    );
    let url = format!("http://{address}");
    let begun = std::time::Instant::now();
    let told = loop {
        let told = run(folder.path(), &["track", id, "--mlflow", &url]);
        if told.status.success() || begun.elapsed() > std::time::Duration::from_secs(180) {
            break told;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    assert!(told.status.success(), "{}", stderr(&told));
    let again = run(folder.path(), &["track", id, "--mlflow", &url]);
    assert!(again.status.success(), "{}", stderr(&again));
    let script = r#"
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name("bloctrain")
runs = client.search_runs([experiment.experiment_id])
history = lambda key: [(metric.step, metric.value) for metric in client.get_metric_history(runs[0].info.run_id, key)]
print(json.dumps({"runs": len(runs), "status": runs[0].info.status, "tag": runs[0].data.tags["bloctrain.run"],
    "epochs": runs[0].data.params["train.epochs"], "loss": history("block1/loss"), "test": history("test_accuracy")}))
"#;
    let output = std::process::Command::new(&python).args(["-c", script, &url]).output().expect("it runs");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(
        (&shown["runs"], &shown["status"], &shown["tag"]),
        (&1.into(), &"FINISHED".into(), &id.into()),
        "{shown}"
    );
    assert_eq!((&shown["epochs"], &shown["test"][0][1]), (&"2".into(), &summary["accuracy"]["test"]), "{shown}");
    let steps: Vec<&Value> = shown["loss"].as_array().expect("a history").iter().map(|point| &point[0]).collect();
    assert_eq!(steps, [1, 2], "every epoch once: {shown}");
    assert_eq!(shown["test"].as_array().map(Vec::len), Some(1));
}
