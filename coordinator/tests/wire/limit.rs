//! Values that are well formed and absurd, and whatever else arrives on an open port.

use crate::server::{Server, bearer, log};
use bloctrain_proto::MESSAGE_LIMIT;
use bloctrain_proto::v1::*;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};

fn code<T>(answer: Result<T, Status>) -> Code {
    let Err(status) = answer else { return Code::Ok };
    assert!(status.message().len() < 8 << 10, "a message repeats what it was sent: {} bytes", status.message().len());
    status.code()
}

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Registrations that are refused, and how.
fn absurd_registrations(run: &str, long: &str) -> Vec<(Code, RegisterRequest)> {
    let newcomer = |change: fn(&mut RegisterRequest, String)| {
        let (mut request, long) = (RegisterRequest::default(), long.to_owned());
        (request.name, request.backend, request.arithmetic) = ("x".into(), "cpu".into(), ARITHMETIC_VERSION);
        change(&mut request, long);
        request
    };
    let holding = |run: &str, stage: &str, bytes: usize| Holding {
        run: run.into(),
        task: Some(TaskId { block: u32::MAX, stage: stage.into(), part: u32::MAX, replica: 0 }),
        work_digest: vec![0; bytes],
    };
    let mut wrong = vec![
        (Code::InvalidArgument, newcomer(|request, long| request.name = long)),
        (Code::InvalidArgument, newcomer(|request, _| request.name.clear())),
        (Code::InvalidArgument, newcomer(|request, _| request.name = "a\n2026-01-01 WARN forged".into())),
        (Code::InvalidArgument, newcomer(|request, long| request.backend = long)),
        (Code::InvalidArgument, newcomer(|request, _| request.backend = "any".into())),
        (Code::InvalidArgument, newcomer(|request, long| request.version = long)),
        (Code::InvalidArgument, newcomer(|request, long| request.device = long)),
        (Code::InvalidArgument, newcomer(|request, long| request.instance = long)),
        (Code::FailedPrecondition, newcomer(|request, _| request.arithmetic = u32::MAX)),
        (Code::FailedPrecondition, newcomer(|request, _| request.arithmetic = 0)),
    ];
    for held in [holding(run, "train", 31), holding(run, "", 32), holding(run, long, 32), holding(long, "train", 32)] {
        wrong.push((Code::InvalidArgument, newcomer(|_, _| {})));
        wrong.last_mut().expect("just pushed").1.holding = Some(held);
    }
    wrong
}

/// Orders of people that are refused.
async fn absurd_orders(server: &Server, long: &str) {
    let people = server.runs();
    let absent = ["", "../state", "/etc/passwd", "r000000000000", "s3://bucket/run"];
    for name in absent {
        assert_eq!(code(people.clone().get_run(GetRunRequest { run: name.into() }).await), Code::NotFound, "{name}");
        assert_eq!(
            code(people.clone().cancel_run(CancelRunRequest { run: name.into() }).await),
            Code::NotFound,
            "{name}"
        );
        assert_eq!(
            code(people.clone().watch_run(WatchRunRequest { run: name.into() }).await),
            Code::NotFound,
            "{name}"
        );
    }
    for name in [long, "a\0b", "a\u{1b}[2J"] {
        assert_eq!(code(people.clone().get_run(GetRunRequest { run: name.into() }).await), Code::InvalidArgument);
        assert_eq!(code(people.clone().pause_run(PauseRunRequest { run: name.into() }).await), Code::InvalidArgument);
        let request = StreamLogRequest { run: name.into(), follow: true };
        assert_eq!(code(people.clone().stream_log(request).await), Code::InvalidArgument);
    }
    for text in ["", "{}", &deep(100_000), long, &format!("{long}{long}")] {
        let answer = people.clone().submit(SubmitRequest { submission_json: (*text).to_owned() }).await;
        assert_eq!(code(answer), Code::InvalidArgument, "{:.60}", text);
    }
}

#[tokio::test]
async fn absurd_values_are_refused() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let worker = server.register("w").await;
    let (task, lease_epoch) = server.lease(worker).await.expect("a task");
    let before = server.state().await;
    let long = "x".repeat(1 << 20);

    for (expected, request) in absurd_registrations(&run, &long) {
        assert_eq!(code(server.workers().register(request.clone()).await), expected, "{:.200?}", request);
    }

    for id in [0, worker + 1, u64::MAX] {
        assert_eq!(code(server.workers().lease(LeaseRequest { worker: id, wait_ms: u64::MAX }).await), Code::NotFound);
        assert_eq!(code(server.workers().leave(LeaveRequest { worker: id }).await), Code::NotFound);
    }

    let beat = |lease_epoch: u64, task: Option<TaskId>, progress: &str| HeartbeatRequest {
        worker,
        run: run.clone(),
        task,
        lease_epoch,
        progress_json: progress.to_owned(),
    };
    let id: TaskId = task.id.into();
    for progress in ["", "{", "null", "[]", &deep(2_000), r#"{"done": -1}"#, r#"{"loss": NaN}"#, &long] {
        let answer = server.workers().heartbeat(beat(lease_epoch, Some(id.clone()), progress)).await;
        assert_eq!(code(answer), Code::InvalidArgument, "{:.60}", progress);
    }
    assert_eq!(code(server.workers().heartbeat(beat(lease_epoch, None, "{}")).await), Code::InvalidArgument);
    let fine = bloctrain_proto::convert::to_json(&bloctrain_shared::task::Progress::default());
    for (epoch, part) in [(0, id.part), (lease_epoch - 1, id.part), (u64::MAX, id.part), (lease_epoch, u32::MAX)] {
        let answer = server.workers().heartbeat(beat(epoch, Some(TaskId { part, ..id.clone() }), &fine)).await;
        assert_eq!(answer.expect("an order").get_ref().command(), Command::Drop, "lease {epoch}, part {part}");
    }

    for text in ["", "{}", "null", &deep(100_000), &long, &"[".repeat((8 << 20) + 1)] {
        assert_eq!(code(server.report(worker, &run, (*text).to_owned()).await), Code::InvalidArgument, "{:.60}", text);
    }
    assert_eq!(code(server.report(worker, &long, "{}".into()).await), Code::InvalidArgument);

    absurd_orders(&server, &long).await;
    // One that parses and cannot work leaves no object behind either.
    let mut submission = serde_json::to_value(crate::fleet::submission(2, 1, 0)).expect("serialises");
    submission["dataset"]["train"] = usize::MAX.into();
    let answer = server.runs().submit(SubmitRequest { submission_json: submission.to_string() }).await;
    assert_eq!(code(answer), Code::InvalidArgument);

    assert_eq!(server.state().await, before, "a refused call changed something");
    assert!(log().contains("`name` must be a text of at most 128 bytes"), "refusals are logged");
    assert!(
        !log().contains("WARN forged") && !log().contains("xxxxxxxxxx".repeat(200).as_str()),
        "what was sent is in the log"
    );
    server.finish().await;
    server.close().await;
}

#[tokio::test]
async fn messages_and_headers_over_the_limit_are_refused() {
    let server = Server::open().await.ready().await;
    let before = server.state().await;
    let large = Bytes::from(vec![0; MESSAGE_LIMIT + 1]);
    assert_eq!(code(server.call("/bloctrain.v1.WorkerService/Complete", None, large).await), Code::OutOfRange);
    let header = bearer(&"x".repeat(64 << 10));
    assert_ne!(code(server.call("/bloctrain.v1.RunService/ListRuns", Some(header), Bytes::new()).await), Code::Ok);
    // A text that is no UTF-8: field 1 of these messages is a string.
    for path in ["/bloctrain.v1.RunService/GetRun", "/bloctrain.v1.WorkerService/Register"] {
        let answer = server.call(path, None, Bytes::from_static(b"\x0a\x04\xff\xfe\xc0\x80")).await;
        assert!(matches!(code(answer), Code::Internal | Code::InvalidArgument), "{path}");
    }
    for path in
        ["/", "/bloctrain.v1.RunService/Destroy", "/bloctrain.v1.RunService/../x", "/bloctrain.v2.RunService/GetRun"]
    {
        assert_eq!(code(server.call(path, None, Bytes::new()).await), Code::Unimplemented, "{path}");
    }
    assert_eq!(server.state().await, before);
    server.close().await;
}

#[tokio::test]
async fn what_is_no_http2_does_no_harm() {
    let server = Server::open().await.ready().await;
    let before = server.state().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let length = u32::try_from(body.len()).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    };
    let settings = frame(4, 0, 0, &[]);
    let after = |frames: &[Vec<u8>]| [preface.clone(), settings.clone(), frames.concat()].concat();
    let sent = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 4_096],
        vec![0x16, 0x03, 0x01, 0xff, 0xff, 1, 2, 3],
        preface[..10].to_vec(),
        after(&[frame(1, 4, 1, &[0xff; 64])]),
        after(&[frame(0, 1, 1, b"data before headers")]),
        after(&[frame(8, 0, 0, &[0xff; 4])]),
        after(&[frame(4, 0, 0, &[0xff; 5])]),
        after(&[vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]]),
        after(&vec![frame(6, 0, 0, &[0; 8]); 2_000]),
        after(&vec![frame(3, 0, 1, &[0; 4]); 2_000]),
    ];
    for bytes in sent {
        let mut socket = TcpStream::connect(server.address.trim_start_matches("http://")).await.expect("listens");
        // It may hang up before everything is sent, which is as good an answer as any.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
        assert_eq!(server.state().await, before);
    }
    server.close().await;
}
