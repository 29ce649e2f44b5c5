//! What a coordinator has for whoever operates it: health, metrics, KEDA's scaler, secrets that change.

use crate::certificate::{Authority, Pair, list};
use crate::server::{log, token};
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::fleet::{Fleet, Operations, serve_operated};
use bloctrain_coordinator::secret::Secrets;
use bloctrain_coordinator::server::Tls;
use bloctrain_coordinator::{Config, read_runs};
use bloctrain_operations::probe;
use bloctrain_proto::convert::to_json;
use bloctrain_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use bloctrain_proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{CancelRunRequest, SubmitRequest};
use bloctrain_store::{Artefacts, leader};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// A coordinator with everything for whoever operates it.
pub(crate) struct Operated {
    address: String,
    pub(crate) http: String,
    pub(crate) secrets: watch::Sender<Secrets>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Operated {
    pub(crate) async fn start(artefacts: &Artefacts, secrets: Secrets, standby: bool) -> Self {
        log();
        let (listener, web) = (TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await);
        let (listener, web) = (listener.expect("a port"), web.expect("a port"));
        let address = listener.local_addr().expect("bound").to_string();
        let http = web.local_addr().expect("bound").to_string();
        let (stop, stopping) = watch::channel(false);
        let Secrets { access, tls } = secrets.clone();
        let (addresses, store) = (vec![format!("http://{address}")], "memory://".into());
        let fleet = Fleet { listener, connections: 100, addresses, store, access, tls, standby };
        let (secrets, changes) = watch::channel(secrets);
        let operations = Operations { http: Some(web), secrets: Some(changes), ..Operations::default() };
        let config = Config { lease_ms: 60_000, heartbeat_ms: 1_000, settle_ms: 0, ..Config::fleet() };
        let artefacts = artefacts.clone();
        let serving = tokio::spawn(async move {
            let serving = serve_operated(config, fleet, operations, artefacts, Arc::new(|| 1_000), stopping);
            Box::pin(serving).await.expect("serves until it is stopped");
        });
        Self { address, http, secrets, stop, serving }
    }

    async fn ask(&self, question: &'static str) -> Result<(), String> {
        let address = self.http.clone();
        let answer = tokio::task::spawn_blocking(move || probe::ask(&address, question)).await;
        answer.expect("asked").map_err(|error| error.to_string())
    }

    /// Waits for the answer yes.
    pub(crate) async fn until(&self, question: &'static str) {
        let mut turn = tokio::time::interval(Duration::from_millis(10));
        while self.ask(question).await.is_err() {
            turn.tick().await;
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address").connect_lazy()
    }

    /// Tasks of the CPU pool, by the metric; and whether there should be workers.
    async fn tasks(&self) -> (f64, bool) {
        let pool = ScaledObjectRef {
            scaler_metadata: [("backend".into(), "cpu".into())].into(),
            ..ScaledObjectRef::default()
        };
        let mut scaler = ExternalScalerClient::new(self.channel());
        let spec = scaler.get_metric_spec(pool.clone()).await.expect("a metric").into_inner().metric_specs.remove(0);
        let request = GetMetricsRequest { scaled_object_ref: Some(pool.clone()), metric_name: spec.metric_name };
        let value = scaler.get_metrics(request).await.expect("a value").into_inner().metric_values.remove(0);
        let active = scaler.is_active(pool).await.expect("an answer").into_inner().result;
        (value.metric_value_float, active)
    }

    /// Waits for so many tasks of the CPU pool: what the scaler saw last may be a second old.
    async fn until_tasks(&self, wanted: f64) {
        let mut turn = tokio::time::interval(Duration::from_millis(50));
        while self.tasks().await != (wanted, wanted > 0.0) {
            turn.tick().await;
        }
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.http);
        let text = tokio::task::spawn_blocking(move || ureq::get(url).call()?.body_mut().read_to_string()).await;
        text.expect("asked").expect("answered")
    }

    pub(crate) async fn close(self) {
        self.stop.send_replace(true);
        self.serving.await.expect("it did not panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scaler_sees_work_at_the_active_coordinator_and_at_one_that_stands_by() {
    let folder = tempfile::tempdir().expect("a folder");
    let artefacts = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
    let active = Operated::start(&artefacts, Secrets::default(), false).await;
    active.until("active").await;
    assert!(leader::read(&artefacts).await.expect("reads").is_some(), "its address is there when it is active");
    let standby = Operated::start(&artefacts, Secrets::default(), true).await;
    standby.until("ready").await;
    assert!(standby.ask("active").await.expect_err("another one is").contains("stands by"));
    assert_eq!((active.tasks().await, standby.tasks().await), ((0.0, false), (0.0, false)));
    let mut runs = RunServiceClient::new(active.channel());
    let submission_json = to_json(&crate::fleet::submission(1, 2, 0));
    let run = runs.submit(SubmitRequest { submission_json }).await.expect("submitted").into_inner().run;
    // The first round.
    active.until_tasks(1.0).await;
    standby.until_tasks(1.0).await;
    let metrics = active.metrics().await;
    for line in [
        "bloctrain_coordinator_active 1.0",
        "bloctrain_runs{state=\"running\"} 1.0",
        "bloctrain_tasks_waiting{backend=\"cpu\"} 1.0",
        "bloctrain_tasks_stranded{backend=\"cpu\"} 1.0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    assert!(standby.metrics().await.contains("bloctrain_coordinator_active 0.0\n"));
    runs.cancel_run(CancelRunRequest { run }).await.expect("cancelled");
    active.until_tasks(0.0).await;
    standby.until_tasks(0.0).await;
    let mut scaler = ExternalScalerClient::new(active.channel());
    let refused = scaler.is_active(ScaledObjectRef::default()).await.expect_err("no backend");
    assert_eq!(refused.code(), Code::InvalidArgument);
    active.close().await;
    standby.until("active").await;
    standby.close().await;
    assert_eq!(read_runs(&artefacts).await.expect("reads").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_stand_by_one_takes_over_and_none_ends() {
    let artefacts = Artefacts::open("memory://").expect("opens");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(Operated::start(&artefacts, Secrets::default(), true).await);
    }
    let mut turn = tokio::time::interval(Duration::from_millis(20));
    for opening in 1..=4 {
        let active = loop {
            turn.tick().await;
            let mut found = None;
            for (place, coordinator) in all.iter().enumerate() {
                assert!(!coordinator.serving.is_finished(), "one took over from another");
                found = coordinator.ask("active").await.is_ok().then_some(place).or(found);
            }
            if let Some(place) = found {
                break place;
            }
        };
        let leader = leader::read(&artefacts).await.expect("reads").expect("published");
        assert_eq!(leader.opening, opening, "the state is opened once a turn");
        all.remove(active).close().await;
    }
    for left in all {
        left.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scaler_s_stream_says_when_work_comes_and_goes() {
    let artefacts = Artefacts::open("memory://").expect("opens");
    let active = Operated::start(&artefacts, Secrets::default(), false).await;
    active.until("active").await;
    let pool =
        ScaledObjectRef { scaler_metadata: [("backend".into(), "cpu".into())].into(), ..ScaledObjectRef::default() };
    let mut scaler = ExternalScalerClient::new(active.channel());
    let mut stream = scaler.stream_is_active(pool).await.expect("a stream").into_inner();
    assert!(!stream.message().await.expect("goes on").expect("says at once").result);
    let mut runs = RunServiceClient::new(active.channel());
    let submission_json = to_json(&crate::fleet::submission(1, 2, 0));
    runs.submit(SubmitRequest { submission_json }).await.expect("submitted");
    assert!(stream.message().await.expect("goes on").expect("says so").result);
    active.close().await;
}

pub(crate) fn guarded(kind: &str, certificate: Pair, client_ca: &Authority) -> Secrets {
    let name = |who: &str| vec![token(&format!("{who}-{kind}"))];
    let access = Access::new(&name("join"), &name("viewer"), &name("operator")).expect("long enough");
    Secrets {
        access,
        tls: Some(Tls { certificate: certificate.0, key: certificate.1, client_ca: Some(client_ca.pem.clone()) }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_certificates_change_without_a_restart() {
    let artefacts = Artefacts::open("memory://").expect("opens");
    let (old, new) = (Authority::new(), Authority::new());
    let sign = |authority: &Authority| (authority.sign("127.0.0.1", |_| {}), authority.sign("client", |_| {}));
    let ((old_server, old_client), (new_server, new_client)) = (sign(&old), sign(&new));
    let server = Operated::start(&artefacts, guarded("old", old_server, &old), false).await;
    server.until("active").await;
    let address = format!("https://{}", server.address);
    let call = async |authority: &Authority, client: &Pair, kind: &str| -> Result<(), Status> {
        list(&address, authority, Some(client), None, &token(&format!("viewer-{kind}"))).await
    };
    call(&old, &old_client, "old").await.expect("before the change");
    assert!(call(&new, &new_client, "old").await.is_err(), "the new authority is not known yet");
    server.secrets.send_replace(guarded("new", new_server, &new));
    call(&new, &new_client, "new").await.expect("after the change");
    let refused = call(&new, &new_client, "old").await.expect_err("the old token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(call(&old, &old_client, "new").await.is_err(), "the old certificates");
    // What cannot be used replaces nothing.
    let mut broken = guarded("new", (b"no certificate".to_vec(), Vec::new()), &new);
    broken.tls.as_mut().expect("set").key.clear();
    server.secrets.send_replace(broken);
    call(&new, &new_client, "new").await.expect("goes on with what was there");
    server.close().await;
}
