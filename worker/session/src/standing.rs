//! How a worker stands, and what it has done, for whoever looks after it. Nothing is decided from it.

use bloctrain_shared::task::Stage;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a task came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// With an output.
    Done,
    /// With an error.
    Failed,
    /// Dropped or handed back.
    Interrupted,
}

impl Ended {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Tasks of one stage that came to one end.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tasks {
    /// How many.
    pub count: u64,
    /// Seconds of work on them.
    pub seconds: f64,
}

/// How a worker stands. Written by its session.
#[derive(Debug, Default)]
pub struct Standing {
    is_registered: AtomicBool,
    calls_failed: AtomicU64,
    work: Mutex<Work>,
}

/// What it works on, and what it has done.
#[derive(Debug, Default)]
struct Work {
    stage: Option<Stage>,
    tasks: BTreeMap<(Stage, Ended), Tasks>,
}

impl Standing {
    /// Whether a coordinator knows this worker, as of the last call.
    pub fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Relaxed)
    }

    /// Whether it works on a task.
    pub fn is_busy(&self) -> bool {
        self.work().stage.is_some()
    }

    /// Calls that failed and are made again.
    pub fn calls_failed(&self) -> u64 {
        self.calls_failed.load(Ordering::Relaxed)
    }

    /// Tasks that came to their end.
    pub fn tasks(&self) -> BTreeMap<(Stage, Ended), Tasks> {
        self.work().tasks.clone()
    }

    pub(crate) fn answered(&self) {
        self.is_registered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.is_registered.store(false, Ordering::Relaxed);
        self.calls_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn begins(&self, stage: Stage) {
        self.work().stage = Some(stage);
    }

    /// What it works on ended.
    pub(crate) fn ends(&self, ended: Ended, seconds: f64) {
        let mut work = self.work();
        let Some(stage) = work.stage.take() else { return };
        let tasks = work.tasks.entry((stage, ended)).or_default();
        tasks.count += 1;
        tasks.seconds += seconds;
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_by_stage_and_end() {
        let standing = Standing::default();
        standing.answered();
        standing.begins(Stage::Train);
        assert!(standing.is_busy() && standing.is_registered());
        standing.ends(Ended::Done, 1.5);
        standing.ends(Ended::Done, 1.5);
        standing.begins(Stage::Train);
        standing.ends(Ended::Done, 0.5);
        standing.begins(Stage::Export);
        standing.ends(Ended::Failed, 1.0);
        standing.failed();
        assert!(!standing.is_busy() && !standing.is_registered());
        let train = Tasks { count: 2, seconds: 2.0 };
        let export = Tasks { count: 1, seconds: 1.0 };
        let expected = [((Stage::Train, Ended::Done), train), ((Stage::Export, Ended::Failed), export)];
        assert_eq!(standing.tasks(), BTreeMap::from(expected));
        assert_eq!(standing.calls_failed(), 1);
    }
}
