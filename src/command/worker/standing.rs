//! How a worker stands, for probes and for Prometheus.

use super::departure::Departure;
use bloctrain_operations::http::{Answer, Operated};
use bloctrain_operations::metric::{self, Sample, float};
use bloctrain_operations::reload::Reloads;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_worker::session::standing::Standing;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A worker that is looked after.
pub(super) struct Worker {
    pub(super) standing: Arc<Standing>,
    pub(super) reloads: Arc<Reloads>,
    /// Bytes that it may use.
    pub(super) memory: u64,
    pub(super) departure: Departure,
}

fn flag(is_set: bool) -> f64 {
    if is_set { 1.0 } else { 0.0 }
}

impl Worker {
    fn values(&self) -> Vec<Sample> {
        let standing = &self.standing;
        let mut samples = vec![
            metric::BUILD.with(&[env!("CARGO_PKG_VERSION"), &ARITHMETIC_VERSION.to_string()], 1.0),
            metric::WORKER_REGISTERED.is(flag(standing.is_registered())),
            metric::WORKER_BUSY.is(flag(standing.is_busy())),
            metric::WORKER_LEAVING.is(flag(self.departure.is_asked())),
            metric::WORKER_MEMORY.is(float(self.memory)),
            metric::WORKER_CALLS_FAILED.is(float(standing.calls_failed())),
        ];
        samples.extend(self.reloads.samples());
        let mut seconds = std::collections::BTreeMap::<&str, f64>::new();
        for ((stage, ended), tasks) in standing.tasks() {
            samples.push(metric::WORKER_TASKS.with(&[stage.name(), ended.name()], float(tasks.count)));
            *seconds.entry(stage.name()).or_default() += tasks.seconds;
        }
        samples.extend(seconds.into_iter().map(|(stage, seconds)| metric::WORKER_TASK_SECONDS.with(&[stage], seconds)));
        samples.extend(self.departure.cloud().map(|cloud| metric::WORKER_NOTICES.with(&[cloud.name()], 1.0)));
        samples
    }
}

impl Operated for Worker {
    fn ready(&self) -> Answer {
        match (self.departure.is_asked(), self.standing.is_registered()) {
            (true, _) => Err("this worker leaves".into()),
            (false, false) => Err("no coordinator knows this worker".into()),
            (false, true) => Ok(()),
        }
    }

    fn samples(&self) -> Pin<Box<dyn Future<Output = Vec<Sample>> + Send + '_>> {
        Box::pin(std::future::ready(self.values()))
    }
}
