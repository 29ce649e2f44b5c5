//! Becoming active.

use super::rpc::Active;
use crate::config::Config;
use crate::drive::counters::Counters;
use crate::drive::driver;
use crate::drive::environment::Environment;
use crate::open::OpenError;
use crate::run::record::Record;
use crate::schedule::State;
use bloctrain_shared::Digest;
use bloctrain_shared::view::RunState;
use bloctrain_store::leader;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A coordinator that has taken over a store.
pub(super) struct Activated {
    pub(super) active: Active,
    pub(super) driver: JoinHandle<()>,
    /// Number of its opening of the state.
    pub(super) opening: u64,
    /// Identity of the state.
    pub(super) state: String,
}

/// Opens the state in a store and takes it over from any earlier coordinator.
pub(super) async fn activate(
    config: Config,
    environment: &Environment,
    store: String,
    counters: Arc<Counters>,
) -> Result<Activated, OpenError> {
    let Environment { artefacts, clock, log, rules, spawn, traces } = environment;
    let (mut log, mut durable) = log(artefacts.clone()).await?;
    let identity = artefacts.identity().await?;
    let now = clock();
    let mut records = Vec::new();
    if durable.identity.is_empty() {
        // A state that was moved away leaves addresses behind, under numbers that a new one would come to only later.
        let openings = durable.openings.max(leader::last_opening(artefacts).await?);
        let state = Digest::of_parts(&[identity.as_bytes(), &now.to_le_bytes(), &openings.to_le_bytes()]).short(16);
        records.push(Record::Founded { state, openings });
    }
    records.push(Record::Opened);
    records.iter().for_each(|record| drop(durable.replay(record.clone(), now)));
    log.append_all(records.into_iter().map(|record| (now, record)).collect(), &durable).await?;
    let (opening, state_identity) = (durable.openings, durable.identity.clone());
    let goes_on = durable.runs.values().any(|run| run.state == RunState::Running);
    let settle = if goes_on { now + config.settle_ms } else { 0 };
    let state = State::new(durable, config.lease_ms).on(identity).watch(config.stall_ms).settle(settle);
    let (handle, driver) =
        driver::start(state, rules(), log, artefacts.clone(), Arc::clone(clock), counters, traces.clone());
    let driver = spawn(Box::pin(driver));
    Ok(Activated {
        active: Active { handle, artefacts: artefacts.clone(), config, store },
        driver,
        opening,
        state: state_identity,
    })
}
