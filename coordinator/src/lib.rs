//! The coordinator of bloctrain: plans a run, hands out its tasks, keeps its state.
//!
//! [`run`] decides (pure), [`driver`] performs, [`store`] remembers, `rpc` speaks. [`App`] puts them together: the same
//! services serve workers and clients of this process through an in-memory channel, and later those of other machines.
//! This crate never links a tensor library.

pub mod collect;
pub mod driver;
mod rpc;
pub mod run;
pub mod store;

pub use driver::Clock;

use bloctrain_proto::MESSAGE_LIMIT;
use bloctrain_proto::v1::run_service_server::RunServiceServer;
use bloctrain_proto::v1::worker_service_server::WorkerServiceServer;
use bloctrain_shared::view::RunView;
use bloctrain_store::{Artefacts, StoreError};
use hyper_util::rt::TokioIo;
use run::State;
use run::record::Record;
use store::{Log, StateError};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};

/// How a coordinator behaves, whatever it coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds after the last heartbeat when a lease ends.
    pub lease_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { lease_ms: 10_000 }
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
        let (mut log, mut durable) = Box::pin(Log::open(&artefacts)).await?;
        let now = clock();
        durable.replay(Record::Opened, now);
        log.append(now, Record::Opened, &durable).await?;
        let (handle, driver) = driver::start(State::new(durable, config.lease_ms), log, artefacts.clone(), clock);
        let (connections, incoming) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let workers = WorkerServiceServer::new(rpc::WorkerRpc::new(handle.clone(), config.lease_ms))
            .max_decoding_message_size(MESSAGE_LIMIT);
        let runs = RunServiceServer::new(rpc::RunRpc::new(handle.clone(), artefacts)).max_decoding_message_size(MESSAGE_LIMIT);
        let router = Server::builder().add_service(workers).add_service(runs);
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
        drop(self.handle);
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
