//! How long tasks take. Measured by this coordinator alone: after a change of coordinators it is measured anew.

use bloctrain_shared::task::{Stage, TaskId};
use std::collections::{BTreeMap, VecDeque};

/// Durations that are kept of a stage.
const KEPT: usize = 32;

/// Committed tasks of a stage from which on it is known how long one takes.
const ENOUGH: usize = 3;

/// How long committed tasks took, from lease to commit, by run, block and stage; milliseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Paces {
    took: BTreeMap<String, BTreeMap<(u32, Stage), VecDeque<u64>>>,
}

impl Paces {
    pub(super) fn note(&mut self, run: &str, task: TaskId, took_ms: u64) {
        let took = self.took.entry(run.to_owned()).or_default().entry((task.block, task.stage)).or_default();
        took.push_back(took_ms);
        if took.len() > KEPT {
            took.pop_front();
        }
    }

    pub(super) fn forget(&mut self, run: &str) {
        self.took.remove(run);
    }

    /// The median of the stage's last tasks; `None` until there are enough.
    pub(super) fn usual(&self, run: &str, task: TaskId) -> Option<u64> {
        let took = self.took.get(run)?.get(&(task.block, task.stage)).filter(|took| took.len() >= ENOUGH)?;
        let mut took: Vec<u64> = took.iter().copied().collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }
}
