//! Traces, as an endpoint of OpenTelemetry gets them over HTTP.

use crate::common::{SMALL, bloctrain, summary};
use crate::process::{Fleet, wait_until};
use bloctrain_tracking::otlp::message::{ExportTraceServiceRequest, KeyValue, Span, Value};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A receiver, what it got, and of which services.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<(Vec<Span>, BTreeSet<String>)>>,
}

impl Receiver {
    /// Listens; gives its address.
    fn start() -> (Self, String) {
        let (receiver, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let taking = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taking = taking.clone();
                std::thread::spawn(move || taking.take(stream));
            }
        });
        (receiver, address)
    }

    /// Takes the requests of a connection.
    fn take(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                (reader.read_line(&mut head).ok()? > 0).then_some(())?;
            }
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let lower = head.to_ascii_lowercase();
            assert!(lower.contains("content-type: application/x-protobuf") && lower.contains("x-team: snn"), "{head}");
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let request = ExportTraceServiceRequest::decode(&*body).expect("a request of OTLP");
            let mut got = self.got();
            for resource in request.resource_spans {
                let attributes = resource.resource.expect("it names its service").attributes;
                got.1.insert(text(&attributes, "service.name"));
                got.0.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
            drop(got);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        }
    }

    fn got(&self) -> MutexGuard<'_, (Vec<Span>, BTreeSet<String>)> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match find(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    match find(&span.attributes, key) {
        Some(Value::IntValue(number)) => Some(*number),
        _ => None,
    }
}

/// Checks the tree of a completed run of three blocks; gives its attempts.
fn attempts(spans: &[Span], run: &str) -> Vec<Span> {
    let ids: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (&*span.span_id, span)).collect();
    assert_eq!(ids.len(), spans.len(), "no span comes twice");
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| &*span.trace_id).collect();
    assert_eq!(traces.len(), 1, "a run is one trace");
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let [root] = roots[..] else { panic!("{roots:?}") };
    assert_eq!((root.name.as_str(), root.status.as_ref().map(|status| status.code)), ("run", Some(1)), "{root:?}");
    assert!(find(&root.attributes, "bloctrain.test_accuracy").is_some(), "{root:?}");
    let (mut blocks, mut attempts) = (BTreeSet::new(), Vec::new());
    for span in spans {
        assert_eq!((span.trace_id.len(), span.span_id.len(), span.kind), (16, 8, 1));
        assert_eq!(text(&span.attributes, "bloctrain.run"), run);
        let times = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(
            root.start_time_unix_nano <= times.0 && times.0 <= times.1 && times.1 <= root.end_time_unix_nano,
            "{span:?}"
        );
        let Some(parent) = (span != root).then(|| ids.get(&*span.parent_span_id).expect("parents are sent, too"))
        else {
            continue;
        };
        if span.name.starts_with("block ") {
            assert_eq!(parent, &root, "{span:?}");
            assert!(
                blocks.insert(span.name.clone()) && text(&span.attributes, "bloctrain.outcome") == "done",
                "{span:?}"
            );
        } else {
            assert_eq!(number(parent, "bloctrain.block"), number(span, "bloctrain.block"), "{span:?}");
            assert!(
                parent.start_time_unix_nano <= times.0 && times.1 <= parent.end_time_unix_nano,
                "{span:?} {parent:?}"
            );
            attempts.push(span.clone());
        }
    }
    assert_eq!(blocks, ["block 1", "block 2", "block 3"].map(str::to_owned).into());
    attempts
}

/// The place of an attempt in the plan.
fn place(span: &Span) -> (Option<i64>, String, Option<i64>) {
    (number(span, "bloctrain.block"), text(&span.attributes, "bloctrain.stage"), number(span, "bloctrain.part"))
}

#[test]
fn a_run_in_one_process_is_one_trace_from_submit_to_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (receiver, address) = Receiver::start();
    let mut command = bloctrain(folder.path());
    let trained =
        command.args(SMALL).args(["--otlp", &address]).env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=snn").output();
    let summary = summary(&trained.expect("the binary runs"));
    let (spans, services) = receiver.got().clone();
    assert_eq!(services, ["bloctrain".to_owned()].into());
    let attempts = attempts(&spans, summary["run"].as_str().expect("an id"));
    assert!(attempts.iter().all(|span| text(&span.attributes, "bloctrain.outcome") == "committed"), "{attempts:?}");
    assert!(attempts.iter().all(|span| text(&span.attributes, "bloctrain.worker") == "worker0"));
    let of = |stage: &str| attempts.iter().filter(|span| span.name == stage).collect::<Vec<_>>();
    let epochs: i64 =
        summary["blocks"].as_array().expect("blocks").iter().filter_map(|block| block["epochs"].as_i64()).sum();
    assert_eq!((of("train").len() as i64, of("detect").len(), of("finish").len()), (epochs, 2, 1));
    let samples: i64 = of("train").into_iter().filter_map(|span| number(span, "bloctrain.samples")).sum();
    assert!(
        samples > 0 && of("train").into_iter().all(|span| number(span, "bloctrain.bytes") > Some(0)),
        "{attempts:?}"
    );
    let places: BTreeSet<_> = attempts.iter().map(place).collect();
    assert_eq!(places.len(), attempts.len(), "every task was committed once");
}

#[test]
fn a_standby_goes_on_with_the_trace_of_a_coordinator_that_was_killed() {
    let (receiver, address) = Receiver::start();
    let mut fleet = Fleet::new();
    fleet.set("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    fleet.set("OTEL_EXPORTER_OTLP_HEADERS", "x-team=snn");
    fleet.set("OTEL_SERVICE_NAME", "the-fleet");
    let (mut active, mut standby, first, both) = fleet.pair("active");
    let mut worker = fleet.worker("w1", &both);
    let run = fleet.submit(&first);
    worker.wait_for(&["a task begins", "block1/train/1"]);
    wait_until("the first round's span arrives", || !receiver.got().0.is_empty());
    active.kill();
    standby.wait_for(&["is active"]);
    fleet.finish(&run, "a coordinator was killed");
    wait_until("the run's span arrives", || receiver.got().0.iter().any(|span| span.parent_span_id.is_empty()));
    // What came in the same request.
    let (spans, services) = receiver.got().clone();
    assert_eq!(services, ["the-fleet".to_owned()].into());
    let attempts = attempts(&spans, &run);
    let committed: Vec<_> =
        attempts.iter().filter(|span| text(&span.attributes, "bloctrain.outcome") == "committed").map(place).collect();
    assert_eq!(committed.iter().collect::<BTreeSet<_>>().len(), committed.len(), "no task was committed twice");
    let adopted = |span: &&Span| find(&span.attributes, "bloctrain.adopted") == Some(&Value::BoolValue(true));
    assert_eq!(attempts.iter().filter(adopted).count(), 1, "the worker went on with what it held");
    let openings: BTreeSet<i64> =
        attempts.iter().filter_map(|span| Some(number(span, "bloctrain.lease_epoch")? >> 32)).collect();
    assert_eq!(openings.len(), 2, "both coordinators sent spans");
}

#[test]
fn an_endpoint_that_is_not_there_is_a_note_and_harms_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let mut command = bloctrain(folder.path());
    let trained = command.args(SMALL).args(["--otlp", &format!("http://{port}")]).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&trained.stderr).into_owned();
    summary(&trained);
    assert_eq!(said.matches("traces are not taken at").count(), 1, "{said}");
    let wrong = bloctrain(folder.path()).args(SMALL).args(["--otlp", "host:4318"]).output().expect("the binary runs");
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
}
