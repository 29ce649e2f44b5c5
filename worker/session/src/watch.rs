//! Whether the running task gets on. A thread that computes cannot be ended from outside, so a worker whose task hangs
//! ends itself, for whatever started it to start it anew.

use bloctrain_shared::task::{Progress, TaskId};
use std::time::Duration;
use tokio::time::Instant;

/// Times the coordinator's patience: it has ended the lease by then, and said so.
const FACTOR: u64 = 2;

/// Watches the running task.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The coordinator's patience with a training task, milliseconds; 0 for no end of it.
    stall_ms: u64,
    seen: Option<(Progress, Instant)>,
}

impl Watch {
    /// Takes over the patience of the coordinator.
    pub(crate) fn set(&mut self, stall_ms: u64) {
        self.stall_ms = stall_ms;
    }

    /// A task begins.
    pub(crate) fn begin(&mut self) {
        self.seen = None;
    }

    /// Looks at the progress of a task; how long it has stood still, if that is too long.
    pub(crate) fn look(&mut self, task: TaskId, progress: Progress) -> Option<Duration> {
        let since = match &self.seen {
            Some((seen, since)) if *seen == progress => *since,
            _ => {
                self.seen = Some((progress, Instant::now()));
                return None;
            }
        };
        let patience = Duration::from_millis(self.stall_ms.saturating_mul(FACTOR * task.stage.patience()));
        let still = since.elapsed();
        (self.stall_ms > 0 && still >= patience).then_some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::task::Stage;

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_too_long_is_noticed_and_what_moves_is_not() {
        let task = |stage| TaskId { block: 1, stage, part: 0, replica: 0 };
        let mut watch = Watch::default();
        watch.set(1_000);
        for ticks in 0..10 {
            let progress = Progress { ticks, ..Progress::default() };
            assert_eq!(watch.look(task(Stage::Train), progress), None, "it moves");
            tokio::time::advance(Duration::from_millis(1_900)).await;
        }
        let still = Progress { ticks: 9, ..Progress::default() };
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(watch.look(task(Stage::Finish), still.clone()), None, "this one may take longer");
        assert_eq!(watch.look(task(Stage::Train), still.clone()), Some(Duration::from_millis(2_100)));
        watch.begin();
        assert_eq!(watch.look(task(Stage::Train), still.clone()), None, "another task");
        watch.set(0);
        tokio::time::advance(Duration::from_secs(1 << 20)).await;
        assert_eq!(watch.look(task(Stage::Train), still), None, "nobody asks for it");
    }
}
