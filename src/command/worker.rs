//! `worker`: one process of a fleet.

mod departure;
mod standing;

use super::connect::{Begun, dialer, tokens};
use super::machine::{self, bind, host};
use super::{random_seed, secret, stopwatch};
use crate::args::WorkerArgs;
use crate::failure::Failure;
use bloctrain_operations::http;
use bloctrain_operations::notice::Metadata;
use bloctrain_operations::reload::Reloads;
use bloctrain_store::{Artefacts, DiskCacheConfig};
use bloctrain_worker::device::Device;
use bloctrain_worker::engine;
use bloctrain_worker::session::client::{self, About, Equip, Tools};
use bloctrain_worker::session::discover;
use bloctrain_worker::stage::io::Io;
use bloctrain_worker::stage::prepared::Datasets;
use departure::Departure;
use standing::Worker;
use std::sync::Arc;
use tokio::runtime::Handle;

pub(crate) fn run(args: &WorkerArgs, pod: Option<String>) -> Result<(), Failure> {
    let device = args.device.resolve().map_err(Failure::usage)?;
    let token = tokens(args.connect.token_file.as_deref(), "BLOCTRAIN_JOIN_TOKEN")?;
    let dialer = dialer(&args.connect, token.first().map(String::as_str), Begun::Soon)?;
    let about = about(args, device, pod);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let metadata = args.preemption.map(|cloud| Metadata::new(cloud, args.metadata.as_deref()));
        let (departure, leaving) = Departure::await_signals(args.grace, metadata)?;
        let reloads = Arc::<Reloads>::default();
        secret::follow_connection(args.connect.clone(), dialer.credentials(), Arc::clone(&reloads))?;
        if let Some(address) = &args.http {
            let listener = bind(address).await?;
            let address = listener.local_addr()?;
            tracing::info!(http = %address, "metrics and health");
            tell!("{}", serde_json::json!({ "http": address.to_string() }));
            let standing = Arc::clone(&about.standing);
            let worker = Worker { standing, reloads, memory: about.memory_bytes, departure: departure.clone() };
            tokio::spawn(http::serve(listener, Arc::new(worker)));
        }
        let cache =
            args.cache_dir.clone().map(|folder| DiskCacheConfig { folder, limit_bytes: args.cache_size.as_u64() });
        let equip = equip(device, args.connect.store.clone(), cache, Handle::current());
        let ended = Box::pin(client::serve(dialer, about, equip, leaving)).await;
        if ended.is_ok() {
            departure.await_end_of_machine().await;
        }
        Ok(ended?)
    })
}

/// What this worker says of itself.
fn about(args: &WorkerArgs, device: Device, pod: Option<String>) -> About {
    About {
        name: args.name.clone().or(pod).unwrap_or_else(|| format!("{}-{}", host(), std::process::id())),
        backend: device.backend().to_owned(),
        precision: device.precision().to_owned(),
        device: device.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        memory_bytes: machine::memory(),
        instance: args.identity.clone().unwrap_or_else(|| format!("{:016x}{:016x}", random_seed(), random_seed())),
        store: String::new(),
        standing: Arc::default(),
        only_run: String::new(),
    }
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
