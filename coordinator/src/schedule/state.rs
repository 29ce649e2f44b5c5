//! Everything that decisions rest on: the runs, the workers, and who is at what.

use super::chain::Chains;
use super::lease::Leases;
use super::pace::Paces;
use super::worker::Worker;
use crate::run::durable::{Durable, Run};
use bloctrain_shared::task::TaskId;
use bloctrain_shared::view::RunState;
use std::collections::{BTreeMap, BTreeSet};

/// All runs, workers and leases.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// What lasts.
    pub durable: Durable,
    /// Workers by id.
    pub workers: BTreeMap<u64, Worker>,
    /// What workers are at.
    pub attempts: Leases,
    /// Runs that have not ended: there may be many more that have.
    pub(super) live: BTreeSet<String>,
    /// Worker that did the last training round of each run, block and replica: it still has that in memory.
    pub(super) trainers: BTreeMap<(String, u32, u32), u64>,
    /// How long tasks take.
    pub(super) paces: Paces,
    /// Leases on tasks that take too long, as of the last tick.
    pub(super) stragglers: Vec<u64>,
    /// Identity of the coordinator's store; empty where nobody asks for it.
    pub(super) store: String,
    /// Tasks whose inputs are looked for because a worker said that one is lost.
    pub(super) doubts: BTreeMap<String, BTreeSet<TaskId>>,
    /// Which runs train the same blocks.
    pub(super) chains: Chains,
    pub(super) last_worker: u64,
    pub(super) last_lease: u64,
    pub(super) lease_ms: u64,
    /// Milliseconds without progress after which a training task counts as hung; 0 for never.
    pub(super) stall_ms: u64,
    /// Leases that ended by silence since this coordinator began.
    pub(super) lost: u64,
    /// Until when workers of an earlier coordinator may claim what they hold, before it is given to others.
    pub(super) settle_until: u64,
}

impl State {
    /// The state after a coordinator opened what an earlier one left.
    pub fn new(durable: Durable, lease_ms: u64) -> Self {
        // Neither leases nor workers of an earlier coordinator are mistaken for those of this one.
        let first = durable.openings << 32;
        let chains = Chains::new(&durable);
        let live = durable.runs.values().filter(|run| run.is_live()).map(|run| run.plan.run.clone()).collect();
        Self { durable, lease_ms, live, chains, last_lease: first, last_worker: first, ..Self::default() }
    }

    /// Takes workers only that see the store of this identity.
    pub fn on(mut self, store: String) -> Self {
        self.store = store;
        self
    }

    /// Ends leases of tasks that do not get on for so long (see [`Config::stall_ms`](crate::Config::stall_ms)).
    pub fn watch(mut self, stall_ms: u64) -> Self {
        self.stall_ms = stall_ms;
        self
    }

    /// Hands out nothing before this time: workers of an earlier coordinator come back with what they hold.
    pub fn settle(mut self, until_ms: u64) -> Self {
        self.settle_until = until_ms;
        self
    }

    /// Leases that ended by silence since this coordinator began.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Runs whose tasks may be handed out, by id.
    pub(super) fn running(&self) -> impl Iterator<Item = &Run> + Clone {
        self.live.iter().filter_map(|run| self.durable.runs.get(run)).filter(|run| run.state == RunState::Running)
    }

    /// Name of a worker.
    pub(super) fn name(&self, worker: u64) -> Option<String> {
        self.workers.get(&worker).map(|worker| worker.about.name.clone())
    }
}
