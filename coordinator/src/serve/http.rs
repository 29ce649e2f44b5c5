//! How a coordinator stands, for probes and for Prometheus. What people ask at the same address is in
//! [`web`](super::web).

use super::rpc::Gate;
use crate::drive::counters::Counters;
use crate::schedule::{Demand, Overview};
use bloctrain_operations::http::{Answer, Operated};
use bloctrain_operations::metric::{self, Metric, Sample, float};
use bloctrain_operations::reload::Reloads;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::view::RunState;
use bloctrain_tracking::otlp::Sink;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A coordinator that is looked after.
pub(super) struct Coordinator {
    pub(super) gate: Gate,
    pub(super) counters: Arc<Counters>,
    pub(super) reloads: Arc<Reloads>,
    pub(super) traces: Option<Sink>,
}

impl Operated for Coordinator {
    /// Active, or standing by with a store that answers: both do their part, and a Deployment of two can be rolled.
    fn ready(&self) -> Answer {
        if self.gate.stands_by() { Ok(()) } else { self.active() }
    }

    fn active(&self) -> Answer {
        let stopped = match self.gate.active() {
            Ok(active) if self.gate.leads() => active.handle.stopped().borrow().clone(),
            Ok(_) => Some("this coordinator's address is not in the store: it takes over, or goes".into()),
            Err(_) if self.gate.stands_by() => Some("this coordinator stands by; another one is active".into()),
            Err(_) => Some("this coordinator has not opened the state in its store yet".into()),
        };
        stopped.map_or(Ok(()), Err)
    }

    fn samples(&self) -> BoxFuture<'_, Vec<Sample>> {
        Box::pin(async move {
            let version = env!("CARGO_PKG_VERSION");
            let arithmetic = ARITHMETIC_VERSION.to_string();
            let mut samples = vec![metric::BUILD.with(&[version, &arithmetic], 1.0)];
            samples.extend(self.reloads.samples());
            samples.push(metric::ACTIVE.is(if self.active().is_ok() { 1.0 } else { 0.0 }));
            if let Ok(active) = self.gate.active() {
                samples.extend(counted(&self.counters));
                samples.extend(self.traces.iter().flat_map(traced));
                // A coordinator that is stopping says nothing more.
                samples.extend(active.handle.overview().await.iter().flat_map(standing));
            }
            samples
        })
    }
}

fn traced(traces: &Sink) -> [Sample; 2] {
    [metric::SPANS.is(float(traces.sent())), metric::SPANS_DROPPED.is(float(traces.dropped()))]
}

fn counted(counters: &Counters) -> Vec<Sample> {
    let plain: [(&'static Metric, &AtomicU64); 11] = [
        (&metric::WORKERS_WAITING, &counters.workers_waiting),
        (&metric::LEASES, &counters.leases),
        (&metric::CONNECTIONS, &counters.connections),
        (&metric::REGISTERED, &counters.workers_registered),
        (&metric::GRANTED, &counters.leases_granted),
        (&metric::ADOPTED, &counters.leases_adopted),
        (&metric::LOST, &counters.leases_lost),
        (&metric::RECORDS, &counters.records_persisted),
        (&metric::GROUPS, &counters.groups_persisted),
        (&metric::REJECTED, &counters.events_rejected),
        (&metric::UNAUTHORISED, &counters.calls_unauthorised),
    ];
    let read = |counter: &AtomicU64| float(counter.load(Ordering::Relaxed));
    let mut samples: Vec<Sample> = plain.into_iter().map(|(metric, counter)| metric.is(read(counter))).collect();
    samples.push(metric::REFUSED.is(read(&counters.connections_refused)));
    let seconds = |counter: &AtomicU64| read(counter) / 1e6;
    samples.push(metric::PERSIST_SECONDS.is(seconds(&counters.persist_us)));
    samples.push(metric::BUSY_SECONDS.is(seconds(&counters.busy_us)));
    samples
}

/// Backends that are always there, so that a rule on them finds zeros.
const BACKENDS: [&str; 3] = ["any", "cpu", "cuda"];

/// Tasks of a demand.
type Count = fn(&Demand) -> usize;

fn standing(overview: &Overview) -> Vec<Sample> {
    let runs = |state: &&'static str| {
        let count = overview.runs.get(*state).copied().unwrap_or_default();
        metric::RUNS.with(&[*state], float(count as u64))
    };
    let workers =
        overview.workers.iter().map(|(backend, count)| metric::WORKERS.with(&[backend.as_str()], float(*count as u64)));
    let mut samples: Vec<Sample> = RunState::NAMES.iter().map(runs).chain(workers).collect();
    let counts: [(&'static Metric, Count); 3] = [
        (&metric::TASKS_WAITING, |demand| demand.waiting),
        (&metric::TASKS_RUNNING, |demand| demand.running),
        (&metric::TASKS_STRANDED, |demand| if demand.missing.is_some() { demand.waiting } else { 0 }),
    ];
    for (metric, count) in counts {
        let mut by_backend: BTreeMap<&str, usize> = BACKENDS.iter().map(|backend| (*backend, 0)).collect();
        for demand in &overview.demand {
            *by_backend.entry(demand.backend.as_deref().unwrap_or("any")).or_default() += count(demand);
        }
        samples.extend(by_backend.into_iter().map(|(backend, count)| metric.with(&[backend], float(count as u64))));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_operations::metric::{Of, TABLE};
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_of_a_coordinator_has_a_value() {
        let demand = Demand { run: "r".into(), backend: None, waiting: 3, running: 1, missing: Some("nobody".into()) };
        let overview =
            Overview { demand: vec![demand], workers: BTreeMap::from([("cpu".into(), 2)]), ..Overview::default() };
        let samples: Vec<Sample> = standing(&overview).into_iter().chain(counted(&Counters::default())).collect();
        let has: BTreeSet<&str> = samples.iter().map(|sample| sample.metric.name).collect();
        let wanted: BTreeSet<&str> =
            TABLE.iter().filter(|metric| metric.of == Of::Coordinator).map(|metric| metric.name).collect();
        let missing: Vec<&&str> = wanted.difference(&has).collect();
        let apart = [&metric::ACTIVE.name, &metric::SPANS_DROPPED.name, &metric::SPANS.name];
        assert_eq!(missing, apart, "which are given apart");
        assert!(samples.contains(&metric::TASKS_STRANDED.with(&["any"], 3.0)));
        assert!(samples.contains(&metric::TASKS_WAITING.with(&["cuda"], 0.0)));
    }
}
