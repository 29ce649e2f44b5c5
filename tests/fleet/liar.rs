//! A worker that lies about what it stored. The coordinator cannot see it; whoever reads the object does, and what made
//! it is done again (R-4): the weights come out as if nobody had lied.

use crate::process::{Fleet, Process};
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_proto::convert::{from_grant, to_json};
use bloctrain_proto::v1::worker_service_client::WorkerServiceClient;
use bloctrain_proto::v1::{CompleteRequest, LeaseRequest, LeaveRequest, RegisterRequest};
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::stage::{detect, evaluate, export, train};
use bloctrain_shared::task::{CachedShard, Checkpoint, ObjectRef, Output, Report, RoundMetrics, Task, Work};
use bloctrain_shared::{Digest, key};
use bloctrain_store::Artefacts;
use bytes::Bytes;
use key::CheckpointPart;

/// How it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// The object has other content than the digest says.
    Digest,
    /// The object has another size.
    Size,
    /// There is no such object.
    Absent,
    /// The object is what was said, and of no use.
    Content,
}

/// Times that a lie may come too late before the test gives up.
const TRIES: usize = 8;

/// Stores something and says that it is an output.
async fn object(store: &Artefacts, key: String, content: Bytes, lie: Lie) -> ObjectRef {
    let honest = ObjectRef { key, digest: Digest::of(&content), bytes: content.len() as u64 };
    if lie != Lie::Absent {
        store.put(&honest.key, content).await.expect("stored");
    }
    match lie {
        Lie::Digest => ObjectRef { digest: Digest::of(b"something else"), ..honest },
        Lie::Size => ObjectRef { bytes: honest.bytes + 1, ..honest },
        Lie::Absent | Lie::Content => honest,
    }
}

/// What the liar says that it made.
async fn output(store: &Artefacts, task: &Task, lie: Lie) -> Output {
    let tensor = NamedTensor { name: "nonsense".into(), shape: vec![1], values: vec![1.0] };
    let tensors = NamedTensors { tensors: vec![tensor], metadata: Default::default() };
    let tensors = Bytes::from(tensors.encode().expect("encodes"));
    let (run, block) = (task.run.as_str(), task.id.block);
    match &task.work {
        Work::Train(_) => {
            let at = |part| key::checkpoint(run, block, part, Digest::of(b"a lie"));
            let weights = object(store, at(CheckpointPart::Weights), tensors.clone(), lie).await;
            let optimizer = object(store, at(CheckpointPart::Optimizer), tensors, Lie::Content).await;
            let metrics = RoundMetrics { epochs: 1, ..RoundMetrics::default() };
            Output::Train(train::Output { checkpoint: Checkpoint { weights, optimizer }, finished: false, metrics })
        }
        Work::Detect(_) => {
            let detector = object(store, key::detector(run, block, Digest::of(b"a lie")), tensors, lie).await;
            Output::Detect(detect::Output { detector: Some(detector) })
        }
        Work::Export(export::Work { split, view, shard, .. }) => {
            let object = object(store, key::cache_data(Digest::of(b"a lie")), tensors, lie).await;
            let shard = CachedShard { split: *split, view: *view, shard: *shard, object };
            Output::Export(export::Output { shard, uncompressed_bytes: 1, reused: false })
        }
        Work::Evaluate(evaluate::Work { split, shard, .. }) => {
            let records = Bytes::from_static(br#"{"ids": [], "labels": [], "blocks": []}"#);
            let key = key::records(run, *split, *shard, Digest::of(b"a lie"));
            Output::Evaluate(evaluate::Output { records: object(store, key, records, lie).await })
        }
        other => panic!("nobody lies about {other:?}"),
    }
}

/// Registers, takes a task, lies about it and leaves; false when it got another task than the wanted one.
async fn lies(store: &Artefacts, coordinator: &str, wanted: &str, lie: Lie) -> bool {
    let mut rpc = WorkerServiceClient::connect(coordinator.to_owned()).await.expect("connects");
    let backend = "cpu".to_owned();
    let seen = store.identity().await.expect("a store");
    let about = RegisterRequest {
        name: "liar".into(),
        backend,
        arithmetic: ARITHMETIC_VERSION,
        store: seen,
        ..RegisterRequest::default()
    };
    let worker = rpc.register(about).await.expect("registers").into_inner().worker;
    let grant = rpc.lease(LeaseRequest { worker, wait_ms: 10_000 }).await.expect("answers").into_inner().grant;
    let (task, lease_epoch) = from_grant(grant.expect("a task")).expect("a grant");
    let is_wanted = task.id.to_string() == wanted;
    if is_wanted {
        let result = Ok(output(store, &task, lie).await);
        let report_json = to_json(&Report { task: task.id, lease_epoch, seconds: 0.5, inputs: None, result });
        rpc.complete(CompleteRequest { worker, run: task.run, report_json }).await.expect("it cannot be seen yet");
    }
    rpc.leave(LeaveRequest { worker }).await.expect("leaves");
    is_wanted
}

/// An honest worker is stopped when it holds a task; the liar takes it over; the honest one goes on. False when the
/// task was done before the worker stopped.
fn lied_about(task: &str, lie: Lie) -> bool {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut honest: Option<Process> = None;
    let run = if task == "block1/train/0" {
        fleet.submit(&address)
    } else {
        let worker = honest.insert(fleet.worker("honest", &address));
        let run = fleet.submit(&address);
        coordinator.wait_for(&["handed out", task, "honest"]);
        worker.signal("-STOP");
        coordinator.wait_for(&["fell silent", "honest"]);
        run
    };
    let fired = runtime.block_on(lies(&fleet.open_store(), &address, task, lie));
    let _honest = match honest {
        Some(worker) => {
            worker.signal("-CONT");
            worker
        }
        None => fleet.worker("honest", &address),
    };
    fleet.finish(&run, &format!("{lie:?} of {task}"));
    if fired {
        let notes = fleet.show(&run)["notes"].to_string();
        let made_again = ["starts again", "goes on from", "computed again", "trained again", "evaluated again"];
        assert!(made_again.iter().any(|note| notes.contains(note)), "{lie:?} of {task} was not noticed: {notes}");
        let log = coordinator.log();
        let noticed = |line: &str| line.contains("damaged or missing") && line.contains("honest");
        assert!(log.lines().any(noticed), "{lie:?} of {task} is not in the log:\n{log}");
    }
    fired
}

#[test]
fn a_worker_lies_about_a_digest_and_its_round_is_done_again() {
    assert!(lied_about("block1/train/0", Lie::Digest));
}

#[test]
#[ignore = "one of the longer ones"]
fn lies_about_rounds_are_found() {
    for lie in [Lie::Size, Lie::Absent, Lie::Content] {
        assert!(lied_about("block1/train/0", lie), "{lie:?}");
    }
}

#[test]
#[ignore = "one of the longer ones"]
fn lies_about_shards_detectors_and_records_are_found() {
    for (task, lie) in [
        ("block1/export/2", Lie::Digest),
        ("block1/export/2", Lie::Content),
        ("block1/detect/0", Lie::Content),
        ("evaluate/0", Lie::Content),
    ] {
        assert!((0..TRIES).any(|_| lied_about(task, lie)), "the lie about {task} always came too late");
    }
}
