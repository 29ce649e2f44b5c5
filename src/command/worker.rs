//! `worker`: one process of a fleet.

use super::connect::{Begun, dialer, tokens};
use super::{random_seed, stopwatch};
use crate::args::WorkerArgs;
use crate::failure::Failure;
use bloctrain_store::{Artefacts, DiskCacheConfig};
use bloctrain_worker::device::Device;
use bloctrain_worker::engine;
use bloctrain_worker::session::client::{self, About, Equip, Leaving, Tools};
use bloctrain_worker::session::discover;
use bloctrain_worker::stage::io::Io;
use bloctrain_worker::stage::prepared::Datasets;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub(crate) fn run(args: &WorkerArgs) -> Result<(), Failure> {
    let device = args.device.resolve().map_err(Failure::usage)?;
    let token = tokens(args.connect.token_file.as_deref(), "BLOCTRAIN_JOIN_TOKEN")?;
    let dialer = dialer(&args.connect, token.first().map(String::as_str), Begun::Soon)?;
    let about = About {
        name: args.name.clone().unwrap_or_else(|| format!("{}-{}", host(), std::process::id())),
        backend: device.backend().to_owned(),
        precision: device.precision().to_owned(),
        device: device.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        memory_bytes: memory(),
        instance: format!("{:016x}{:016x}", random_seed(), random_seed()),
        store: String::new(),
        only_run: String::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (leave, leaving) = watch::channel(Leaving::No);
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(asked_to_leave(interrupt, terminate, args.grace, leave));
        let cache = args.cache_dir.clone().map(|folder| DiskCacheConfig { folder, limit_bytes: args.cache_size.as_u64() });
        let equip = equip(device, args.connect.store.clone(), cache, Handle::current());
        Ok(Box::pin(client::serve(dialer, about, equip, leaving)).await?)
    })
}

/// Opens the store, this worker's own or the fleet's, and starts the computing thread.
fn equip(device: Device, own: Option<String>, cache: Option<DiskCacheConfig>, runtime: Handle) -> Equip {
    Box::new(move |fleet| {
        let store = own.as_deref().unwrap_or(fleet);
        let artefacts = Artefacts::existing(store).map_err(|error| error.to_string())?;
        let artefacts = match &cache {
            Some(cache) => artefacts.with_cache(cache),
            None => artefacts,
        };
        let io = Io::new(artefacts.clone(), runtime);
        let engine = engine::start(device, io, Datasets::default(), stopwatch()).map_err(|error| error.to_string())?;
        Ok(Tools { engine, artefacts: artefacts.clone(), discover: Some(discover::in_store(artefacts)) })
    })
}

/// The first signal asks to leave soon; the second, or the end of the grace period, at once.
async fn asked_to_leave(
    mut interrupt: tokio::signal::unix::Signal,
    mut terminate: tokio::signal::unix::Signal,
    grace: Duration,
    leave: watch::Sender<Leaving>,
) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!(grace = grace.as_secs_f64(), "asked to leave: the task comes to an end first");
    leave.send_replace(Leaving::Soon);
    let mut over = tokio::time::interval(grace.max(Duration::from_millis(1)));
    over.tick().await;
    tokio::select! {
        _ = over.tick() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    leave.send_replace(Leaving::Now);
    // The session ends by itself; this keeps the channel open until then.
    std::future::pending::<()>().await;
}

/// Name of this machine.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// Memory that this process may take in bytes, of the machine or of the container that it is in; 0 where the system does not
/// say.
fn memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    system.total_memory().min(limit)
}
