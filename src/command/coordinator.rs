//! `coordinator`: one process of a fleet.

use super::clock;
use super::machine::{bind, host};
use super::secret::OfCoordinator;
use super::track::{DROPPED, POSTED, traces};
use crate::args::CoordinatorArgs;
use crate::failure::Failure;
use bloctrain_coordinator::Config;
use bloctrain_coordinator::fleet::{self, Fleet, Operations};
use bloctrain_coordinator::secret::Secrets;
use bloctrain_operations::reload::Reloads;
use bloctrain_store::Artefacts;
use bloctrain_tracking::otlp::Exporter;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub(crate) fn run(args: &CoordinatorArgs) -> Result<(), Failure> {
    let material = OfCoordinator::read(args)?;
    let secrets = material.secrets()?;
    let traces = traces(args.otlp.as_deref(), Box::new(|problem| tracing::warn!("{problem}; {DROPPED}")))?;
    let artefacts = Artefacts::open(&args.store)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sink = traces.as_ref().map(Exporter::sink);
    let served = runtime.block_on(async {
        let listener = bind(&args.listen).await?;
        let address = listener.local_addr()?;
        check_exposure(args, address, &secrets)?;
        let http = match &args.http {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        http.as_ref()
            .map(TcpListener::local_addr)
            .transpose()?
            .map_or(Ok(()), |http| check_exposure(args, http, &secrets))?;
        let is_tls = secrets.tls.is_some();
        let addresses =
            if args.advertise.is_empty() { vec![advertised(address, is_tls)] } else { args.advertise.clone() };
        let http_address = http.as_ref().map(TcpListener::local_addr).transpose()?.map(|address| address.to_string());
        tracing::info!(%address, http = http_address, store = args.store, "listening");
        // Scripts that let the system choose the ports read them here.
        let said =
            serde_json::json!({ "listening": address.to_string(), "addresses": addresses, "http": http_address });
        tell!("{said}");
        let stopping = stopping()?;
        let lease_ms = u64::try_from(args.lease.as_millis()).unwrap_or(u64::MAX).max(1_000);
        let usual = Config::fleet();
        let stall_ms = u64::try_from(args.stall.as_millis()).unwrap_or(u64::MAX / 8).min(u64::MAX / 8);
        let config = Config { lease_ms, heartbeat_ms: usual.heartbeat_ms.min(lease_ms / 4), stall_ms, ..usual };
        let (connections, standby) = (args.max_connections as usize, args.standby);
        let store = shared_address(artefacts.location());
        let Secrets { access, tls } = secrets;
        let fleet = Fleet { listener, connections, addresses, store, access, tls, standby };
        let reloads = Arc::<Reloads>::default();
        let secrets = Some(material.follow(args.clone(), Arc::clone(&reloads))?);
        let operations = Operations { http, secrets, reloads, traces: sink };
        Ok(Box::pin(fleet::serve_operated(config, fleet, operations, artefacts, clock(), stopping)).await?)
    });
    traces.into_iter().for_each(|traces| traces.close(POSTED));
    served
}

/// Refuses to let strangers in unless that is asked for.
fn check_exposure(args: &CoordinatorArgs, address: SocketAddr, secrets: &Secrets) -> Result<(), Failure> {
    let is_protected = secrets.tls.is_some() && secrets.access.is_protected();
    if address.ip().is_loopback() || args.insecure || is_protected {
        return Ok(());
    }
    Err(Failure::Usage(anyhow::anyhow!(
        "{address} is reached from other machines: give --tls-cert and --tls-key, tokens of workers and operators \
        (--join-token-file, --operator-token-file), or --insecure for a network that you trust"
    )))
}

/// Turns true at SIGINT or SIGTERM.
fn stopping() -> Result<watch::Receiver<bool>, Failure> {
    let (stop, stopping) = watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    });
    Ok(stopping)
}

/// The address that others use: the name of this machine where it listens on all interfaces.
fn advertised(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    if address.ip().is_unspecified() {
        return format!("{scheme}://{}:{}", host(), address.port());
    }
    format!("{scheme}://{address}")
}

/// The store's address for other processes: a folder by its absolute path.
fn shared_address(location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    std::fs::canonicalize(Path::new(location))
        .map_or_else(|_| location.to_owned(), |path| path.to_string_lossy().into_owned())
}
