//! Metrics: names, labels and what they mean. Names are stable: dashboards and alerts rest on them.
//!
//! `docs/metrics.md` is made from [`TABLE`]; a test keeps the two equal.

/// What a value does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows while the process lives. Its name ends in `_total`.
    Counter,
}

impl Kind {
    /// Its name in Prometheus' text form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// Which processes have a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Coordinators and workers.
    Both,
    /// Coordinators.
    Coordinator,
    /// Workers.
    Worker,
}

impl Of {
    /// Its name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
        }
    }
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// Which processes have it.
    pub of: Of,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

/// A value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub metric: &'static Metric,
    /// Values of its labels, in their order.
    pub labels: Vec<String>,
    /// The value, in the metric's unit.
    pub value: f64,
}

impl Metric {
    /// A value without labels.
    pub fn is(&'static self, value: f64) -> Sample {
        self.with(&[], value)
    }

    /// A value with values of all labels.
    pub fn with(&'static self, labels: &[&str], value: f64) -> Sample {
        debug_assert_eq!(labels.len(), self.labels.len(), "{} has other labels", self.name);
        Sample { metric: self, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
    }
}

/// A count as a value: counts stay far below the numbers that a float cannot hold.
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Declares metrics and the table of all of them.
macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $of:ident [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, of: Of::$of, labels: &[$($label),*], help: $help };
        )*

        /// Every metric.
        pub static TABLE: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    BUILD = "bloctrain_build_info" Gauge Both ["version", "arithmetic"]
        "Always 1; the program's version and the version of its arithmetic";
    RESIDENT = "bloctrain_process_resident_memory_bytes" Gauge Both []
        "Memory of the process in bytes";
    RELOADS = "bloctrain_secret_reloads_total" Counter Both ["result"]
        "Times that changed tokens or certificates were read again, by result: taken or refused";

    ACTIVE = "bloctrain_coordinator_active" Gauge Coordinator []
        "1 while this coordinator is the active one, 0 while it stands by";
    RUNS = "bloctrain_runs" Gauge Coordinator ["state"]
        "Runs by state: running, paused, completed, failed, cancelled";
    TASKS_WAITING = "bloctrain_tasks_waiting" Gauge Coordinator ["backend"]
        "Tasks that could be worked on and that nobody works on, by the backend that they need; `any` where the first \
        worker decides";
    TASKS_RUNNING = "bloctrain_tasks_running" Gauge Coordinator ["backend"]
        "Tasks that workers work on, by backend; a task with a backup attempt counts once";
    TASKS_STRANDED = "bloctrain_tasks_stranded" Gauge Coordinator ["backend"]
        "Waiting tasks that no worker of this fleet may take, by the backend that they need";
    WORKERS = "bloctrain_workers" Gauge Coordinator ["backend"]
        "Workers that are registered, by backend";
    WORKERS_WAITING = "bloctrain_workers_waiting" Gauge Coordinator []
        "Workers that wait for a task";
    LEASES = "bloctrain_leases" Gauge Coordinator []
        "Leases that are held";
    CONNECTIONS = "bloctrain_connections" Gauge Coordinator []
        "Connections that are open, those that are refused included";
    REGISTERED = "bloctrain_workers_registered_total" Counter Coordinator []
        "Registrations of workers";
    GRANTED = "bloctrain_leases_granted_total" Counter Coordinator []
        "Leases granted";
    ADOPTED = "bloctrain_leases_adopted_total" Counter Coordinator []
        "Leases on what workers of an earlier coordinator held";
    LOST = "bloctrain_leases_lost_total" Counter Coordinator []
        "Leases that ended because their worker fell silent";
    RECORDS = "bloctrain_records_persisted_total" Counter Coordinator []
        "Records made durable";
    GROUPS = "bloctrain_groups_persisted_total" Counter Coordinator []
        "Writes in which records were made durable";
    PERSIST_SECONDS = "bloctrain_persist_seconds_total" Counter Coordinator []
        "Seconds in which the coordinator waited for these writes";
    BUSY_SECONDS = "bloctrain_busy_seconds_total" Counter Coordinator []
        "Seconds in which the coordinator decided";
    REJECTED = "bloctrain_events_rejected_total" Counter Coordinator []
        "Requests that the coordinator's rules refused";
    UNAUTHORISED = "bloctrain_calls_unauthorised_total" Counter Coordinator []
        "Calls without a token that this coordinator knows";
    REFUSED = "bloctrain_connections_refused_total" Counter Coordinator []
        "Connections above the limit";

    SPANS = "bloctrain_spans_sent_total" Counter Coordinator []
        "Spans that the endpoint for traces took; only with one";
    SPANS_DROPPED = "bloctrain_spans_dropped_total" Counter Coordinator []
        "Spans that were dropped because too many waited or the endpoint for traces refused them; only with one";

    WORKER_REGISTERED = "bloctrain_worker_registered" Gauge Worker []
        "1 while a coordinator knows this worker";
    WORKER_BUSY = "bloctrain_worker_busy" Gauge Worker []
        "1 while this worker works on a task";
    WORKER_LEAVING = "bloctrain_worker_leaving" Gauge Worker []
        "1 once this worker was asked to leave";
    WORKER_MEMORY = "bloctrain_worker_memory_bytes" Gauge Worker []
        "Memory that this worker may use in bytes: the container's limit, or that of the machine";
    WORKER_TASKS = "bloctrain_worker_tasks_total" Counter Worker ["stage", "result"]
        "Tasks that came to their end, by stage and result: done, failed, interrupted";
    WORKER_TASK_SECONDS = "bloctrain_worker_task_seconds_total" Counter Worker ["stage"]
        "Seconds of work on tasks, by stage";
    WORKER_CALLS_FAILED = "bloctrain_worker_calls_failed_total" Counter Worker []
        "Calls to a coordinator that failed and were made again";
    WORKER_NOTICES = "bloctrain_worker_preemption_notices_total" Counter Worker ["cloud"]
        "Notices that this worker's machine will be taken away, by cloud: aws, gcp, azure";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_as_prometheus_has_them() {
        let names: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for metric in TABLE {
            let is_plain = |text: &str| text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            assert!(is_plain(metric.name) && metric.name.starts_with("bloctrain_"), "{}", metric.name);
            assert!(metric.labels.iter().all(|label| is_plain(label)), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
