//! Which of a run's attempts people see, and how far it is.

use bloctrain_shared::task::{Progress, Stage};
use bloctrain_shared::view::{AttemptView, RunView};

/// The attempt that people see: training before all others.
pub(crate) fn shown(view: &RunView) -> Option<&AttemptView> {
    view.attempts.iter().max_by_key(|attempt| (attempt.task.stage == Stage::Train, attempt.task))
}

/// How far an attempt is. Until it has said something it is where the round before ended: a round may be over before
/// anything is heard of it.
pub(crate) fn reached(view: &RunView, attempt: &AttemptView) -> Progress {
    let block = view.blocks.iter().find(|known| known.block == attempt.task.block);
    let is_silent = attempt.task.stage == Stage::Train && attempt.progress.epochs == 0;
    let Some(round) = block.and_then(|known| known.last_round.as_ref()).filter(|_| is_silent) else {
        return attempt.progress.clone();
    };
    let samples = round.epoch_samples as u64;
    let epochs = view.epochs_of(attempt.task.block).max(round.epochs);
    let seconds = round.seconds.max(f64::MIN_POSITIVE);
    Progress {
        done: u64::from(round.epochs) * samples,
        total: u64::from(epochs) * samples,
        epoch: round.epochs.min(epochs.saturating_sub(1)),
        epochs,
        loss: round.loss,
        accuracy: round.accuracy,
        images_per_second: round.samples as f64 / seconds,
        firing_rate: round.firing_rate,
        waiting_fraction: round.waiting_seconds / seconds,
        ..attempt.progress.clone()
    }
}
