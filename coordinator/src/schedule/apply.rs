//! The one way in: an event at a time, and the effects that it has.

use super::event::{Effect, Event, Rejected};
use super::state::State;
use crate::run::block::Block;
use crate::run::durable::Run;
use crate::run::record::Record;

impl State {
    /// Applies an event at a time in milliseconds.
    ///
    /// # Errors
    /// When the event is refused; the state is as it was.
    pub fn apply(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        match event {
            Event::Submitted { submission, object } => self.submitted(now, submission, object),
            Event::Registered(newcomer) => self.registered(now, *newcomer),
            Event::Asked { worker } => self.asked(now, worker),
            Event::Waits { worker } => self.waits(now, worker),
            Event::Heartbeat { .. } => self.heartbeat(now, event),
            Event::Reported { worker, run, report } => self.reported(now, worker, run, *report),
            Event::Verified { doubt, found } => Ok(self.verified(now, *doubt, found)),
            Event::Left { worker } => self.left(worker),
            Event::Late { by_ms } => Ok(self.late(by_ms)),
            Event::Tick => Ok(self.tick(now)),
            Event::Cancelled { run } => self.cancelled(now, run),
            Event::PackageLost { run, key, problem } => self.package_lost(now, run, key, problem),
            Event::Deleted { run } => self.deleted(now, run),
            Event::Paused { run } => self.paused(now, run),
            Event::Resumed { run } => self.resumed(now, run),
        }
    }

    /// Applies a record and lists the effects that go with it.
    pub(super) fn record(&mut self, now: u64, run: &str, record: Record) -> Vec<Effect> {
        let makes_again = self.makes_again(run);
        let mut effects = self.persist(now, record);
        effects.push(Effect::Changed { run: run.to_owned() });
        if makes_again {
            effects.extend(self.end_outdated(run));
        }
        effects.extend(self.share(now, run));
        effects
    }

    /// Whether lost weights or a lost selection of a run are made again, which may come out differently.
    pub(super) fn makes_again(&self, run: &str) -> bool {
        let makes = |block: &Block| block.lost_weights.is_some() || block.lost_selection.is_some();
        self.durable.runs.get(run).is_some_and(|run| run.blocks.iter().any(makes))
    }

    pub(super) fn persist(&mut self, now: u64, record: Record) -> Vec<Effect> {
        let mut unneeded = self.durable.replay(record.clone(), now);
        if let Some(run) = record.run() {
            if self.durable.runs.get(run).is_some_and(Run::is_live) {
                self.live.insert(run.to_owned());
            } else {
                self.live.remove(run);
            }
        }
        // Another run may have taken over what this one does not need any more.
        unneeded.retain(|key| !self.chains.is_named(key));
        let delete = (!unneeded.is_empty()).then_some(Effect::Delete(unneeded));
        [Effect::Persist(record)].into_iter().chain(delete).collect()
    }
}
