//! A coordinator on a socket of its own, and calls to it that no honest client would make.

use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::fleet::{CONNECTIONS, Fleet, Operations, serve_operated};
use bloctrain_coordinator::server::Tls;
use bloctrain_coordinator::{Config, read_runs};
use bloctrain_proto::convert::{from_grant, from_json, to_json};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::worker_service_client::WorkerServiceClient;
use bloctrain_proto::v1::*;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Submission};
use bloctrain_shared::task::{Report, Task};
use bloctrain_shared::view::RunView;
use bloctrain_store::Artefacts;
use bytes::{Buf, BufMut, Bytes};
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Tokens of a kind, long enough to be taken.
pub(crate) fn token(kind: &str) -> String {
    format!("{kind}-0123456789abcdef")
}

/// A coordinator that is at work.
pub(crate) struct Server {
    pub(crate) address: String,
    /// Address of metrics, API and dashboard.
    pub(crate) http: String,
    pub(crate) channel: Channel,
    pub(crate) artefacts: Artefacts,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    /// Token for looking at it.
    operator: Option<String>,
}

impl Server {
    /// One that takes everybody.
    pub(crate) async fn open() -> Self {
        Self::start(Access::default(), None, None).await
    }

    /// One with tokens of every kind.
    pub(crate) async fn guarded() -> Self {
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| token(kind)).collect::<Vec<_>>();
        let access =
            Access::new(&kinds(&["join", "join2"]), &kinds(&["viewer"]), &kinds(&["operator"])).expect("long enough");
        Self::start(access, None, Some(token("operator"))).await
    }

    pub(crate) async fn start(access: Access, tls: Option<Tls>, operator: Option<String>) -> Self {
        let artefacts = Artefacts::open("memory://").expect("opens");
        Self::start_on(artefacts, access, tls, operator).await
    }

    pub(crate) async fn start_on(
        artefacts: Artefacts,
        access: Access,
        tls: Option<Tls>,
        operator: Option<String>,
    ) -> Self {
        Self::start_with(CONNECTIONS as usize, artefacts, access, tls, operator).await
    }

    /// One that takes everybody, but only so many connections.
    pub(crate) async fn narrow(connections: usize) -> Self {
        Self::start_with(connections, Artefacts::open("memory://").expect("opens"), Access::default(), None, None).await
    }

    /// One that takes everybody, and says little in a message.
    pub(crate) async fn terse() -> Self {
        let store = Artefacts::open("memory://").expect("opens");
        Self::start_inline(8, CONNECTIONS as usize, store, Access::default(), None, None).await
    }

    async fn start_with(
        connections: usize,
        artefacts: Artefacts,
        access: Access,
        tls: Option<Tls>,
        operator: Option<String>,
    ) -> Self {
        Self::start_inline(1 << 20, connections, artefacts, access, tls, operator).await
    }

    async fn start_inline(
        inline_bytes: usize,
        connections: usize,
        artefacts: Artefacts,
        access: Access,
        tls: Option<Tls>,
        operator: Option<String>,
    ) -> Self {
        log();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let web = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let http = web.local_addr().expect("bound").to_string();
        let (stop, stopping) = watch::channel(false);
        let (addresses, store) = (Vec::new(), "memory://".into());
        let fleet = Fleet { listener, connections, addresses, store, access, tls, standby: false };
        let config = Config { lease_ms: 60_000, heartbeat_ms: 1_000, settle_ms: 0, stall_ms: 0, inline_bytes };
        let store = artefacts.clone();
        let serving = tokio::spawn(async move {
            let operations = Operations { http: Some(web), ..Operations::default() };
            let serving = serve_operated(config, fleet, operations, store, Arc::new(|| 1_000), stopping);
            Box::pin(serving).await.expect("serves until it is stopped");
        });
        let address = format!("http://127.0.0.1:{port}");
        let channel = Endpoint::from_str(&address).expect("an address").connect_lazy();
        Self { address, http, channel, artefacts, stop, serving, operator }
    }

    /// Waits until it is active: before, calls are answered with UNAVAILABLE.
    pub(crate) async fn ready(self) -> Self {
        let mut turn = tokio::time::interval(std::time::Duration::from_millis(5));
        while self.runs().list_runs(self.look(ListRunsRequest::default())).await.is_err() {
            turn.tick().await;
        }
        self
    }

    /// Stops it in order; gives the store.
    pub(crate) async fn close(self) -> Artefacts {
        self.stop.send_replace(true);
        self.serving.await.expect("it did not panic");
        self.artefacts
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    fn look<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.operator {
            request.metadata_mut().insert("authorization", bearer(token));
        }
        request
    }

    /// Everything that may be seen of it: runs, workers, what lasts, and the objects in its store.
    pub(crate) async fn state(&self) -> (Vec<String>, Vec<String>, Vec<RunView>, Vec<(String, u64)>) {
        let runs =
            self.runs().list_runs(self.look(ListRunsRequest::default())).await.expect("answers").into_inner().view_json;
        let workers =
            self.runs().list_workers(self.look(ListWorkersRequest {})).await.expect("answers").into_inner().worker_json;
        let lasting = read_runs(&self.artefacts).await.expect("reads");
        let mut objects = self.artefacts.list("").await.expect("lists");
        // Histories are written beside the calls, a moment later.
        objects.retain(|(key, _)| !["state/", "leader/", "models/"].iter().any(|own| key.starts_with(own)));
        (runs, workers, lasting, objects)
    }

    pub(crate) async fn view(&self, run: &str) -> RunView {
        let answer = self.runs().get_run(self.look(GetRunRequest { run: run.into() })).await.expect("a run");
        from_json(&answer.into_inner().view_json).expect("a view")
    }

    /// Sends any bytes to any call; gives the first answer.
    pub(crate) async fn call(
        &self,
        path: &str,
        authorization: Option<MetadataValue<Ascii>>,
        message: Bytes,
    ) -> Result<(), Status> {
        let mut request = Request::new(message);
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value);
        }
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_str(path).expect("a path");
        let mut answers = grpc.server_streaming(request, path, Raw).await?.into_inner();
        answers.message().await.map(drop)
    }

    /// Submits a run of two epochs.
    pub(crate) async fn submit(&self, seed: u64) -> Result<String, Status> {
        self.submit_as(&crate::fleet::submission(seed, 2, 0)).await
    }

    /// Submits what is given.
    pub(crate) async fn submit_as(&self, submission: &Submission) -> Result<String, Status> {
        let request = self.look(SubmitRequest { submission_json: to_json(submission) });
        self.runs().submit(request).await.map(|answer| answer.into_inner().run)
    }

    pub(crate) async fn cancel(&self, run: &str) {
        self.runs().cancel_run(self.look(CancelRunRequest { run: run.into() })).await.expect("cancelled");
    }

    pub(crate) async fn register(&self, name: &str) -> u64 {
        self.register_for(name, "").await
    }

    /// The same for a worker that takes tasks of one run only.
    async fn register_for(&self, name: &str, run: &str) -> u64 {
        let request = RegisterRequest {
            name: name.into(),
            only_run: run.into(),
            backend: "cpu".into(),
            arithmetic: ARITHMETIC_VERSION,
            store: self.artefacts.identity().await.expect("a store"),
            ..RegisterRequest::default()
        };
        self.workers().register(request).await.expect("registers").into_inner().worker
    }

    /// Asks for a task.
    pub(crate) async fn lease(&self, worker: u64) -> Option<(Task, u64)> {
        let answer = self.workers().lease(LeaseRequest { worker, wait_ms: 0 }).await.expect("answers").into_inner();
        answer.grant.map(|grant| from_grant(grant).expect("a grant"))
    }

    /// Leaves; it may have left already.
    pub(crate) async fn leave(&self, worker: u64) {
        let _ = self.workers().leave(LeaveRequest { worker }).await;
    }

    /// Reports; the report's text may be anything.
    pub(crate) async fn report(&self, worker: u64, run: &str, report_json: String) -> Result<(), Status> {
        self.workers().complete(CompleteRequest { worker, run: run.into(), report_json }).await.map(drop)
    }

    /// An honest worker does everything that is left of all runs.
    pub(crate) async fn finish(&self) {
        self.work(self.register("honest").await).await;
    }

    /// The same of one run.
    pub(crate) async fn finish_run(&self, run: &str) {
        self.work(self.register_for("honest", run).await).await;
    }

    /// A worker does everything that is left.
    pub(crate) async fn work(&self, worker: u64) {
        while let Some((task, lease_epoch)) = self.lease(worker).await {
            let result = Ok(crate::fleet::output(&task, 2));
            let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result };
            self.report(worker, &task.run, to_json(&report)).await.expect("the truth is accepted");
        }
    }
}

/// A header with a token.
pub(crate) fn bearer(token: &str) -> MetadataValue<Ascii> {
    format!("Bearer {token}").parse().expect("a header")
}

/// Every call of the two services, from their descriptors.
pub(crate) fn calls() -> Vec<String> {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(bloctrain_proto::DESCRIPTORS).expect("descriptors");
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect()
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let bytes = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(bytes)))
    }
}

/// What the coordinators of this process have logged; all of them share it.
pub(crate) fn log() -> String {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Log(Arc::clone(&log));
        let filter = tracing_subscriber::EnvFilter::new("bloctrain=info");
        tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(move || writer.clone()).init();
        log
    });
    String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
