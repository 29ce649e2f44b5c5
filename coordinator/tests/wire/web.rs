//! The HTTP address for people: who may do what, what pages of other sites may not, and answers as they are described.

use crate::certificate::{Authority, Pair};
use crate::operate::{Operated, guarded};
use crate::schema::Description;
use crate::server::{Server, token};
use bloctrain_coordinator::secret::Secrets;
use bloctrain_proto::convert::to_json;
use bloctrain_proto::v1::{Command, HeartbeatRequest, TaskId as Place};
use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::key;
use bloctrain_shared::stage::{Stage, TaskId};
use bloctrain_shared::summary::Summary;
use bloctrain_shared::task::{Failure, Progress, Report, RoundMetrics};
use bloctrain_shared::view::LostView;
use bloctrain_store::Artefacts;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What came back.
pub(crate) struct Got {
    pub(crate) status: u16,
    head: String,
    body: String,
}

impl Got {
    /// A header by its name.
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The words of a refusal.
    fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: String) -> Got {
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A peer that closes TLS without a word has said everything already.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Got { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(line: &str, host: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let host = if headers.starts_with("Host: ") { String::new() } else { format!("Host: {host}\r\n") };
    format!("{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Asks, with headers as they are given; nothing is added but the host.
pub(crate) async fn ask(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let stream = TcpStream::connect(address).await.expect("connects");
    exchange(stream, request(line, address, headers, body)).await
}

async fn get(address: &str, path: &str) -> Got {
    ask(address, &format!("GET {path}"), &[], "").await
}

/// The cookie that a token gets.
async fn cookie(address: &str, token: &str) -> (Got, String) {
    let body = json!({ "token": token }).to_string();
    let got = ask(address, "POST /api/v1/session", &[("X-Bloctrain", "1")], &body).await;
    let cookie = got.header("set-cookie").and_then(|value| value.split(';').next()).unwrap_or_default().to_owned();
    (got, cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_roles_are_those_of_grpc() {
    let server = Server::guarded().await.ready().await;
    let run = server.submit(1).await.expect("submitted");
    let (list, pause) = ("GET /api/v1/runs".to_owned(), format!("POST /api/v1/runs/{run}/pause"));
    let http = server.http.clone();
    let with = async |line: &str, token: &str| {
        ask(&http, line, &[("Authorization", &format!("Bearer {token}"))], "").await.status
    };
    for wrong in ["", "x", &token("join"), "operator-0123456789abcdeg"] {
        assert_eq!((with(&list, wrong).await, with(&pause, wrong).await), (401, 401), "{wrong}");
    }
    assert_eq!(get(&http, "/api/v1/runs").await.status, 401);
    assert_eq!((with(&list, &token("viewer")).await, with(&list, &token("operator")).await), (200, 200));
    for order in ["pause", "resume", "cancel", "delete"] {
        assert_eq!(with(&format!("POST /api/v1/runs/{run}/{order}"), &token("viewer")).await, 403, "{order}");
    }
    assert_eq!(server.view(&run).await.state.name(), "running", "nothing of it was done");
    assert_eq!(with(&pause, &token("operator")).await, 204);
    assert_eq!(server.view(&run).await.state.name(), "paused");
    assert_eq!(with(&format!("POST /api/v1/runs/{run}/resume"), &token("operator")).await, 204);
    assert_eq!(with(&format!("POST /api/v1/runs/{run}/delete"), &token("operator")).await, 400, "it has not ended");
    assert_eq!(with(&format!("POST /api/v1/runs/{run}/cancel"), &token("operator")).await, 204);
    assert_eq!(with(&format!("POST /api/v1/runs/{run}/delete"), &token("operator")).await, 204);
    assert_eq!(with(&format!("GET /api/v1/runs/{run}"), &token("operator")).await, 404);
    assert_eq!(with("GET /api/v1/runs/..%2f..%2fformat.json/history", &token("operator")).await, 404);
    for path in ["/", "/assets/app.js", "/api/v1/openapi.json", "/health/live", "/metrics"] {
        assert_eq!(get(&http, path).await.status, 200, "{path} tells no secrets");
    }
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_stands_for_a_token_and_no_other_site_can_use_it() {
    let server = Server::guarded().await.ready().await;
    let (http, run) = (server.http.clone(), server.submit(1).await.expect("submitted"));
    let (refused, nothing) = cookie(&http, "operator-0123456789abcdeg").await;
    assert_eq!((refused.status, nothing.as_str()), (401, ""));
    let (got, operator) = cookie(&http, &token("operator")).await;
    assert_eq!((got.status, got.json()["role"].as_str()), (200, Some("operator")));
    let flags = got.header("set-cookie").expect("a cookie");
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(flags.contains(flag), "{flags}");
    }
    assert!(!flags.contains("operator"), "the token is not in it");
    let own = [("Cookie", operator.as_str()), ("X-Bloctrain", "1")];
    assert_eq!(ask(&http, "GET /api/v1/runs", &own[..1], "").await.status, 200);
    let pause = format!("POST /api/v1/runs/{run}/pause");
    // What a page of another site could make a browser send.
    let origin = format!("http://{http}");
    for foreign in [
        vec![own[0]],
        vec![own[0], own[1], ("Origin", "https://evil.example")],
        vec![own[0], own[1], ("Origin", "null")],
        vec![own[0], own[1], ("Sec-Fetch-Site", "cross-site")],
        vec![own[0], own[1], ("Sec-Fetch-Site", "same-site")],
    ] {
        let got = ask(&http, &pause, &foreign, "").await;
        assert_eq!(got.status, 403, "{foreign:?}");
        assert!(got.header("access-control-allow-origin").is_none());
    }
    let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Headers", "x-bloctrain")];
    let got = ask(&http, "OPTIONS /api/v1/runs", &preflight, "").await;
    assert!(got.status >= 400 && got.header("access-control-allow-headers").is_none(), "{}", got.head);
    assert_eq!(ask(&http, "POST /api/v1/session", &[], "{}").await.status, 403, "nobody is signed in from elsewhere");
    assert_eq!(server.view(&run).await.state.name(), "running", "nothing of it was done");
    let page = [own[0], own[1], ("Origin", origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(ask(&http, &pause, &page, "").await.status, 204);
    assert_eq!(server.view(&run).await.state.name(), "paused");
    let (_, viewer) = cookie(&http, &token("viewer")).await;
    let viewer = [("Cookie", viewer.as_str()), ("X-Bloctrain", "1")];
    let refused = ask(&http, &format!("POST /api/v1/runs/{run}/cancel"), &viewer, "").await;
    assert_eq!(refused.status, 403);
    assert!(refused.error().contains("may only read"), "{}", refused.error());
    let out = ask(&http, "POST /api/v1/session/end", &own, "").await;
    assert!(out.status == 204 && out.header("set-cookie").is_some_and(|value| value.contains("Max-Age=0")));
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_holds_at_the_next_coordinator_and_ends_with_its_token() {
    let artefacts = Artefacts::open("memory://").expect("opens");
    let authority = Authority::new();
    let secrets = |kind: &str| Secrets { tls: None, ..guarded(kind, authority.sign("127.0.0.1", |_| {}), &authority) };
    let first = Operated::start(&artefacts, secrets("old"), false).await;
    first.until("active").await;
    let (_, cookie) = cookie(&first.http, &token("viewer-old")).await;
    let list = async |http: &str| ask(http, "GET /api/v1/runs", &[("Cookie", &cookie)], "").await.status;
    assert_eq!(list(&first.http).await, 200);
    first.close().await;
    let second = Operated::start(&artefacts, secrets("old"), false).await;
    second.until("active").await;
    assert_eq!(list(&second.http).await, 200, "it asks for nothing that the first one kept");
    second.secrets.send_replace(secrets("new"));
    assert_eq!(list(&second.http).await, 401);
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_the_page_may_do_and_open_ones_are_for_own_names() {
    let server = Server::open().await.ready().await;
    for path in ["/", "/assets/style.css", "/api/v1/runs", "/nothing", "/api/v1/nothing", "/assets/../Cargo.toml"] {
        let got = get(&server.http, path).await;
        let policy = got.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("require-trusted-types-for 'script'"), "{policy}");
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(got.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
    let page = get(&server.http, "/").await;
    let tag = page.header("etag").expect("a tag").to_owned();
    assert_eq!(ask(&server.http, "GET /", &[("If-None-Match", &tag)], "").await.status, 304);
    // A name that somebody else's page can have, pointed to this address (DNS rebinding).
    for (host, status) in
        [("evil.example:9090", 421), ("127.0.0.1.evil.example", 421), ("localhost:1", 200), ("[::1]:1", 200)]
    {
        let got = ask(&server.http, "GET /api/v1/runs", &[("Host", host)], "").await;
        assert_eq!(got.status, status, "{host}");
    }
    assert_eq!(ask(&server.http, "GET /metrics", &[("Host", "evil.example")], "").await.status, 200);
    server.close().await;
}

/// A client's end of TLS, with its certificate.
async fn secured(
    address: &str,
    authority: &Authority,
    identity: &Pair,
) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.pem).expect("PEM")).expect("an authority");
    let (chain, key) =
        (CertificateDer::from_pem_slice(&identity.0).expect("PEM"), PrivateKeyDer::from_pem_slice(&identity.1));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let config = config.with_client_auth_cert(vec![chain], key.expect("PEM")).expect("a certificate with its key");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1").expect("a name"), stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_has_tls_for_people_and_goes_on_in_the_clear_for_probes() {
    let artefacts = Artefacts::open("memory://").expect("opens");
    let authority = Authority::new();
    let server =
        Operated::start(&artefacts, guarded("a", authority.sign("127.0.0.1", |_| {}), &authority), false).await;
    server.until("active").await;
    assert_eq!(get(&server.http, "/metrics").await.status, 200);
    let got = get(&server.http, "/api/v1/runs?limit=3").await;
    let place = format!("https://{}/api/v1/runs?limit=3", server.http);
    assert_eq!((got.status, got.header("location")), (307, Some(place.as_str())));
    let token = token("operator-a");
    let bearer = [("Authorization", format!("Bearer {token}"))];
    let bearer: Vec<(&str, &str)> = bearer.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let plain = ask(&server.http, "POST /api/v1/runs/r/pause", &bearer, "").await;
    assert_eq!(plain.status, 403, "a token is not taken in the clear: {}", plain.body);
    let identity = authority.sign("client", |_| {});
    let stream = secured(&server.http, &authority, &identity).await.expect("a handshake");
    let got = exchange(stream, request("GET /api/v1/runs", &server.http, &bearer, "")).await;
    assert_eq!(got.status, 200);
    assert!(got.header("strict-transport-security").is_some());
    let stream = secured(&server.http, &authority, &identity).await.expect("a handshake");
    let body = json!({ "token": token }).to_string();
    let got = exchange(stream, request("POST /api/v1/session", &server.http, &[("X-Bloctrain", "1")], &body)).await;
    let flags = got.header("set-cookie").expect("a cookie");
    assert!(flags.starts_with("__Host-bloctrain_session=") && flags.contains("; Secure"), "{flags}");
    server.close().await;
}

/// A coordinator with runs in many states, so that every field of every answer has been there; its completed run, the
/// one that is at work, and the worker that works on it.
async fn busy() -> (Server, String, String, u64) {
    let server = Server::open().await.ready().await;
    let done = server.submit(1).await.expect("submitted");
    let honest = server.register("honest").await;
    server.work(honest).await;
    // What nobody else may try again fails.
    server.leave(honest).await;
    let figures =
        json!({ "accuracy": 0.5, "relative_compute": 0.25, "exit_fraction": [1.0], "calibration_error": 0.1 });
    let gates = json!([{ "tau": 0.5, "gamma": 0.75 }]);
    let point = json!({ "gates": gates, "validation": figures, "test": figures });
    let curve = json!({ "chosen": 0, "points": [point], "without_exits": point });
    server.artefacts.put(&key::model(&done, "curve.json"), Bytes::from(curve.to_string())).await.expect("written");
    let said = json!([{ "block": 1, "class": 0, "confidence": 0.75, "hard": 0.0 }]);
    let sample = json!({ "id": 7, "label": 1, "answer": 0, "probability": 0.75, "said": said, "png": "iVBORw0KGgo=" });
    let samples = json!({ "exits": [{ "block": 1, "answered": 3, "right": 2, "samples": [sample] }] });
    server
        .artefacts
        .put(&key::model(&done, key::MODEL_SAMPLES), Bytes::from(samples.to_string()))
        .await
        .expect("written");
    let failing = server.submit(2).await.expect("submitted");
    let worker = server.register("w1").await;
    for _ in 0..8 {
        let Some((task, lease_epoch)) = server.lease(worker).await else { break };
        let result = Err(Failure::Fatal { message: "no".into() });
        let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result };
        server.report(worker, &failing, to_json(&report)).await.expect("accepted");
    }
    let mut submission = crate::fleet::submission(3, 2, 0);
    (submission.spec.train.replicas, submission.spec.run.name) = (2, Some("rates/learning_rate=0.1,batch=8".into()));
    let running = server.submit_as(&submission).await.expect("submitted");
    let (task, lease_epoch) = server.lease(worker).await.expect("a task");
    let TaskId { block, stage, part, replica } = task.id;
    let task = Some(Place { block, stage: stage.name().into(), part, replica });
    let progress_json = to_json(&Progress { done: 1, total: 2, epochs: 2, ticks: 3, ..Progress::default() });
    let beat = HeartbeatRequest { worker, run: running.clone(), task, lease_epoch, progress_json };
    let answer = server.workers().heartbeat(beat).await.expect("heard").into_inner();
    assert_eq!(answer.command(), Command::GoOn);
    (server, done, running, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_they_are_described_and_nothing_is_described_that_is_not_there() {
    let (server, done, running, worker) = busy().await;
    let http = server.http.clone();
    let mut api = Description::new(get(&http, "/api/v1/openapi.json").await.json());
    let mut asked = Vec::new();
    for (path, query) in [
        ("/session", String::new()),
        ("/runs", "?limit=2".into()),
        ("/runs", String::new()),
        ("/runs/{run}", done.clone()),
        ("/runs/{run}", running.clone()),
        ("/runs/{run}/history", done.clone()),
        ("/runs/{run}/curve", done.clone()),
        ("/runs/{run}/samples", done.clone()),
        ("/runs/{run}/log", done.clone()),
        ("/workers", String::new()),
        ("/events", "?after=1".into()),
    ] {
        let (place, query) =
            if path.contains('{') { (path.replace("{run}", &query), String::new()) } else { (path.into(), query) };
        let got = get(&http, &format!("/api/v1{place}{query}")).await;
        assert_eq!(got.status, 200, "{place}: {}", got.body);
        api.answer("get", path, "200", &got.json());
        asked.push(("get".to_owned(), path.to_owned()));
    }
    let failed = get(&http, "/api/v1/runs").await.json()["runs"].as_array().expect("runs").clone();
    let failed = failed.iter().find(|row| row["state"] == "failed").expect("one failed")["run"]
        .as_str()
        .expect("an id")
        .to_owned();
    api.answer("get", "/runs/{run}", "200", &get(&http, &format!("/api/v1/runs/{failed}")).await.json());
    // Nobody may work on it any more.
    server.leave(worker).await;
    let open = get(&http, &format!("/api/v1/runs/{running}")).await.json();
    assert!(open["run"]["missing"].is_string(), "{open}");
    api.answer("get", "/runs/{run}", "200", &open);
    let got = get(&http, "/api/v1/runs/none").await;
    api.answer("get", "/runs/{run}", "default", &got.json());
    // What takes a fleet and its faults to come about is held against the types themselves.
    let task = TaskId { block: 1, stage: Stage::Train, part: 0, replica: 0 };
    api.value("Lost", &json!(LostView { task, workers: vec!["w".into()] }));
    api.value(
        "Summary",
        &json!(Summary { notes: vec!["n".into()], blocks: vec![Default::default()], ..Summary::default() }),
    );
    let line = HistoryLine {
        block: 1,
        stage: Stage::Train,
        epoch: 1,
        partial: true,
        round: 1,
        samples: 9,
        loss: 1.0,
        accuracy: 0.5,
        validation_accuracy: Some(0.5),
        firing_rate: 0.1,
        firing_rates: Some(vec![0.1]),
        learning_rate: 0.1,
        images_per_second: 9.0,
        seconds: 1.0,
        waiting_seconds: 0.1,
        peak_bytes: Some(1),
    };
    api.value("HistoryLine", &json!(line));
    api.value("Round", &json!(RoundMetrics { firing_rates: vec![0.1], ..RoundMetrics::default() }));
    let mut known = open.clone();
    known["run"]["lost"] = json!([LostView { task, workers: vec!["w".into()] }]);
    known["run"]["refused"] = json!([{ "worker": "w", "why": "no" }]);
    api.answer("get", "/runs/{run}", "200", &known);
    let unseen = api.unseen();
    assert_eq!(unseen, ["Login.token"], "described, and in no answer");
    for (method, path) in api.operations() {
        let place = path.replace("{run}", &running).replace("{order}", "pause");
        let query = if path == "/stream" { "?topic=none" } else { "" };
        let line = format!("{} /api/v1{place}{query}", method.to_uppercase());
        let got = ask(&http, &line, &[("X-Bloctrain", "1")], "").await;
        // A run that goes on has no package yet.
        let is_there = got.status != 404 || ["/curve", "/samples"].iter().any(|end| path.ends_with(end));
        assert!(is_there && got.status != 405, "{line}: {}", got.status);
    }
    assert!(asked.iter().all(|(method, path)| api.has(method, path)));
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markup_in_names_is_text_and_nothing_else() {
    let server = Server::open().await.ready().await;
    let markup = "<img src=x onerror=alert(1)>";
    let mut submission = crate::fleet::submission(1, 2, 0);
    submission.spec.run.name = Some(markup.into());
    submission.dataset.classes[0] = markup.into();
    let run = server.submit_as(&submission).await.expect("submitted");
    let worker = server.register(markup).await;
    server.lease(worker).await.expect("a task");
    let got = get(&server.http, &format!("/api/v1/runs/{run}")).await;
    let answer = got.json();
    assert_eq!(answer["run"]["name"], markup);
    assert_eq!(
        (&answer["detail"]["classes"][0], &answer["run"]["attempts"][0]["worker"]),
        (&json!(markup), &json!(markup))
    );
    for path in ["/api/v1/runs", "/api/v1/workers", "/api/v1/events"] {
        let got = get(&server.http, path).await;
        assert!(
            got.json().to_string().contains("onerror") && got.header("x-content-type-options") == Some("nosniff"),
            "{path}"
        );
    }
    server.close().await;
}
