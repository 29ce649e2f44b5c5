//! A coordinator inside of another process, reached through a channel in memory.

use super::access::Access;
use super::activate::{Activated, activate};
use super::fleet;
use super::http::Coordinator;
use super::rpc::Gate;
use super::secret::Secrets;
use super::server;
use super::web::{self, Site};
use crate::config::Config;
use crate::drive::counters::Counters;
use crate::drive::environment::Environment;
use crate::drive::{Clock, Handle};
use crate::open::OpenError;
use bloctrain_store::leader::{self, Leader};
use bloctrain_store::{Artefacts, Place};
use bloctrain_tracking::otlp::Sink;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A running coordinator.
pub struct App {
    gate: Gate,
    clock: Clock,
    counters: Arc<Counters>,
    traces: Option<Sink>,
    http: Option<JoinHandle<()>>,
    handle: Handle,
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    driver: JoinHandle<()>,
    presence: Option<Presence>,
}

/// On object storage, which has no locks: counts as a coordinator of a fleet does, under no address, so that nobody
/// takes the store from this one without being asked to.
struct Presence {
    artefacts: Artefacts,
    own: Leader,
    counting: JoinHandle<()>,
}

impl Presence {
    fn new(artefacts: Artefacts, own: Leader) -> Self {
        let (counted, mut leader) = (artefacts.clone(), own.clone());
        let counting = tokio::spawn(async move {
            // Whoever replaces this one fences its state, which then says so.
            fleet::lead(&counted, &mut leader).await;
        });
        Self { artefacts, own, counting }
    }

    async fn end(mut self) {
        self.counting.abort();
        let _ = (&mut self.counting).await;
        (self.own.released, self.own.beat) = (true, u64::MAX);
        if let Err(error) = leader::publish(&self.artefacts, &self.own).await {
            tracing::debug!(%error, "the store does not learn that this coordinator has stopped");
        }
    }
}

impl App {
    /// Opens the state in a store, takes it over from any earlier coordinator, and serves.
    ///
    /// # Errors
    /// When the store cannot be used or is of a newer version.
    pub async fn open(config: Config, artefacts: Artefacts, clock: Clock) -> Result<Self, OpenError> {
        Box::pin(Self::open_on(config, Environment::new(artefacts, clock))).await
    }

    /// As [`App::open`], on other ground.
    ///
    /// # Errors
    /// As [`App::open`].
    pub async fn open_on(config: Config, environment: Environment) -> Result<Self, OpenError> {
        let (artefacts, clock, traces) =
            (environment.artefacts.clone(), environment.clock.clone(), environment.traces.clone());
        artefacts.check_format().await?;
        let (gate, counters) = (Gate::default(), Arc::<Counters>::default());
        let (_, secrets) = watch::channel(Secrets::default());
        let (router, _) = server::router(&gate, &secrets, &artefacts, &counters).await;
        let store = artefacts.location().to_owned();
        let Activated { active, driver, opening, state } =
            Box::pin(activate(config, &environment, store, Arc::clone(&counters))).await?;
        let own = Leader { opening, addresses: Vec::new(), beat: 0, released: false, state };
        let presence = (artefacts.place() == Place::Remote).then(|| Presence::new(artefacts, own));
        let handle = active.handle.clone();
        gate.open(active);
        gate.set_leads(true);
        let (connections, incoming) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
            // An error means that the sender is gone, which is as good a reason to stop.
            stopped.await.ok();
        }));
        Ok(Self { gate, clock, counters, traces, http: None, handle, connections, stop, server, driver, presence })
    }

    /// A channel to this coordinator that never leaves the process.
    ///
    /// # Panics
    /// Never: the address is a constant.
    pub fn channel(&self) -> Channel {
        let connections = self.connections.clone();
        let connect = tower::service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (near, far) = tokio::io::duplex(1 << 16);
                let gone =
                    |_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the coordinator has stopped");
                connections.send(Ok(far)).await.map_err(gone)?;
                Ok::<_, std::io::Error>(TokioIo::new(near))
            }
        });
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connect)
    }

    /// Shows the dashboard, its API, metrics and health at an address, in the clear.
    pub fn show(&mut self, listener: TcpListener, access: Access) {
        let (gate, counters) = (self.gate.clone(), Arc::clone(&self.counters));
        let process = Coordinator {
            gate: gate.clone(),
            counters: Arc::clone(&counters),
            reloads: Arc::default(),
            traces: self.traces.clone(),
        };
        let secrets = watch::channel(Secrets { access, tls: None }).1;
        let site = Site::new(gate, secrets, counters, Arc::clone(&self.clock));
        self.http = Some(tokio::spawn(web::serve(listener, None, Arc::new(process), site)));
    }

    /// Why the coordinator stopped by itself, once it has.
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.handle.stopped()
    }

    /// Stops serving, writes what is pending and closes the state.
    pub async fn close(self) {
        drop(self.connections);
        self.http.iter().for_each(JoinHandle::abort);
        // The server may have stopped already.
        let _ = self.stop.send(());
        self.server.abort();
        let _ = self.server.await;
        self.handle.close().await;
        let _ = self.driver.await;
        if let Some(presence) = self.presence {
            presence.end().await;
        }
    }
}
