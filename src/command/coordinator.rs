//! `coordinator`: one process of a fleet.

use super::clock;
use super::connect::{read, tokens};
use crate::args::CoordinatorArgs;
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_coordinator::Config;
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::fleet::{self, Fleet};
use bloctrain_coordinator::server::Tls;
use bloctrain_store::Artefacts;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub(crate) fn run(args: &CoordinatorArgs) -> Result<(), Failure> {
    let access = access(args)?;
    let tls = tls(args)?;
    let artefacts = Artefacts::open(&args.store)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listen = TcpListener::bind(&args.listen).await;
        let listener = listen.with_context(|| format!("cannot listen on {}", args.listen)).map_err(Failure::Usage)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && !args.insecure && (tls.is_none() || !access.is_protected()) {
            return Err(Failure::Usage(anyhow::anyhow!(
                "{address} is reached from other machines: give --tls-cert and --tls-key, tokens of workers and operators (--join-token-file, --operator-token-file), or --insecure for a network that you trust"
            )));
        }
        let addresses = if args.advertise.is_empty() { vec![advertised(address, tls.is_some())] } else { args.advertise.clone() };
        tracing::info!(%address, store = args.store, "listening");
        // Scripts that let the system choose the port read it here.
        tell!("{}", serde_json::json!({ "listening": address.to_string(), "addresses": addresses }));
        let (stop, stopping) = watch::channel(false);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.send_replace(true);
        });
        let store = shared_address(artefacts.location());
        let lease_ms = u64::try_from(args.lease.as_millis()).unwrap_or(u64::MAX).max(1_000);
        let usual = Config::fleet();
        let stall_ms = u64::try_from(args.stall.as_millis()).unwrap_or(u64::MAX / 8).min(u64::MAX / 8);
        let config = Config { lease_ms, heartbeat_ms: usual.heartbeat_ms.min(lease_ms / 4), stall_ms, ..usual };
        let (connections, standby) = (args.max_connections as usize, args.standby);
        let fleet = Fleet { listener, connections, addresses, store, access, tls, standby };
        Ok(Box::pin(fleet::serve(config, fleet, artefacts, clock(), stopping)).await?)
    })
}

fn access(args: &CoordinatorArgs) -> Result<Access, Failure> {
    let join = tokens(args.join_token_file.as_deref(), "BLOCTRAIN_JOIN_TOKEN")?;
    let viewer = tokens(args.viewer_token_file.as_deref(), "BLOCTRAIN_VIEWER_TOKEN")?;
    let operator = tokens(args.operator_token_file.as_deref(), "BLOCTRAIN_OPERATOR_TOKEN")?;
    Access::new(&join, &viewer, &operator).map_err(Failure::usage)
}

fn tls(args: &CoordinatorArgs) -> Result<Option<Tls>, Failure> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let client_ca = args.tls_client_ca.as_deref().map(|path| read(path, "certificate authority")).transpose()?;
    Ok(Some(Tls { certificate: read(certificate, "certificate")?, key: read(key, "key")?, client_ca }))
}

/// The address that others use: the name of this machine where it listens on all interfaces.
fn advertised(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    if address.ip().is_unspecified() {
        return format!("{scheme}://{}:{}", super::worker::host(), address.port());
    }
    format!("{scheme}://{address}")
}

/// The store's address for other processes: a folder by its absolute path.
fn shared_address(location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    std::fs::canonicalize(Path::new(location)).map_or_else(|_| location.to_owned(), |path| path.to_string_lossy().into_owned())
}
