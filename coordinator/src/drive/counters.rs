//! Counts, for people. In memory only; nothing is decided from them.

use crate::schedule::State;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a coordinator stands, and counts since it became active; `run_service.proto` says what each means.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "documented in run_service.proto, under the same names")]
pub struct Counters {
    pub workers: AtomicU64,
    pub workers_waiting: AtomicU64,
    pub leases: AtomicU64,
    pub runs: AtomicU64,
    pub connections: AtomicU64,
    pub workers_registered: AtomicU64,
    pub leases_granted: AtomicU64,
    pub leases_adopted: AtomicU64,
    pub leases_lost: AtomicU64,
    pub records_persisted: AtomicU64,
    pub groups_persisted: AtomicU64,
    pub persist_us: AtomicU64,
    pub busy_us: AtomicU64,
    pub events_rejected: AtomicU64,
    pub calls_unauthorised: AtomicU64,
    pub connections_refused: AtomicU64,
}

impl Counters {
    /// Adds one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a time in microseconds.
    pub(crate) fn time(counter: &AtomicU64, time: Duration) {
        counter.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes how things stand.
    pub(crate) fn look(&self, state: &State, waiting: usize) {
        let now = [
            (&self.workers, state.workers.len()),
            (&self.workers_waiting, waiting),
            (&self.leases, state.attempts.iter().count()),
            (&self.runs, state.durable.runs.len()),
        ];
        now.into_iter().for_each(|(counter, value)| counter.store(value as u64, Ordering::Relaxed));
        self.leases_lost.store(state.lost(), Ordering::Relaxed);
    }
}
