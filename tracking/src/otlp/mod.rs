//! Spans for OpenTelemetry, by OTLP over HTTP in protobuf.
//!
//! Whoever has a span gives it to a [`Sink`], which never waits: a queue takes it, or it is dropped and counted. One
//! thread takes what is in the queue and posts it. While the endpoint does not answer, it keeps what it has and tries
//! again.

pub mod message;
mod settings;

pub use settings::{OtlpError, Settings};

use message::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, KeyValue, Resource, ResourceSpans,
    ScopeSpans, Span,
};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

/// Spans that wait at most.
const QUEUE: usize = 8_192;

/// Spans of one request at most.
const BATCH: usize = 512;

/// How long a request waits for one more span.
const LINGER: Duration = Duration::from_millis(250);

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after the first attempt that failed, and the longest one: each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Longest text of an answer in a message, in characters.
const SHOWN: usize = 200;

/// Counts of spans.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Takes spans without waiting. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sink {
    spans: SyncSender<Span>,
    counts: Arc<Counts>,
}

impl Sink {
    /// Takes a span, or drops and counts it where too many wait.
    pub fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that the endpoint took.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Spans that were dropped: too many waited, the endpoint refused them, or the process ended.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// Tells people that spans are not taken, and why; once until they are taken again.
pub type Tell = Box<dyn Fn(&str) + Send>;

/// The thread that posts spans.
#[derive(Debug)]
pub struct Exporter {
    sink: Sink,
    /// Dropped to end the thread.
    stop: SyncSender<()>,
    ended: Receiver<()>,
}

impl Exporter {
    /// Begins to post what its sink takes.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(settings: Settings, tell: Tell) -> io::Result<Self> {
        let (spans, waiting) = mpsc::sync_channel(QUEUE);
        let ((stop, stopping), (end, ended)) = (mpsc::sync_channel(0), mpsc::sync_channel(1));
        let sink = Sink { spans, counts: Arc::default() };
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        let counts = Arc::clone(&sink.counts);
        let poster = Poster { settings, agent: config.into(), waiting, stopping, counts, tell, is_down: false };
        std::thread::Builder::new().name("otlp".into()).spawn(move || {
            poster.run();
            // Nobody waits any more where the process was in a hurry.
            let _ = end.send(());
        })?;
        Ok(Self { sink, stop, ended })
    }

    /// Takes its spans.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Posts what waits, for so long at most.
    pub fn close(self, patience: Duration) {
        drop(self.stop);
        // What is not posted by then is lost with the process.
        let _ = self.ended.recv_timeout(patience);
    }
}

/// A request that failed.
struct Refused {
    problem: String,
    /// Whether the same may be taken later.
    is_passing: bool,
}

struct Poster {
    settings: Settings,
    agent: ureq::Agent,
    waiting: Receiver<Span>,
    stopping: Receiver<()>,
    counts: Arc<Counts>,
    tell: Tell,
    /// Whether the last request failed, which was said.
    is_down: bool,
}

impl Poster {
    fn run(mut self) {
        loop {
            let is_stopping = self.is_stopping();
            let mut batch = match self.waiting.recv_timeout(if is_stopping { Duration::ZERO } else { LINGER }) {
                Ok(span) => vec![span],
                Err(RecvTimeoutError::Timeout) if !is_stopping => continue,
                Err(_) => return,
            };
            while batch.len() < BATCH
                && let Ok(span) = self.waiting.recv_timeout(if self.is_stopping() { Duration::ZERO } else { LINGER })
            {
                batch.push(span);
            }
            self.deliver(batch);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Posts spans until they are taken or refused for good; once when the process ends.
    fn deliver(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = encode(&self.settings.resource, spans);
        let mut pause = PAUSES.0;
        loop {
            let refused = match self.post(&body) {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.counts.sent.fetch_add(count - rejected, Ordering::Relaxed);
                    self.counts.dropped.fetch_add(rejected, Ordering::Relaxed);
                    self.is_down = false;
                    return;
                }
                Err(refused) => refused,
            };
            let Refused { problem, is_passing } = refused;
            if !std::mem::replace(&mut self.is_down, true) {
                (self.tell)(&format!("traces are not taken at {}: {problem}", self.settings.endpoint));
            }
            let is_over = !is_passing || self.stopping.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected);
            if is_over {
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                return;
            }
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    /// Posts a request; gives how many of its spans were rejected.
    fn post(&self, body: &[u8]) -> Result<u64, Refused> {
        let lost = |error: ureq::Error| Refused { problem: error.to_string(), is_passing: true };
        let mut request = self.agent.post(&self.settings.endpoint).header("Content-Type", "application/x-protobuf");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(body).map_err(lost)?;
        let status = answer.status().as_u16();
        let said = answer.body_mut().read_to_vec().map_err(lost)?;
        if (200..300).contains(&status) {
            let partial = ExportTraceServiceResponse::decode(&*said).unwrap_or_default().partial_success;
            return Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)));
        }
        let text: String =
            String::from_utf8_lossy(&said).chars().filter(|char| !char.is_control()).take(SHOWN).collect();
        Err(Refused { problem: format!("{status} {text}"), is_passing: matches!(status, 429 | 502 | 503 | 504) })
    }
}

/// Spans of a process as they are posted.
fn encode(resource: &[(String, String)], spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope { name: "bloctrain".into(), version: env!("CARGO_PKG_VERSION").into() };
    let attributes = resource.iter().map(|(key, value)| KeyValue::new(key, value.as_str())).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::message::{Status, Value};
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    fn span(name: &str) -> Span {
        Span { name: name.into(), ..Span::default() }
    }

    #[test]
    fn a_request_is_what_opentelemetrys_own_messages_are() {
        // Written by opentelemetry-proto 1.45.2 for Python.
        let golden = "0aa6010a190a170a0c736572766963652e6e616d6512070a05666c6565741288010a0e0a09626c6f63747261696e1201\
            3012760a10000102030405060708090a0b0c0d0e0f12080001020304050607220808090a0b0c0d0e0f2a05747261696e\
            30013900002a36fe9c97174100cac471fe9c97174a080a017412030a01784a070a0162120210014a070a016912021807\
            4a0e0a0164120921000000000000e03f7a0712037768791802";
        let attributes = vec![
            KeyValue::new("t", "x"),
            KeyValue::new("b", true),
            KeyValue::new("i", 7_u64),
            KeyValue::new("d", Value::DoubleValue(0.5)),
        ];
        let span = Span {
            trace_id: (0..16).collect(),
            span_id: (0..8).collect(),
            parent_span_id: (8..16).collect(),
            name: "train".into(),
            kind: 1,
            start_time_unix_nano: 1_700_000_000_000_000_000,
            end_time_unix_nano: 1_700_000_001_000_000_000,
            attributes,
            status: Some(Status { message: "why".into(), code: 2 }),
        };
        let resource = Resource { attributes: vec![KeyValue::new("service.name", "fleet")] };
        let scope = InstrumentationScope { name: "bloctrain".into(), version: "0".into() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: vec![span] }];
        let request =
            ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] };
        let hex: String = request.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }

    /// Reads a request with its headers, and answers.
    fn answer(mut stream: TcpStream, with: &str) -> (String, Vec<String>) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a line") > 0, "{head}");
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        reader.read_exact(&mut body).expect("a body");
        write!(stream, "HTTP/1.1 {with}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("answered");
        let request = ExportTraceServiceRequest::decode(&*body).expect("a request");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        (head, scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect())
    }

    fn started(address: &str) -> (Exporter, Arc<Mutex<Vec<String>>>) {
        let settings = Settings {
            endpoint: format!("http://{address}/v1/traces"),
            headers: vec![("x-team".into(), "snn".into())],
            resource: Vec::new(),
        };
        let said = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&said);
        let tell = Box::new(move |text: &str| lines.lock().expect("one at a time").push(text.to_owned()));
        (Exporter::start(settings, tell).expect("a thread"), said)
    }

    #[test]
    fn what_was_not_taken_is_posted_again_and_said_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (exporter, said) = started(&listener.local_addr().expect("bound").to_string());
        let sink = exporter.sink();
        ["a", "b"].into_iter().for_each(|name| sink.send(span(name)));
        let next = |with: &str| answer(listener.accept().expect("a request").0, with);
        let (head, names) = next("503 Service Unavailable");
        assert!(head.starts_with("POST /v1/traces ") && head.contains("x-team: snn"), "{head}");
        assert!(head.contains("application/x-protobuf") && names == ["a", "b"], "{names:?}");
        assert_eq!(next("429 Too Many Requests").1, ["a", "b"]);
        assert_eq!(next("200 OK").1, ["a", "b"]);
        sink.send(span("c"));
        assert_eq!(next("400 Bad Request").1, ["c"], "which is not posted again");
        sink.send(span("d"));
        let closing = std::thread::spawn(move || exporter.close(Duration::from_secs(20)));
        assert_eq!(next("200 OK").1, ["d"], "what waits is posted at the end");
        closing.join().expect("it ends");
        assert_eq!((sink.sent(), sink.dropped()), (3, 1));
        let said = said.lock().expect("one at a time").clone();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("503") && said[1].contains("400"), "{said:?}");
    }

    #[test]
    fn nobody_waits_for_an_endpoint_that_does_not_answer() {
        // It takes connections and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (exporter, _) = started(&listener.local_addr().expect("bound").to_string());
        let sink = exporter.sink();
        let count = QUEUE as u64 + 2 * BATCH as u64;
        (0..count).for_each(|_| sink.send(span("s")));
        assert!((1..=2 * BATCH as u64).contains(&sink.dropped()), "{}", sink.dropped());
        exporter.close(Duration::from_millis(50));
        assert_eq!(sink.sent(), 0);
    }
}
