//! Workers that lie: about what they made, about whose task it was, about runs that have ended.

use crate::fleet::output;
use crate::server::{Server, log};
use bloctrain_proto::convert::to_json;
use bloctrain_shared::task::{Report, Task};
use bloctrain_shared::view::RunState;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The honest report of a task, as JSON.
fn honest(task: &Task, lease_epoch: u64) -> Value {
    let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result: Ok(output(task, 2)) };
    serde_json::to_value(report).expect("serialises")
}

fn with(mut report: Value, pointer: &str, value: Value) -> String {
    *report.pointer_mut(pointer).unwrap_or_else(|| panic!("there is no {pointer}")) = value;
    report.to_string()
}

fn code(answer: &Result<(), Status>) -> Code {
    answer.as_ref().err().map_or(Code::Ok, Status::code)
}

#[tokio::test]
async fn outputs_that_cannot_be_true_are_refused_in_every_stage() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let worker = server.register("liar").await;
    let mut stages = std::collections::BTreeSet::new();
    while let Some((task, lease_epoch)) = server.lease(worker).await {
        let stage = task.id.stage.name();
        stages.insert(stage);
        let report = honest(&task, lease_epoch);
        let lies: Vec<(&str, Value)> = match stage {
            "train" => vec![
                ("/result/Ok/train/checkpoint/weights/key", json!("runs/another/block1/weights-0.safetensors")),
                ("/result/Ok/train/checkpoint/weights/key", json!("../../etc/passwd")),
                ("/result/Ok/train/checkpoint/weights/key", json!("/etc/passwd")),
                ("/result/Ok/train/checkpoint/weights/key", json!("s3://other-bucket/weights")),
                ("/result/Ok/train/checkpoint/optimizer/key", json!("state/manifest/00000000000000000001.manifest")),
                ("/result/Ok/train/checkpoint/optimizer/key", json!(format!("runs/{run}/spec.json"))),
                ("/result/Ok/train/checkpoint/weights/digest", json!("not a digest")),
                ("/result/Ok/train/checkpoint/weights/bytes", json!(u64::MAX)),
                ("/result/Ok/train/checkpoint/weights/bytes", json!(-1)),
                ("/result/Ok/train/metrics/epochs", json!(9)),
                ("/result/Ok/train/metrics/accuracy", json!(7.0)),
                ("/result/Ok/train/metrics/loss", json!("NaN")),
                ("/result/Ok/train/metrics/seconds", json!(1e300)),
            ],
            "validate" => vec![
                ("/result/Ok/validate/confusion/counts/0", json!(1_000_000)),
                ("/result/Ok/validate/confusion/counts/0", json!(-1)),
                ("/result/Ok/validate/confusion/counts/0", json!(u64::MAX)),
                ("/result/Ok/validate/confusion/counts", json!([])),
                ("/result/Ok/validate/confusion/classes", json!(1)),
            ],
            "export" => vec![
                ("/result/Ok/export/shard/shard", json!(99)),
                ("/result/Ok/export/shard/object/key", json!(format!("runs/{run}/block1/train-0.w"))),
                ("/result/Ok/export/uncompressed_bytes", json!(u64::MAX)),
            ],
            "detect" => vec![("/result/Ok/detect/detector", Value::Null)],
            "evaluate" => vec![("/result/Ok/evaluate/records/key", json!("cache/0.arrow"))],
            _ => {
                vec![
                    ("/result/Ok/finish/summary/run", json!("another")),
                    ("/result/Ok/finish/summary/accuracy/test", json!(2.0)),
                ]
            }
        };
        let any = [
            ("/seconds", json!(-1.0)),
            ("/seconds", json!(1e308)),
            ("/lease_epoch", json!(lease_epoch + 1)),
            ("/lease_epoch", json!(0)),
            ("/task/part", json!(u32::MAX)),
            ("/task/block", json!(u32::MAX)),
            ("/result/Ok", json!({"sing": {}})),
            ("/result/Ok", json!(null)),
        ];
        let before = server.state().await;
        for (pointer, value) in lies.into_iter().chain(any) {
            let answer = server.report(worker, &run, with(report.clone(), pointer, value.clone())).await;
            let expected = [Code::InvalidArgument, Code::Aborted];
            assert!(expected.contains(&code(&answer)), "{}: {pointer} = {value}: {answer:?}", task.id);
        }
        // The output of another kind of task.
        let counts = json!({"validate": {"confusion": {"classes": 4, "counts": vec![0; 16]}}});
        let other = if stage == "detect" { counts } else { json!({"detect": {"detector": null}}) };
        let answer = server.report(worker, &run, with(report.clone(), "/result/Ok", other)).await;
        assert_eq!(code(&answer), Code::InvalidArgument, "{}", task.id);
        assert_eq!(server.state().await, before, "{}: a refused report changed something", task.id);
        server.report(worker, &run, report.to_string()).await.expect("the truth is accepted");
        let again = server.report(worker, &run, report.to_string()).await;
        assert_eq!(code(&again), Code::Aborted, "R-1: {}", task.id);
    }
    assert_eq!(stages.len(), 6, "{stages:?}");
    assert_eq!(server.view(&run).await.state, RunState::Completed);
    assert!(log().contains("cannot be true"), "refusals are logged");
    server.close().await;
}

#[tokio::test]
async fn nobody_reports_for_another_worker_or_for_a_run_that_has_ended() {
    let server = Server::open().await.ready().await;
    let (run, other) = (server.submit(1).await.expect("submits"), server.submit(2).await.expect("submits"));
    let (holder, thief) = (server.register("holder").await, server.register("thief").await);
    let (task, lease_epoch) = server.lease(holder).await.expect("a task");
    let (own, own_epoch) = server.lease(thief).await.expect("a task of the other run");
    assert_ne!(task.run, own.run);
    let (first, second) = if task.run == run { (run, other) } else { (other, run) };
    let before = server.state().await;
    let report = honest(&task, lease_epoch).to_string();
    for (worker, name, text, expected) in [
        (thief, &first, report.clone(), Code::Aborted),
        (thief, &first, honest(&task, own_epoch).to_string(), Code::Aborted),
        (thief, &second, report.clone(), Code::Aborted),
        (holder, &second, report.clone(), Code::Aborted),
        (u64::MAX, &first, report.clone(), Code::NotFound),
        (holder, &"r000000000000".to_owned(), report.clone(), Code::NotFound),
    ] {
        let answer = server.report(worker, name, text).await;
        assert_eq!(code(&answer), expected, "worker {worker} about {name}: {answer:?}");
    }
    assert_eq!(server.state().await, before, "a refused report changed something");
    server.cancel(&first).await;
    let before = server.state().await;
    assert_eq!(code(&server.report(holder, &first, report).await), Code::Aborted, "the run has ended");
    assert_eq!(server.state().await, before);
    server.report(thief, &second, honest(&own, own_epoch).to_string()).await.expect("its own report is accepted");
    server.leave(thief).await;
    server.finish().await;
    assert_eq!(server.view(&second).await.state, RunState::Completed);
    assert_eq!(server.view(&first).await.state, RunState::Cancelled);
    server.close().await;
}

#[tokio::test]
async fn leases_of_an_earlier_coordinator_are_old() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let worker = server.register("w").await;
    let (task, lease_epoch) = server.lease(worker).await.expect("a task");
    let artefacts = server.close().await;
    let server = Server::start_on(artefacts, Default::default(), None, None).await.ready().await;
    let before = server.state().await;
    let report =
        to_json(&Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result: Ok(output(&task, 2)) });
    assert_eq!(code(&server.report(worker, &run, report.clone()).await), Code::NotFound, "it has to register anew");
    assert_eq!(server.state().await, before);
    let worker = server.register("w").await;
    let before = server.state().await;
    assert_eq!(code(&server.report(worker, &run, report).await), Code::Aborted, "R-3");
    assert_eq!(server.state().await, before);
    server.finish().await;
    assert_eq!(server.view(&run).await.state, RunState::Completed);
    server.close().await;
}

/// An object that is said to be lost is there: nothing is reset, and the worker that says so for a third time gets
/// nothing more.
#[tokio::test]
async fn a_loss_that_is_none_changes_nothing() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let worker = server.register("blind").await;
    let before = server.view(&run).await;
    for _ in 0..3 {
        let (task, lease_epoch) = loop {
            // The task comes back when the coordinator has looked.
            if let Some(granted) = server.lease(worker).await {
                break granted;
            }
        };
        let lost = json!({"input-lost": {"key": task.submission.key, "problem": "there is no object"}});
        let report = json!({"task": task.id, "lease_epoch": lease_epoch, "seconds": 1.0, "result": {"Err": lost}});
        server.report(worker, &run, report.to_string()).await.expect("it is looked at");
    }
    while server.view(&run).await.state != RunState::Completed {
        server.finish().await;
    }
    let after = server.view(&run).await;
    assert_eq!((after.state, after.notes), (RunState::Completed, before.notes), "nothing was lost");
    server.close().await;
}
