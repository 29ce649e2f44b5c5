//! Attempts begin, live and end.

use super::event::{Effect, Entry, Event, Rejected};
use super::lease::Attempt;
use super::state::State;
use super::worker::{Holding, Worker, fits};
use crate::run::durable::Run;
use crate::run::record::Record;
use bloctrain_memory as memory;
use bloctrain_shared::task::{Progress, Task, TaskId};
use bloctrain_shared::view::RunState;

impl State {
    pub(super) fn lease(&mut self, now: u64, task: &Task, worker: u64) -> u64 {
        let (run, work, task) = (&task.run, task.work.identity(), task.id);
        self.last_lease += 1;
        let lease_epoch = self.last_lease;
        let backup = self.attempts.of_task(run, task).next().is_some();
        self.attempts.grant(Attempt {
            run: run.clone(),
            task,
            work,
            worker,
            lease_epoch,
            begun_ms: now,
            expires_ms: now + self.lease_ms,
            backup,
            progress: Progress::default(),
            moved_ms: now,
        });
        lease_epoch
    }

    /// Gives a worker of an earlier coordinator a lease on what it holds, when that is open, free and still the same
    /// work.
    pub(super) fn adopt(&mut self, now: u64, id: u64, worker: &Worker, holding: &Holding) -> Option<Entry> {
        let run = self.durable.runs.get(&holding.run).filter(|run| run.is_resolved() && fits(worker, run).is_ok())?;
        let task = run.open_task(|task| task == holding.task)?;
        let is_held = self.attempts.of_task(&holding.run, holding.task).next().is_some();
        if is_held || self.is_doubted(&holding.run, holding.task) || task.work.identity() != holding.work {
            return None;
        }
        let lease_epoch = self.lease(now, &task, id);
        let (run, name) = (holding.run.clone(), worker.about.name.clone());
        let text = "goes on after the coordinator changed".into();
        Some(Entry { run, task: Some(holding.task), worker: Some(name), attempt: Some(lease_epoch), text })
    }

    pub(super) fn heartbeat(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        let Event::Heartbeat { worker, run, task, lease_epoch, progress } = event else { return Ok(Vec::new()) };
        let lease_ms = self.lease_ms;
        if !self.workers.contains_key(&worker) {
            return Err(Rejected::UnknownWorker(worker));
        }
        let state = self.durable.runs.get(&run).map(|run| &run.state);
        let (goes_on, paused) = (state.is_some_and(RunState::is_live), state == Some(&RunState::Paused));
        let ended = self.over(worker, &run, task, lease_epoch);
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let attempt = self.attempts.held(worker, &run, task, lease_epoch).filter(|_| goes_on).ok_or(ended)?;
        known.seen_ms = now;
        attempt.expires_ms = now + lease_ms;
        if attempt.progress != progress {
            attempt.moved_ms = now;
        }
        attempt.progress = progress;
        let hand_back = paused.then_some(Effect::HandBack { worker });
        Ok([Effect::Progressed { run }].into_iter().chain(hand_back).collect())
    }

    /// Why a lease does not count any more. Whoever fell silent, or was not heard, may come back with what it holds.
    pub(super) fn over(&self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> Rejected {
        let is_held = || self.attempts.of_task(run, task).next().is_some();
        let is_open = || self.durable.runs.get(run).is_some_and(|run| run.open_task(|open| open == task).is_some());
        if self.attempts.is_silent(worker, run, task, lease_epoch) && !is_held() && is_open() {
            return Rejected::Expired(task);
        }
        Rejected::Stale(task)
    }

    /// Gives back the time in which this coordinator could hear nobody.
    pub(super) fn late(&mut self, by_ms: u64) -> Vec<Effect> {
        self.attempts.extend(by_ms);
        self.workers.values_mut().for_each(|worker| worker.seen_ms += by_ms);
        self.settle_until += by_ms;
        Vec::new()
    }

    pub(super) fn left(&mut self, worker: u64) -> Result<Vec<Effect>, Rejected> {
        if !self.workers.contains_key(&worker) {
            return Err(Rejected::UnknownWorker(worker));
        }
        let effects = self.release(worker, "handed back");
        self.workers.remove(&worker);
        Ok(effects)
    }

    pub(super) fn tick(&mut self, now: u64) -> Vec<Effect> {
        let late = self.attempts.end_where(|attempt| attempt.expires_ms <= now);
        self.lost += late.len() as u64;
        late.iter().for_each(|attempt| self.attempts.fell_silent(attempt));
        // Nobody waits for a worker that lost its lease.
        self.trainers.retain(|_, trainer| !late.iter().any(|attempt| attempt.worker == *trainer));
        let mut effects: Vec<Effect> =
            late.iter().flat_map(|attempt| self.lost_lease(now, attempt, "lost: the worker fell silent")).collect();
        effects.extend(self.end_stalled(now));
        let doubted = self.workers.values_mut().filter(|worker| (1..=now).contains(&worker.doubted_until));
        doubted.for_each(|worker| worker.doubted_until = 0);
        let silent = 3 * self.lease_ms;
        self.workers.retain(|_, worker| worker.seen_ms + silent > now);
        self.stragglers = self.find_stragglers(now);
        effects
    }

    /// Ends the lease of a worker; its task is open again unless another attempt at it lives.
    pub(super) fn release(&mut self, worker: u64, why: &str) -> Vec<Effect> {
        let lease_epoch = self.attempts.of_worker(worker).map(|attempt| attempt.lease_epoch);
        let ended = lease_epoch.and_then(|lease_epoch| self.attempts.end(lease_epoch));
        ended.map(|attempt| self.ended_early(&attempt, why)).unwrap_or_default()
    }

    /// Milliseconds that a task may go without progress: by its stage, and never less than twice what such tasks take.
    fn patience(&self, attempt: &Attempt) -> u64 {
        let usual = self.paces.usual(&attempt.run, attempt.task).unwrap_or(0);
        (self.stall_ms * attempt.task.stage.patience()).max(2 * usual)
    }

    /// Whether a task does not get on although its worker is heard of.
    pub fn is_stalled(&self, now: u64, attempt: &Attempt) -> bool {
        self.stall_ms > 0 && attempt.moved_ms + self.patience(attempt) <= now
    }

    /// Ends leases on tasks that do not get on. They count as lost: a task may hang wherever it is done.
    fn end_stalled(&mut self, now: u64) -> Vec<Effect> {
        let stalled: Vec<u64> = self
            .attempts
            .iter()
            .filter(|attempt| self.is_stalled(now, attempt))
            .map(|attempt| attempt.lease_epoch)
            .collect();
        let ended: Vec<Attempt> =
            stalled.into_iter().filter_map(|lease_epoch| self.attempts.end(lease_epoch)).collect();
        self.trainers.retain(|_, trainer| !ended.iter().any(|attempt| attempt.worker == *trainer));
        let why = |attempt: &Attempt| format!("lost: it did not get on for {} s", (now - attempt.moved_ms) / 1000);
        ended.iter().flat_map(|attempt| self.lost_lease(now, attempt, &why(attempt))).collect()
    }

    /// Counts a lease that was lost: a task that takes its workers down with it is not handed out for ever.
    fn lost_lease(&mut self, now: u64, attempt: &Attempt, why: &str) -> Vec<Effect> {
        let mut effects = self.ended_early(attempt, why);
        let run = &attempt.run;
        if self.durable.runs.get(run).is_some_and(Run::is_live) {
            let worker = self.name(attempt.worker).unwrap_or_default();
            let about = self.about(attempt, &worker);
            effects.extend(self.record(now, run, Record::Lost { run: run.clone(), task: attempt.task, worker, about }));
            if let Some(ended) = self.ended(run) {
                self.attempts.end_run(run);
                self.paces.forget(run);
                effects.push(Effect::Log(ended));
            }
        }
        effects
    }

    fn about(&self, attempt: &Attempt, name: &str) -> String {
        let about = self.workers.get(&attempt.worker).map(|worker| &worker.about);
        let memory = about.map_or(0, |about| about.memory_bytes);
        let memory = if memory > 0 { memory::mebibytes(memory) } else { "an unknown amount".into() };
        let backend = about.map_or("", |about| about.backend.as_str());
        let Progress { done, total, .. } = attempt.progress;
        format!("{name} ({backend}, {memory} of memory, at {done} of {total})")
    }

    fn ended_early(&self, attempt: &Attempt, why: &str) -> Vec<Effect> {
        vec![Effect::Log(self.line(attempt, why)), Effect::Changed { run: attempt.run.clone() }]
    }

    /// A line of the log about an attempt.
    pub(super) fn line(&self, attempt: &Attempt, text: &str) -> Entry {
        Entry {
            run: attempt.run.clone(),
            task: Some(attempt.task),
            worker: self.name(attempt.worker),
            attempt: Some(attempt.lease_epoch),
            text: text.to_owned(),
        }
    }

    /// Ends attempts at tasks of a run that are not open any more, or work from other inputs by now: what they make
    /// would be refused.
    pub(super) fn end_outdated(&mut self, run: &str) -> Vec<Effect> {
        let Some(known) = self.durable.runs.get(run) else { return Vec::new() };
        let is_outdated = |attempt: &Attempt| {
            let open = || known.open_task(|task| task == attempt.task);
            attempt.run == run && open().is_none_or(|open| open.work.identity() != attempt.work)
        };
        let ended = self.attempts.end_where(is_outdated);
        ended
            .iter()
            .map(|attempt| Effect::Log(self.line(attempt, "dropped: its inputs came out differently")))
            .collect()
    }

    /// Ends what else was attempted at a task that is committed now: whoever reports later is too late.
    pub(super) fn end_others(&mut self, record: &Record) -> Vec<Effect> {
        let Record::Committed { run, task, .. } = record else { return Vec::new() };
        let others = self.attempts.end_task(run, *task);
        others.iter().map(|attempt| Effect::Log(self.line(attempt, "dropped: another attempt was first"))).collect()
    }
}
