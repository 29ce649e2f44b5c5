//! A coordinator inside of another process, reached through a channel in memory.

use super::activate::{Activated, activate};
use super::rpc::Gate;
use super::secret::Secrets;
use super::server;
use crate::config::Config;
use crate::drive::environment::Environment;
use crate::drive::{Clock, Handle};
use crate::open::OpenError;
use bloctrain_store::Artefacts;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A running coordinator.
pub struct App {
    handle: Handle,
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
        let (_, secrets) = watch::channel(Secrets::default());
        let (router, _) = server::router(&gate, &secrets, &artefacts, &counters).await;
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
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
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
