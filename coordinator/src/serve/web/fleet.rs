//! Workers, and what happened to all runs.

use super::Site;
use super::answer::{Answer, json};
use super::form::EventLine;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most lines of an answer.
const LINES: usize = 1_000;

/// How the fleet stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FleetNow {
    /// Workers that are registered.
    workers: u64,
    /// Those of them that wait for a task.
    workers_waiting: u64,
    /// Attempts that are being worked on.
    leases: u64,
}

impl Site {
    /// How the fleet stands.
    pub(super) fn fleet(&self) -> FleetNow {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let (workers, workers_waiting) = (read(&counters.workers), read(&counters.workers_waiting));
        FleetNow { workers, workers_waiting, leases: read(&counters.leases) }
    }
}

pub(super) async fn workers(State(site): State<Arc<Site>>) -> Answer {
    let workers = site.gate.active()?.handle.workers().await?;
    Ok(json(&serde_json::json!({ "fleet": site.fleet(), "workers": workers })))
}

/// Which lines are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    /// The sequence number after which they begin.
    #[serde(default)]
    after: u64,
}

pub(super) async fn events(State(site): State<Arc<Site>>, Query(asked): Query<After>) -> Answer {
    let lines = site.gate.active()?.handle.journal().latest(asked.after, LINES);
    let lines: Vec<EventLine> = lines.into_iter().map(EventLine::new).collect();
    Ok(json(&serde_json::json!({ "events": lines })))
}
