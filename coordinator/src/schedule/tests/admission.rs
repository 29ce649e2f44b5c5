//! Reports that cannot be true, one field at a time: each is refused and changes nothing.

use super::*;
use bloctrain_shared::task::{Output, Split};
use serde_json::{Value, json};

/// A run that stands before a task of a stage of a block, and that task with its lease.
fn before(block: u32, stage: Stage) -> (State, u64, Task, u64) {
    let (mut state, _, worker) = started(2, 0);
    loop {
        let (task, lease) = ask(&mut state, 0, worker).expect("the run does not end before");
        if (task.id.block, task.id.stage) == (block, stage) {
            return (state, worker, task, lease);
        }
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    }
}

/// The honest output with one field replaced.
fn changed(output: &Output, pointer: &str, value: Value) -> Output {
    let mut json = serde_json::to_value(output).expect("serialises");
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not in {output:?}")) = value;
    serde_json::from_value(json).unwrap_or_else(|error| panic!("{pointer}: {error}"))
}

/// Reports the task's honest output with one field replaced, and expects a refusal that changes nothing.
fn refuse(block: u32, stage: Stage, lies: &[(&str, Value)]) {
    let (mut state, worker, task, lease) = before(block, stage);
    let honest = output(&task, 2);
    for (pointer, value) in lies {
        let before = state.clone();
        let lie = changed(&honest, pointer, value.clone());
        let result = report(&mut state, 0, worker, &task, lease, Ok(lie));
        let is_refusal =
            |rejected: &Rejected| matches!(rejected, Rejected::Impossible { .. } | Rejected::ForeignKey { .. });
        assert!(result.as_ref().is_err_and(is_refusal), "{pointer} = {value}: {result:?}");
        assert_eq!(state, before, "R-5: {pointer} = {value}");
    }
    report(&mut state, 0, worker, &task, lease, Ok(honest))
        .expect("the lease is still there, and the truth is accepted");
}

#[test]
fn impossible_rounds_are_refused() {
    let metric = |name: &str| format!("/train/metrics/{name}");
    let names =
        ["loss", "accuracy", "firing_rate", "seconds", "waiting_seconds", "samples", "peak_memory_bytes", "parameters"];
    let metrics: Vec<String> = names.map(metric).to_vec();
    let huge = |pointer: &str| {
        let whole = ["samples", "bytes", "parameters"].iter().any(|name| pointer.ends_with(name));
        if whole { json!(u64::MAX) } else { json!(1e300) }
    };
    let mut lies: Vec<(&str, Value)> = metrics.iter().map(|pointer| (pointer.as_str(), huge(pointer))).collect();
    lies.extend([
        ("/train/metrics/epochs", json!(3)),
        ("/train/metrics/epochs", json!(u32::MAX)),
        ("/train/metrics/epochs", json!(2)),
        ("/train/finished", json!(true)),
        ("/train/metrics/epoch_samples", json!(2001)),
        ("/train/metrics/validation_accuracy", json!(1.5)),
        ("/train/metrics/accuracy", json!(-0.1)),
        ("/train/metrics/firing_rates", json!([0.5, 1.5])),
        ("/train/metrics/firing_rates", json!(vec![0.5; 10_001])),
        ("/train/checkpoint/weights/bytes", json!(u64::MAX)),
        ("/train/checkpoint/weights/key", json!(cached("another"))),
        ("/train/checkpoint/weights/key", json!("runs/r0/block1/weights-0.safetensors")),
        ("/train/checkpoint/optimizer/key", json!("../../etc/passwd")),
        ("/train/checkpoint/optimizer/key", json!("file:///etc/passwd")),
    ]);
    refuse(1, Stage::Train, &lies);
}

#[test]
fn epochs_do_not_run_backwards() {
    let (mut state, _, worker) = started(2, 2);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    let (task, lease) = ask(&mut state, 0, worker).expect("the next round");
    let lie = changed(&changed(&output(&task, 2), "/train/metrics/epochs", json!(0)), "/train/finished", json!(false));
    assert!(matches!(report(&mut state, 0, worker, &task, lease, Ok(lie)), Err(Rejected::Impossible { .. })));
}

#[test]
fn impossible_counts_are_refused() {
    let counts = |counts: Vec<u64>| json!({"classes": 4, "counts": counts});
    let mut one_more = vec![256, 0, 0, 0, 0, 256, 0, 0, 0, 0, 256, 0, 0, 0, 0, 256];
    one_more[1] = 1;
    let lies = [
        ("/validate/confusion", counts(one_more)),
        ("/validate/confusion", counts(vec![0; 16])),
        ("/validate/confusion", counts(Vec::new())),
        ("/validate/confusion", counts(vec![u64::MAX; 16])),
        ("/validate/confusion", json!({"classes": 2, "counts": [1024, 0, 0, 0]})),
        ("/validate/confusion", json!({"classes": 4, "counts": [1024]})),
        ("/validate/confusion", json!({"classes": 0, "counts": []})),
        ("/validate/confusion", json!({"classes": usize::MAX, "counts": [1024]})),
    ];
    refuse(1, Stage::Validate, &lies);
    // The second block answers for classes 2 and 3: 256 samples of each in the first shard.
    let lies = [[[300, 0], [0, 212]], [[256, 0], [0, 255]], [[0, 0], [0, 0]]];
    let lies = lies.map(|rows| ("/validate/confusion", json!({"classes": 2, "counts": rows.concat()})));
    refuse(2, Stage::Validate, &lies);
}

#[test]
fn shards_detectors_and_figures_of_something_else_are_refused() {
    let lies = [
        ("/export/shard/shard", json!(1)),
        ("/export/shard/view", json!(7)),
        ("/export/shard/split", json!(Split::Test)),
        ("/export/uncompressed_bytes", json!(u64::MAX)),
        ("/export/shard/object/key", json!("runs/r0/block1/weights-0.safetensors")),
        ("/export/shard/object/key", json!("cache/../state/manifest/0.arrow")),
    ];
    refuse(1, Stage::Export, &lies);
    refuse(
        1,
        Stage::Detect,
        &[("/detect/detector", Value::Null), ("/detect/detector/key", json!("models/r/model.json"))],
    );
    refuse(
        0,
        Stage::Evaluate,
        &[("/evaluate/records/key", json!("/etc/passwd")), ("/evaluate/records/bytes", json!(u64::MAX))],
    );
    let long = "x".repeat(5_000);
    let lies = [
        ("/finish/summary/run", json!("another")),
        ("/finish/summary/accuracy/test", json!(1.01)),
        ("/finish/summary/wall_seconds", json!(-1.0)),
        ("/finish/summary/model", json!(long)),
        ("/finish/summary/dataset", json!("a\nb")),
    ];
    refuse(0, Stage::Finish, &lies);
}

#[test]
fn impossible_times_are_refused() {
    let (mut state, worker, task, lease_epoch) = before(1, Stage::Train);
    // Two of 1e308 would make a sum that no snapshot can hold.
    for seconds in [-1.0, 1e308, f64::INFINITY, f64::NAN] {
        let before = state.clone();
        let result = Err(Failure::Transient { message: "x".into() });
        let report = Box::new(Report { task: task.id, lease_epoch, seconds, inputs: None, result });
        let result = state.apply(0, Event::Reported { worker, run: task.run.clone(), report });
        assert!(matches!(result, Err(Rejected::Impossible { .. })), "{seconds}: {result:?}");
        assert_eq!(state, before, "R-5");
    }
}

#[test]
fn what_the_task_does_not_read_cannot_be_lost() {
    let (mut state, run, worker) = started(1, 0);
    for number in 0..5 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let lost = Failure::InputLost { key: format!("models/{number}"), problem: "x".into(), content: false };
        report(&mut state, 0, worker, &task, lease, Err(lost)).expect("a failure of the attempt");
    }
    let run = &state.durable.runs[&run];
    assert!(run.losses.is_empty(), "what is said to be lost takes no room: {:?}", run.losses);
    assert_eq!(run.failures.len(), 5);
}

#[test]
fn a_workers_words_stay_on_one_line() {
    let (mut state, run, worker) = started(1, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let message = "a\nWARN forged\u{1b}[2J".into();
    report(&mut state, 0, worker, &task, lease, Err(Failure::Transient { message })).expect("a failure");
    assert!(!state.durable.runs[&run].failures[0].1.contains(char::is_control));
}

#[test]
fn a_worker_reports_only_under_its_own_lease() {
    let (mut state, _, worker) = started(2, 0);
    let other = named(&mut state, "other");
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let before = state.clone();
    assert!(matches!(report(&mut state, 0, other, &task, lease, Ok(output(&task, 2))), Err(Rejected::Stale(_))));
    assert!(matches!(report(&mut state, 0, worker, &task, u64::MAX, Ok(output(&task, 2))), Err(Rejected::Stale(_))));
    let foreign = Task { run: "another".into(), ..task.clone() };
    assert!(matches!(
        report(&mut state, 0, worker, &foreign, lease, Ok(output(&task, 2))),
        Err(Rejected::UnknownRun(_))
    ));
    assert_eq!(state, before, "R-5");
    state.apply(0, Event::Cancelled { run: task.run.clone() }).expect("cancelled");
    let before = state.clone();
    assert!(report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).is_err(), "the run has ended");
    assert_eq!(state, before, "R-5");
}

#[test]
fn submissions_that_cannot_work_are_refused() {
    let lies = [
        ("/dataset/train", json!(0)),
        ("/dataset/train", json!(usize::MAX)),
        ("/dataset/validation", json!(0)),
        ("/dataset/validation", json!(usize::MAX)),
        ("/dataset/test", json!(usize::MAX)),
        ("/dataset/classes", json!([])),
        ("/dataset/classes", json!(["one"])),
        ("/dataset/classes/0", json!("a\u{1b}[2J")),
        ("/dataset/name", json!("n".repeat(129))),
        ("/dataset/shape/height", json!(0)),
        ("/dataset/shape/width", json!(usize::MAX)),
        ("/backend", json!("abacus")),
        ("/arithmetic", json!(0)),
        ("/spec/train/epochs", json!(0)),
        ("/spec/data/views", json!(u32::MAX)),
        ("/spec/encoding/steps", json!(u32::MAX)),
    ];
    let mut state = State::new(Durable::default(), 1000);
    for (pointer, value) in lies {
        let mut json = serde_json::to_value(submission(1, 0)).expect("serialises");
        *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value.clone();
        let submission = Box::new(serde_json::from_value::<Submission>(json).expect("of the right types"));
        let result = state.apply(0, Event::Submitted { submission, object: object("spec") });
        assert!(result.is_err(), "{pointer} = {value}");
        assert_eq!(state, State::new(Durable::default(), 1000), "R-5");
    }
    let backend = Newcomer { backend: "any".into(), ..newcomer("w", "cpu") };
    assert!(matches!(state.apply(0, Event::Registered(Box::new(backend))), Err(Rejected::Backend(_))));
}
