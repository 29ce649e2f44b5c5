//! Becoming active.

use super::rpc::Active;
use crate::config::Config;
use crate::drive::counters::Counters;
use crate::drive::driver;
use crate::drive::environment::Environment;
use crate::open::OpenError;
use crate::run::record::Record;
use crate::schedule::State;
use bloctrain_shared::view::RunState;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A coordinator that has taken over a store.
pub(super) struct Activated {
    pub(super) active: Active,
    pub(super) driver: JoinHandle<()>,
    /// Number of its opening of the state.
    pub(super) opening: u64,
}

/// Opens the state in a store and takes it over from any earlier coordinator.
pub(super) async fn activate(
    config: Config,
    environment: &Environment,
    store: String,
    counters: Arc<Counters>,
) -> Result<Activated, OpenError> {
    let Environment { artefacts, clock, log, rules, spawn } = environment;
    let (mut log, mut durable) = log(artefacts.clone()).await?;
    let identity = artefacts.identity().await?;
    let now = clock();
    durable.replay(Record::Opened, now);
    log.append(now, Record::Opened, &durable).await?;
    let opening = durable.openings;
    let goes_on = durable.runs.values().any(|run| run.state == RunState::Running);
    let settle = if goes_on { now + config.settle_ms } else { 0 };
    let state = State::new(durable, config.lease_ms).on(identity).watch(config.stall_ms).settle(settle);
    let (handle, driver) = driver::start(state, rules(), log, artefacts.clone(), Arc::clone(clock), counters);
    let driver = spawn(Box::pin(driver));
    Ok(Activated { active: Active { handle, artefacts: artefacts.clone(), config, store }, driver, opening })
}
