//! Who may report: leases as the workers were told of them.

use bloctrain_coordinator::run::record::Record;
use bloctrain_coordinator::schedule::{Effect, Event};
use bloctrain_shared::task::TaskId;
use std::collections::BTreeMap;

struct Lease {
    worker: u64,
    run: String,
    task: TaskId,
    expires_ms: u64,
}

#[derive(Default)]
struct Book {
    opening: u64,
    lease_ms: u64,
    /// When this coordinator last looked at its leases.
    ticked_ms: u64,
    last: u64,
    /// By lease epoch.
    leases: BTreeMap<u64, Lease>,
    /// Workers by instance.
    instances: BTreeMap<String, u64>,
}

/// The leases of every coordinator.
#[derive(Default)]
pub(crate) struct Leases(BTreeMap<u64, Book>);

impl Leases {
    pub(crate) fn begun(&mut self, coordinator: u64, opening: u64, lease_ms: u64) {
        self.0.insert(coordinator, Book { opening, lease_ms, ..Book::default() });
    }

    /// Follows an event that was accepted.
    pub(crate) fn applied(
        &mut self,
        coordinator: u64,
        now: u64,
        event: &Event,
        effects: &[Effect],
        persisted: &[&Record],
    ) -> Result<(), String> {
        let book = self.0.entry(coordinator).or_default();
        match event {
            Event::Tick | Event::Late { .. } => {
                // Time in which it stood still is not the workers'.
                let late = now.saturating_sub(book.ticked_ms).saturating_sub(LATE_MS);
                if book.ticked_ms > 0 && late > 0 {
                    book.leases.values_mut().for_each(|lease| lease.expires_ms += late);
                }
                book.ticked_ms = now;
            }
            Event::Asked { worker } | Event::Left { worker } => book.leases.retain(|_, lease| lease.worker != *worker),
            Event::Registered(newcomer) if !newcomer.instance.is_empty() => {
                if let Some(before) = book.instances.get(&newcomer.instance).copied() {
                    book.leases.retain(|_, lease| lease.worker != before);
                }
            }
            Event::Heartbeat { lease_epoch, .. } => {
                let lease_ms = book.lease_ms;
                let lease = book.leases.get_mut(lease_epoch).ok_or("a heartbeat of an ended lease was accepted")?;
                lease.expires_ms = now + lease_ms;
            }
            Event::Reported { worker, run, report } => {
                let lease = book.leases.remove(&report.lease_epoch);
                let own =
                    lease.filter(|lease| lease.worker == *worker && lease.run == *run && lease.task == report.task);
                own.ok_or_else(|| format!("a report of {} under an ended or foreign lease was accepted", report.task))?;
                if persisted.iter().any(|record| matches!(record, Record::Committed { .. })) {
                    book.leases.retain(|_, lease| lease.run != *run || lease.task != report.task);
                }
            }
            _ => {}
        }
        effects.iter().try_for_each(|effect| book.granted(now, event, effect))
    }
}

/// Milliseconds between two looks at leases that are nobody's fault.
const LATE_MS: u64 = 1_000;

impl Leases {
    /// Follows leases that a look ended; says which was ended before its time.
    pub(crate) fn ended(&mut self, coordinator: u64, now: u64, ended: impl Iterator<Item = u64>) -> Option<String> {
        let book = self.0.entry(coordinator).or_default();
        let mut early = None;
        for lease_epoch in ended {
            let lease = book.leases.remove(&lease_epoch);
            // What ended with its run is not there any more.
            if let Some(lease) = lease.filter(|lease| lease.expires_ms > now) {
                let left = lease.expires_ms - now;
                early.get_or_insert(format!("that of {} was ended {left} ms before its time", lease.task));
            }
        }
        early
    }
}

impl Book {
    fn granted(&mut self, now: u64, event: &Event, effect: &Effect) -> Result<(), String> {
        let (worker, lease_epoch, run, task) = match (effect, event) {
            (Effect::Grant { worker, lease_epoch, task }, _) => (*worker, *lease_epoch, task.run.clone(), task.id),
            (Effect::Welcome { worker, adopted }, Event::Registered(newcomer)) => {
                self.instances.insert(newcomer.instance.clone(), *worker);
                match (adopted, &newcomer.holding) {
                    (Some(lease_epoch), Some(holding)) => (*worker, *lease_epoch, holding.run.clone(), holding.task),
                    _ => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        if lease_epoch <= self.last || lease_epoch >> 32 != self.opening {
            return Err(format!("lease {lease_epoch} of {task} is not newer than those before"));
        }
        self.last = lease_epoch;
        self.leases.insert(lease_epoch, Lease { worker, run, task, expires_ms: now + self.lease_ms });
        Ok(())
    }
}
