//! Workers come, ask for a task, and wait for one.

use super::admission;
use super::event::{Effect, Rejected};
use super::state::State;
use super::worker::{CPU, Newcomer, Worker};
use crate::run::durable::Run;
use crate::run::record::Record;
use bloctrain_shared::spec::Precision;

/// Most workers that may be known at once.
pub const MAX_WORKERS: usize = 20_000;

impl State {
    pub(super) fn registered(&mut self, now: u64, mut newcomer: Newcomer) -> Result<Vec<Effect>, Rejected> {
        admission::newcomer(&newcomer, &self.store)?;
        let same = |worker: &Worker| !newcomer.instance.is_empty() && worker.about.instance == newcomer.instance;
        let before = self.workers.iter().find(|(_, worker)| same(worker)).map(|(id, _)| *id);
        if before.is_none() && self.workers.len() >= MAX_WORKERS {
            return Err(Rejected::Full("as many workers as it takes"));
        }
        let mut effects = Vec::new();
        if let Some(before) = before {
            effects.extend(self.release(before, "registered anew"));
            self.workers.remove(&before);
        }
        let holding = newcomer.holding.take();
        self.last_worker += 1;
        let id = self.last_worker;
        let is_proven = newcomer.store == self.store || self.store.is_empty();
        let worker = Worker { is_proven, ..Worker::new(newcomer, now) };
        let adopted = holding.and_then(|holding| self.adopt(now, id, &worker, &holding));
        self.workers.insert(id, worker);
        effects.push(Effect::Welcome { worker: id, adopted: adopted.as_ref().and_then(|entry| entry.attempt) });
        effects.extend(adopted.map(Effect::Log));
        Ok(effects)
    }

    pub(super) fn asked(&mut self, now: u64, worker: u64) -> Result<Vec<Effect>, Rejected> {
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        known.seen_ms = now;
        let (backend, precision) = (known.about.backend.clone(), known.about.precision.clone());
        // A worker holds one task; what it held before it asked again, it has dropped.
        let mut effects = self.release(worker, "dropped");
        let task = loop {
            let Some(task) = self.choose(now, worker).or_else(|| self.straggling(now, worker)) else {
                effects.extend(self.why_nothing(worker).map(|why| Effect::Refuse { worker, why }));
                return Ok(effects);
            };
            if self.durable.runs.get(&task.run).is_none_or(Run::is_resolved) {
                break task;
            }
            // From now on it is known whether another run has trained its first block.
            let is_open = |run: &Run| run.submission.spec.train.precision == Precision::Auto && backend != CPU;
            let is_open = self.durable.runs.get(&task.run).is_some_and(is_open);
            let (run, backend) = (task.run.clone(), backend.clone());
            let precision = is_open.then(|| precision.clone());
            let record = Record::Backend { run, backend, precision };
            effects.extend(self.record(now, &task.run, record));
        };
        let run = task.run.clone();
        let lease_epoch = self.lease(now, &task, worker);
        effects.extend([Effect::Grant { worker, lease_epoch, task: Box::new(task) }, Effect::Progressed { run }]);
        let attempt = self.attempts.get(lease_epoch);
        let text =
            |backup| if backup { "handed out a second time: the first attempt takes too long" } else { "handed out" };
        effects.extend(attempt.map(|attempt| Effect::Log(self.line(attempt, text(attempt.backup)))));
        Ok(effects)
    }

    pub(super) fn waits(&mut self, now: u64, worker: u64) -> Result<Vec<Effect>, Rejected> {
        self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?.seen_ms = now;
        Ok(Vec::new())
    }
}
