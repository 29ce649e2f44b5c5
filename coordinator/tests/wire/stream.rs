//! Live events over a real socket: everything first, then what changes, and everything again after a restart.

use crate::server::{Server, token};
use crate::web::ask;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A stream of events that is read.
struct Events {
    stream: TcpStream,
    text: String,
    read: VecDeque<(String, Value)>,
}

impl Events {
    async fn open(address: &str, query: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let head = format!("GET /api/v1/stream?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}");
        let request = format!("{head}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut events = Self { stream, text: String::new(), read: VecDeque::new() };
        while !events.text.contains("\r\n\r\n") {
            assert!(events.more().await, "a head");
        }
        let (head, rest) = events.text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        events.text = rest.to_owned();
        events
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 16];
        let read = timeout(Duration::from_secs(60), self.stream.read(&mut buffer)).await.expect("in time");
        let read = read.unwrap_or(0);
        self.text.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
        read > 0
    }

    /// The next event; `None` when the stream ends. Lines of chunked encoding are no part of an event.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    self.read.push_back((name, serde_json::from_str(&data).expect("JSON")));
                }
                self.text = rest.to_owned();
            }
            if self.read.is_empty() && !self.more().await {
                return None;
            }
        }
    }

    /// The next event of a name.
    async fn of(&mut self, wanted: &str) -> Value {
        loop {
            let (name, value) = self.next().await.unwrap_or_else(|| panic!("an event {wanted} before the end"));
            if name == wanted {
                return value;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_come_in_full_then_what_changes_and_in_full_again_after_a_restart() {
    let server = Server::open().await.ready().await;
    let first = server.submit(1).await.expect("submitted");
    let mut events = Events::open(&server.http, "topic=runs", "").await;
    let all = events.of("runs").await;
    assert_eq!((&all["reset"], all["set"].as_object().map(|set| set.len())), (&Value::Bool(true), Some(1)));
    let mut beside = Events::open(&server.http, "topic=runs", "").await;
    assert_eq!(beside.of("runs").await, all, "who comes later gets the same");
    let second = server.submit(2).await.expect("submitted");
    for events in [&mut events, &mut beside] {
        let change = events.of("runs").await;
        assert_eq!(
            (&change["reset"], &change["set"][&second]["state"]),
            (&Value::Bool(false), &Value::from("running"))
        );
        assert!(change["set"].get(&first).is_none(), "what did not change is not sent again: {change}");
    }
    server.cancel(&first).await;
    assert_eq!(events.of("runs").await["set"][&first]["state"], "cancelled");
    let artefacts = server.close().await;
    while events.next().await.is_some() {}
    let again = Server::start_on(artefacts, Default::default(), None, None).await.ready().await;
    let mut events = Events::open(&again.http, "topic=runs", "").await;
    let all = events.of("runs").await;
    assert_eq!(
        (&all["reset"], &all["set"][&first]["state"], &all["set"][&second]["state"]),
        (&true.into(), &"cancelled".into(), &"running".into())
    );
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_s_epochs_arrive_while_it_trains_and_the_stream_ends_with_the_run() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submitted");
    let mut events = Events::open(&server.http, &format!("topic=run&run={run}"), "").await;
    let history = events.of("history").await;
    assert_eq!((&history["reset"], history["lines"].as_array().map(Vec::len)), (&Value::Bool(true), Some(0)));
    server.finish().await;
    let mut epochs = Vec::new();
    loop {
        match events.next().await.expect("goes on") {
            (name, value) if name == "history" => {
                let lines = value["lines"].as_array().expect("lines").clone();
                epochs.extend(lines.iter().map(|line| (line["block"].as_u64(), line["epoch"].as_u64())));
            }
            (name, value) if name == "run" && value["state"]["state"] == "completed" => break,
            _ => {}
        }
    }
    assert!(epochs.len() >= 2 && epochs[..2] == [(Some(1), Some(1)), (Some(1), Some(2))], "{epochs:?}");
    let line = format!("POST /api/v1/runs/{run}/delete");
    assert_eq!(ask(&server.http, &line, &[("X-Bloctrain", "1")], "").await.status, 204);
    while events.next().await.is_some() {}
    let path = format!("GET /api/v1/stream?topic=run&run={run}");
    assert_eq!(ask(&server.http, &path, &[], "").await.status, 404, "and says why when it is asked for again");
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_events_are_streamed_to_whoever_may_read() {
    let server = Server::guarded().await.ready().await;
    let run = server.submit(1).await.expect("submitted");
    for query in ["topic=workers", "topic=events", "topic=runs", &format!("topic=run&run={run}")] {
        assert_eq!(ask(&server.http, &format!("GET /api/v1/stream?{query}"), &[], "").await.status, 401, "{query}");
    }
    let viewer = format!("Authorization: Bearer {}\r\n", token("viewer"));
    let mut workers = Events::open(&server.http, "topic=workers", &viewer).await;
    assert_eq!(workers.of("workers").await["set"], serde_json::json!({}));
    let mut log = Events::open(&server.http, "topic=events", &viewer).await;
    let first = log.of("events").await;
    assert!(
        first["lines"].as_array().is_some_and(|lines| lines.iter().all(|line| line["run"] == run.as_str())),
        "{first}"
    );
    server.close().await;
}
