//! The wire between a session and the task that runs for it.

use bloctrain_shared::task::{Failure, Progress};
use bloctrain_store::{ErrorKind, StoreError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a task ended without output.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// The worker was asked to stop.
    Interrupted,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What connects a running task with the session around it.
#[derive(Debug, Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    ticks: Arc<AtomicU64>,
}

impl Control {
    /// Makes the task end soon.
    pub fn interrupt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Makes a training round end at its next step, with a checkpoint; other work goes on to its end, which is near.
    pub fn hand_back(&self) {
        self.back.store(true, Ordering::Relaxed);
    }

    /// Whether the task is to come to an end.
    pub fn hands_back(&self) -> bool {
        self.back.load(Ordering::Relaxed)
    }

    /// Fails when the task should end.
    ///
    /// # Errors
    /// [`Stop::Interrupted`].
    pub fn check(&self) -> Result<(), Stop> {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) { Err(Stop::Interrupted) } else { Ok(()) }
    }

    /// How far the task is, with a count of its signs of life.
    pub fn progress(&self) -> Progress {
        let ticks = self.ticks.load(Ordering::Relaxed);
        Progress { ticks, ..self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// Says how far the task is.
    pub fn set(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// A store error as the failure of a task.
pub fn failure(error: StoreError) -> Failure {
    match (error.kind(), error.key()) {
        (ErrorKind::InputLost, Some(key)) => {
            let content = matches!(error, StoreError::Unusable { .. });
            Failure::InputLost { key: key.to_owned(), problem: error.to_string(), content }
        }
        (ErrorKind::Retry, _) => Failure::Transient { message: error.to_string() },
        _ => Failure::Fatal { message: error.to_string() },
    }
}
