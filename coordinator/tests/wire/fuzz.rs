//! Bytes at random, and valid messages with something changed, for every call. One seed decides all of it.
//!
//! A changed message may still be a valid one, so what is asked is: a refused call changes nothing, the coordinator
//! lives on, its state can be read back, and an honest worker completes the run.

use crate::server::{Server, calls};
use bloctrain_proto::convert::to_json;
use bloctrain_proto::v1::*;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::task::{Failure, Progress, Report, Task};
use bloctrain_shared::view::RunState;
use bytes::Bytes;
use prost::Message;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::Code;

const SEED: u64 = 20_261_125;

/// Codes by which a coordinator refuses what cannot be; the others are answers of a working one.
fn is_clear(code: Code) -> bool {
    let clear = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::ResourceExhausted,
        // What is no message at all, in tonic's words.
        Code::Internal,
    ];
    clear.contains(&code)
}

#[tokio::test]
async fn random_bytes_are_refused() {
    let server = Server::open().await.ready().await;
    server.submit(1).await.expect("submits");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let before = server.state().await;
    let mut refused = 0;
    for path in calls() {
        for round in 0..100 {
            let mut bytes = vec![0; rng.random_range(1..300)];
            rng.fill_bytes(&mut bytes);
            match server.call(&path, None, Bytes::from(bytes)).await {
                Ok(()) => assert!(reads(&path), "{path}, round {round} of seed {SEED}: random bytes were accepted"),
                Err(status) => {
                    assert!(is_clear(status.code()), "{path}, round {round} of seed {SEED}: {status:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!(server.state().await, before, "{path} of seed {SEED}");
    }
    assert!(refused > 1_000, "{refused} calls were refused");
    server.close().await;
}

/// Calls without arguments: unknown fields are no error in protobuf.
fn reads(path: &str) -> bool {
    ["ListRuns", "ListWorkers", "GetFleet", "GetStatus"].iter().any(|call| path.ends_with(call))
}

/// A valid message of every call that may change something, and of some that read.
fn messages(run: &str, worker: u64, task: &Task, lease_epoch: u64) -> Vec<(&'static str, Vec<u8>)> {
    let report = |result| to_json(&Report { task: task.id, lease_epoch, seconds: 1.5, inputs: None, result });
    let complete = |report_json| CompleteRequest { worker, run: run.to_owned(), report_json }.encode_to_vec();
    let id: Option<TaskId> = Some(task.id.into());
    let progress = Progress { done: 1, total: 2, loss: 0.5, ..Progress::default() };
    let holding = Holding { run: run.to_owned(), task: id.clone(), work_digest: vec![7; 32] };
    let register = RegisterRequest {
        name: "fuzz".into(),
        backend: "cpu".into(),
        arithmetic: ARITHMETIC_VERSION,
        version: "1".into(),
        device: "cpu".into(),
        memory_bytes: 1 << 30,
        instance: "0123456789abcdef".into(),
        holding: Some(holding),
        // One that does not say which store it sees is let in.
        store: String::new(),
        precision: "f32".into(),
        only_run: String::new(),
    };
    let heartbeat =
        HeartbeatRequest { worker, run: run.to_owned(), task: id, lease_epoch, progress_json: to_json(&progress) };
    let submission_json = to_json(&crate::fleet::submission(3, 2, 0));
    let lost = Failure::InputLost { key: format!("runs/{run}/x"), problem: "gone".into(), content: false };
    vec![
        ("/bloctrain.v1.WorkerService/Register", register.encode_to_vec()),
        ("/bloctrain.v1.WorkerService/Heartbeat", heartbeat.encode_to_vec()),
        ("/bloctrain.v1.WorkerService/Complete", complete(report(Ok(crate::fleet::output(task, 2))))),
        ("/bloctrain.v1.WorkerService/Complete", complete(report(Err(lost)))),
        ("/bloctrain.v1.WorkerService/Lease", LeaseRequest { worker, wait_ms: 0 }.encode_to_vec()),
        ("/bloctrain.v1.WorkerService/Leave", LeaveRequest { worker }.encode_to_vec()),
        ("/bloctrain.v1.RunService/Submit", SubmitRequest { submission_json }.encode_to_vec()),
        ("/bloctrain.v1.RunService/GetRun", GetRunRequest { run: run.to_owned() }.encode_to_vec()),
        ("/bloctrain.v1.RunService/GetHistory", GetHistoryRequest { run: run.to_owned(), skip: 1 }.encode_to_vec()),
        ("/bloctrain.v1.RunService/PauseRun", PauseRunRequest { run: run.to_owned() }.encode_to_vec()),
        ("/bloctrain.v1.RunService/StreamLog", StreamLogRequest { run: run.to_owned(), follow: false }.encode_to_vec()),
    ]
}

/// Numbers and texts that programs stumble over.
const STRANGE: [&[u8]; 12] = [
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"18446744073709551615",
    b"[[[[[[[[",
    b"{}",
    b"\"\"",
    b"../../",
    b"\\u0000",
    b"\xff\xfe",
    b"0.0000001",
];

/// One or two changes: bits, bytes, pieces cut, doubled or moved, and strange values.
fn mutate(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..3) {
        let at = rng.random_range(0..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        let until = (at + rng.random_range(1..20)).min(bytes.len());
        match rng.random_range(0..6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if !bytes.is_empty() => bytes[at] = rng.random_range(0..=255),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..until)),
            4 => {
                let piece = bytes[at.min(until)..until].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let strange = STRANGE[rng.random_range(0..STRANGE.len())];
                bytes.splice(at..until, strange.iter().copied());
            }
        }
    }
    bytes
}

#[tokio::test]
async fn changed_messages_do_no_harm() {
    let server = Server::open().await.ready().await;
    let mut submitted = 1;
    let mut run = server.submit(submitted).await.expect("submits");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..100 {
        // Whatever was accepted before may have ended the lease.
        let worker = server.register("fuzzed").await;
        let Some((task, lease_epoch)) = server.lease(worker).await else {
            // Paused, failed or done by what was accepted: a person takes it up again, or submits another one.
            submitted += 1;
            run = server.submit(submitted).await.expect("submits");
            server.leave(worker).await;
            continue;
        };
        for (path, message) in messages(&task.run, worker, &task, lease_epoch) {
            let before = server.state().await;
            let message = mutate(&message, &mut rng);
            match server.call(path, None, Bytes::from(message)).await {
                Ok(()) => accepted += 1,
                Err(status) => {
                    assert!(is_clear(status.code()), "{path}, round {round} of seed {SEED}: {status:?}");
                    assert_eq!(server.state().await, before, "{path}, round {round} of seed {SEED}: {status:?}");
                    refused += 1;
                }
            }
        }
        server.leave(worker).await;
    }
    assert!(
        refused > 200 && accepted > 10,
        "{refused} refused, {accepted} accepted: the changes are too rough or too fine"
    );
    // Some orders may have been understood; a person takes the run up again.
    let artefacts = server.close().await;
    let server = Server::start_on(artefacts, Default::default(), None, None).await.ready().await;
    server.submit(submitted).await.expect("submits again");
    resume(&server, &run).await;
    // A changed submission may have been one of other data, about which this worker knows nothing.
    server.finish_run(&run).await;
    assert_eq!(server.view(&run).await.state, RunState::Completed, "{:?}", server.view(&run).await.notes);
    server.close().await;
}

async fn resume(server: &Server, run: &str) {
    let message = ResumeRunRequest { run: run.to_owned() }.encode_to_vec();
    server.call("/bloctrain.v1.RunService/ResumeRun", None, Bytes::from(message)).await.expect("goes on");
}
