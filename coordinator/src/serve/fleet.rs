//! A coordinator of a fleet: listens, stands by or takes over, publishes its address, and stops in order.
//!
//! The active coordinator writes its address with a counter into the store every second. One that stands by takes over
//! when the counter has not moved for `SILENCE` and no other one was first to claim the turn: it opens the state, which
//! fences the other, and publishes its own address. A coordinator that finds a newer one, or whose writes are
//! fenced, stops.

use super::access::Access;
use super::activate::activate;
use super::connection;
use super::handshake::{self, Current};
use super::http::Coordinator;
use super::rpc::Gate;
use super::secret::Secrets;
use super::server::{Tls, router, set_active};
use super::tls::{GRPC, WEB};
use super::web::{self, Site};
use crate::config::Config;
use crate::drive::Clock;
use crate::drive::counters::Counters;
use crate::drive::environment::Environment;
use crate::open::OpenError;
use bloctrain_operations::reload::Reloads;
use bloctrain_store::leader::{self, Leader};
use bloctrain_store::{Artefacts, StoreError};
use bloctrain_tracking::otlp::Sink;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic_health::server::HealthReporter;

/// Pause between two counts of the active coordinator, and between two looks of one that stands by.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// Looks without a change after which the active coordinator counts as gone.
pub(super) const SILENCE: u32 = 4;

/// Longest time that open calls have to end when a coordinator stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Connections that a coordinator takes unless it is told otherwise.
pub const CONNECTIONS: u32 = 10_000;

/// How a coordinator appears to its fleet.
pub struct Fleet {
    /// Where it listens.
    pub listener: TcpListener,
    /// Most connections at once; one of a worker, one of a command. Above, calls are refused.
    pub connections: usize,
    /// Addresses that it publishes.
    pub addresses: Vec<String>,
    /// Address of the store, for workers and submitters.
    pub store: String,
    /// Who may call.
    pub access: Access,
    /// Its certificates; plain text without.
    pub tls: Option<Tls>,
    /// Whether it waits for an active coordinator to go, instead of taking over at once.
    pub standby: bool,
}

/// A coordinator that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It cannot start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listener or the certificates cannot be used.
    #[error("the coordinator cannot serve: {0}")]
    Serve(String),
    /// Its state cannot be kept.
    #[error("{0}")]
    Stopped(String),
    /// Another coordinator took over.
    #[error("another coordinator has taken over this store; one with --standby waits for its turn instead")]
    Replaced,
}

/// A coordinator apart from its listener: which addresses it publishes, and whether it waits for its turn.
pub struct Seat {
    addresses: Vec<String>,
    store: String,
    standby: bool,
    health: Option<HealthReporter>,
}

impl Seat {
    /// A seat that publishes addresses and the store's; with `standby` it waits for an active coordinator to go.
    pub fn new(addresses: Vec<String>, store: String, standby: bool) -> Self {
        Self { addresses, store, standby, health: None }
    }

    async fn says(&self, active: bool) {
        if let Some(health) = &self.health {
            set_active(health, active).await;
        }
    }
}

/// What a coordinator has for whoever operates it; nothing of it is needed.
#[derive(Default)]
pub struct Operations {
    /// Where it serves metrics, health, the API and the dashboard.
    pub http: Option<TcpListener>,
    /// Tokens and certificates that replace those of [`Fleet`] while it serves.
    pub secrets: Option<watch::Receiver<Secrets>>,
    /// How often that happened.
    pub reloads: Arc<Reloads>,
    /// Takes spans of what it does.
    pub traces: Option<Sink>,
}

/// Serves until `stop` turns true.
///
/// # Errors
/// When it cannot start, or another coordinator took over.
pub async fn serve(
    config: Config,
    fleet: Fleet,
    artefacts: Artefacts,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), FleetError> {
    Box::pin(serve_operated(config, fleet, Operations::default(), artefacts, clock, stop)).await
}

/// As [`serve`], for a coordinator that is looked after.
///
/// # Errors
/// When it cannot start, or another coordinator took over.
pub async fn serve_operated(
    config: Config,
    fleet: Fleet,
    operations: Operations,
    artefacts: Artefacts,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), FleetError> {
    let (gate, counters) = (Gate::default(), Arc::<Counters>::default());
    let given = || watch::channel(Secrets { access: fleet.access, tls: fleet.tls }).1;
    let secrets = operations.secrets.unwrap_or_else(given);
    let certificates = |protocols: &'static [&'static [u8]]| {
        let found = Current::new(secrets.clone(), protocols);
        found.map_err(|error| FleetError::Serve(error.to_string()))
    };
    let http = match operations.http {
        Some(listener) => {
            let (reloads, traces) = (operations.reloads, operations.traces.clone());
            let process = Coordinator { gate: gate.clone(), counters: Arc::clone(&counters), reloads, traces };
            let site = Site::new(gate.clone(), secrets.clone(), Arc::clone(&counters), Arc::clone(&clock));
            Some(Ends(tokio::spawn(web::serve(listener, certificates(&WEB)?, Arc::new(process), site))))
        }
        None => None,
    };
    artefacts.check_format().await?;
    let (router, health) = router(&gate, &secrets, &artefacts, &counters).await;
    let (close, closed) = watch::channel(false);
    let incoming = connection::accept(fleet.listener, fleet.connections, Arc::clone(&counters));
    let server = match certificates(&GRPC)? {
        None => tokio::spawn(router.serve_with_incoming_shutdown(Box::pin(incoming), asked(closed))),
        Some(certificates) => {
            let incoming = handshake::secured(incoming, certificates);
            tokio::spawn(router.serve_with_incoming_shutdown(Box::pin(incoming), asked(closed)))
        }
    };
    let seat = Seat { health: Some(health), ..Seat::new(fleet.addresses, fleet.store, fleet.standby) };
    let environment = Environment::new(artefacts, clock).traced(operations.traces);
    let ended = Box::pin(hold(config, seat, &environment, &gate, counters, stop)).await;
    close.send_replace(true);
    if timeout(DRAIN, server).await.is_err() {
        tracing::debug!("some calls were still open");
    }
    drop(http);
    ended
}

/// Waits for its turn, takes over, opens the gate, and leads until `stop` turns true. Dropping this future ends the
/// driver.
///
/// # Errors
/// When the state cannot be opened or kept, or another coordinator took over.
pub async fn hold(
    config: Config,
    seat: Seat,
    environment: &Environment,
    gate: &Gate,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), FleetError> {
    let artefacts = &environment.artefacts;
    let who = format!("{}, process {}, since {}", seat.addresses.join(" "), std::process::id(), (environment.clock)());
    if seat.standby && !wait_for_turn(artefacts, &who, gate, &mut stop).await {
        return Ok(());
    }
    let active = Box::pin(activate(config, environment, seat.store.clone(), counters)).await?;
    let (handle, mut driver, opening) = (active.active.handle.clone(), Ends(active.driver), active.opening);
    gate.open(active.active);
    let mut own = Leader { opening, addresses: seat.addresses.clone(), beat: 0, released: false, state: active.state };
    leader::publish(artefacts, &own).await?;
    gate.set_leads(true);
    seat.says(true).await;
    tracing::info!(address = own.addresses.join(" "), opening, "this coordinator is active");
    let mut failed = handle.stopped();
    let ended = tokio::select! {
        biased;
        () = asked(stop) => Ok(()),
        _ = failed.wait_for(Option::is_some) => {
            Err(FleetError::Stopped(handle.stopped().borrow().clone()
                .unwrap_or_else(|| "the coordinator has stopped".into())))
        }
        error = lead(artefacts, &mut own) => Err(error),
    };
    gate.set_leads(false);
    seat.says(false).await;
    handle.close().await;
    // It may have ended with an error, which is known by now.
    let _ = (&mut driver.0).await;
    if ended.is_ok() {
        own.released = true;
        leader::publish(artefacts, &own).await?;
    }
    ended
}

/// A task that ends with whoever holds it.
struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn asked(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until no other coordinator counts any more, and it is this one's turn; false when this one is asked to stop
/// instead.
async fn wait_for_turn(artefacts: &Artefacts, who: &str, gate: &Gate, stop: &mut watch::Receiver<bool>) -> bool {
    let mut look = interval(BEAT);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Looks at which nothing moved: the active coordinator's count, and whoever is to follow it.
    let (mut seen, mut silent, mut passed_over) = (None, 0, 0);
    tracing::info!("this coordinator stands by");
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return false,
            _ = look.tick() => {}
        }
        let leader = leader::read(artefacts).await;
        gate.set_stands_by(leader.is_ok());
        let gone = match leader {
            Ok(None) => 0,
            Ok(Some(leader)) if leader.released => leader.opening,
            Ok(Some(leader)) if seen == Some((leader.opening, leader.beat)) => {
                silent += 1;
                if silent < SILENCE {
                    continue;
                }
                tracing::warn!(opening = leader.opening, "the active coordinator is silent");
                leader.opening
            }
            Ok(Some(leader)) => {
                (seen, silent, passed_over) = (Some((leader.opening, leader.beat)), 0, 0);
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "the store does not say who is active");
                continue;
            }
        };
        // A store that knows no conditions is an error that opening the state tells.
        if leader::claim(artefacts, gone, who).await.unwrap_or(true) || passed_over >= SILENCE {
            tracing::info!(after = gone, "taking over");
            return true;
        }
        passed_over += 1;
    }
}

/// Counts in the store until a newer coordinator appears.
pub(super) async fn lead(artefacts: &Artefacts, own: &mut Leader) -> FleetError {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Err(error) = leader::remove_older(artefacts, own.opening).await {
        tracing::warn!(%error, "addresses of earlier coordinators could not be removed");
    }
    loop {
        beat.tick().await;
        match leader::read(artefacts).await {
            // The address of a coordinator of another state, which was moved away, says nothing.
            Ok(Some(leader)) if leader.opening > own.opening && leader.state == own.state => {
                return FleetError::Replaced;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the store does not say who is active"),
        }
        own.beat += 1;
        if let Err(error) = leader::publish(artefacts, own).await {
            tracing::warn!(%error, "the address could not be published; another coordinator may take over");
        }
    }
}
