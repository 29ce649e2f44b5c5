//! The coordinator of bloctrain: plans a run, hands out its tasks, keeps its state.
//!
//! [`run`] decides (pure), [`driver`] performs, [`store`] remembers, `rpc` speaks. The same services serve workers and clients
//! of this process through an in-memory channel ([`App`]), and those of other machines ([`fleet`]). This crate never links a
//! tensor library.

pub mod access;
pub mod collect;
mod connection;
pub mod driver;
pub mod environment;
pub mod fleet;
pub mod journal;
mod refusal;
mod rows;
mod rpc;
pub mod run;
pub mod server;
pub mod store;
pub mod table;

pub use driver::Clock;
pub use rpc::{Gate, RunRpc, WorkerRpc};

use access::Access;
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_store::{Artefacts, StoreError};
use environment::Environment;
use hyper_util::rt::TokioIo;
use journal::Counters;
use rpc::Active;
use run::State;
use run::record::Record;
use std::sync::Arc;
use store::StateError;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// How a coordinator behaves, whatever it coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds after the last heartbeat when a lease ends.
    pub lease_ms: u64,
    /// Milliseconds between heartbeats of a worker.
    pub heartbeat_ms: u64,
    /// Milliseconds after a take-over in which workers of the earlier coordinator come back with what they hold, before it is
    /// given to others.
    pub settle_ms: u64,
}

impl Config {
    /// Everything in one process: frequent progress, nobody to wait for.
    pub const fn in_process() -> Self {
        Self { lease_ms: 10_000, heartbeat_ms: 500, settle_ms: 0 }
    }

    /// Many processes.
    pub const fn fleet() -> Self {
        Self { lease_ms: 10_000, heartbeat_ms: 2_000, settle_ms: 4_000 }
    }
}

/// A coordinator that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state in it cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The services cannot be built.
    #[error("the services cannot be built: {0}")]
    Services(String),
}

/// A coordinator that has taken over a store.
struct Activated {
    active: Active,
    driver: tokio::task::JoinHandle<()>,
    /// Number of its opening of the state.
    opening: u64,
}

/// Opens the state in a store and takes it over from any earlier coordinator.
async fn activate(
    config: Config,
    environment: &Environment,
    store: String,
    counters: Arc<Counters>,
) -> Result<Activated, OpenError> {
    let Environment { artefacts, clock, log, rules, spawn } = environment;
    let (mut log, mut durable) = log(artefacts.clone()).await?;
    let now = clock();
    durable.replay(Record::Opened, now);
    log.append(now, Record::Opened, &durable).await?;
    let opening = durable.openings;
    let goes_on = durable.runs.values().any(|run| run.state == RunState::Running);
    let settle = if goes_on { now + config.settle_ms } else { 0 };
    let state = State::new(durable, config.lease_ms).settle(settle);
    let (handle, driver) = driver::start(state, rules(), log, artefacts.clone(), Arc::clone(clock), counters);
    let driver = spawn(Box::pin(driver));
    Ok(Activated { active: Active { handle, artefacts: artefacts.clone(), config, store }, driver, opening })
}

/// A running coordinator.
pub struct App {
    handle: driver::Handle,
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    driver: tokio::task::JoinHandle<()>,
}

impl App {
    /// Opens the state in a store, takes it over from any earlier coordinator, and serves.
    ///
    /// # Errors
    /// When the store cannot be used or is of a newer version.
    pub async fn open(config: Config, artefacts: Artefacts, clock: Clock) -> Result<Self, OpenError> {
        artefacts.check_format().await?;
        let (gate, counters) = (Gate::default(), Arc::default());
        let (router, _) = server::router(&gate, Access::default(), None, &counters)
            .await
            .map_err(|error| OpenError::Services(error.to_string()))?;
        let store = artefacts.location().to_owned();
        let Activated { active, driver, .. } =
            Box::pin(activate(config, &Environment::new(artefacts, clock), store, counters)).await?;
        let handle = active.handle.clone();
        gate.open(active);
        let (connections, incoming) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
            // An error means that the sender is gone, which is as good a reason to stop.
            stopped.await.ok();
        }));
        Ok(Self { handle, connections, stop, server, driver })
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
                let gone = |_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the coordinator has stopped");
                connections.send(Ok(far)).await.map_err(gone)?;
                Ok::<_, std::io::Error>(TokioIo::new(near))
            }
        });
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connect)
    }

    /// Why the coordinator stopped by itself, once it has.
    pub fn stopped(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.handle.stopped()
    }

    /// Stops serving, writes what is pending and closes the state.
    pub async fn close(self) {
        drop(self.connections);
        // The server may have stopped already.
        let _ = self.stop.send(());
        self.server.abort();
        let _ = self.server.await;
        self.handle.close().await;
        let _ = self.driver.await;
    }
}

/// Runs in a store, without disturbing a coordinator that may be at work on it.
///
/// # Errors
/// When the store cannot be used or is of a newer version.
pub async fn read_runs(artefacts: &Artefacts) -> Result<Vec<RunView>, OpenError> {
    artefacts.check_format().await?;
    Ok(Box::pin(store::read(artefacts)).await?.views())
}
