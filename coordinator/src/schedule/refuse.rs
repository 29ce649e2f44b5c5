//! Why a worker gets nothing.

use super::state::State;
use super::worker::{Worker, fits};
use crate::run::durable::Run;
use bloctrain_shared::view::RefusedView;

/// Refused workers that a run's view names.
const SHOWN: usize = 16;

impl State {
    /// Why a worker that keeps failing gets nothing, as long as a healthy one of its kind is there.
    pub(super) fn why_aside(&self, worker: u64) -> Option<String> {
        let known = self.workers.get(&worker).filter(|known| known.is_aside())?;
        if known.doubted_until > 0 {
            return Some(format!(
                "set aside for a while after {} untrue reports; the last: {}",
                known.untrue, known.last_failure
            ));
        }
        let healthy = |other: &Worker| !other.is_aside() && other.about.backend == known.about.backend;
        let text = || format!("set aside after {} failures in a row; the last: {}", known.failures, known.last_failure);
        self.workers.values().any(healthy).then(text)
    }

    /// Why a worker gets nothing now, when that is its own matter.
    pub(super) fn why_nothing(&self, worker: u64) -> Option<String> {
        let reasons = self.refusals(worker);
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// All reasons why a worker gets nothing, up to some.
    pub(super) fn refusals(&self, worker: u64) -> Vec<String> {
        let Some(known) = self.workers.get(&worker) else { return Vec::new() };
        // What it was not started for says nothing about it.
        let own = self.running().filter(|run| known.is_for(run));
        let reasons = own.filter_map(|run| fits(known, run).err().map(|why| format!("run {}: {why}", run.plan.run)));
        self.why_aside(worker).into_iter().chain(reasons).take(SHOWN).collect()
    }

    /// Workers that get no tasks of a run, with the reason.
    pub(super) fn refused(&self, run: &Run) -> Vec<RefusedView> {
        let own = |(_, known): &(&u64, &Worker)| known.is_for(run);
        let reason = |(id, known): (&u64, &Worker)| {
            let why = fits(known, run).err().or_else(|| self.why_aside(*id))?;
            Some(RefusedView { worker: known.about.name.clone(), why })
        };
        self.workers.iter().filter(own).filter_map(reason).take(SHOWN).collect()
    }
}
