//! How far a run is, and how long its training may still take. Estimates, for people; nothing is decided from them.

use bloctrain_shared::stage::Stage;
use bloctrain_shared::view::{BlockView, RunState, RunView};

/// Share of a run's work that is counted to training; the rest is validation, detectors, cached spikes and evaluation.
const TRAINING: f64 = 0.95;

/// Epochs of a block that are planned.
fn planned(view: &RunView, block: u32) -> f64 {
    f64::from(view.epochs_of(block))
}

/// Epochs of a block that are done: those that are committed, or what its worker told of all of them.
fn epochs(view: &RunView, block: &BlockView) -> f64 {
    let committed = block.last_round.as_ref().map_or(0, |round| round.epochs);
    let own =
        view.attempts.iter().filter(|attempt| attempt.task.block == block.block && attempt.task.stage == Stage::Train);
    let progress = own.map(|attempt| &attempt.progress).filter(|progress| progress.total > 0);
    let part = progress.map(|progress| progress.done as f64 / progress.total as f64).fold(0.0, f64::max);
    f64::from(committed).max(part.min(1.0) * planned(view, block.block))
}

/// Whether a block's training is over: whatever follows it has begun or is done.
fn is_trained(block: &BlockView) -> bool {
    let validated = block.stages.iter().find(|stage| stage.stage == Stage::Validate);
    block.hard.is_some() || validated.is_some_and(|stage| stage.done > 0)
}

/// Epochs of a block that count as done, at most those that are planned.
fn counted(view: &RunView, block: &BlockView) -> f64 {
    let planned = planned(view, block.block);
    if is_trained(block) { planned } else { epochs(view, block).min(planned) }
}

/// How much of a run is done, in [0, 1]: by epochs, and below 1 until it is completed.
pub fn progress(view: &RunView) -> f64 {
    if view.state == RunState::Completed {
        return 1.0;
    }
    let planned: f64 = (1..=view.planned_blocks).map(|block| planned(view, block)).sum();
    let done: f64 = view.blocks.iter().map(|block| counted(view, block)).sum();
    if planned > 0.0 { (TRAINING * done / planned).clamp(0.0, TRAINING) } else { 0.0 }
}

/// Seconds of training that a running run still takes at most, by the time that an epoch took last: blocks that have
/// not begun are counted like the last one that has, though they train on fewer samples. `None` before the first round,
/// and of a run that does not go on.
pub fn left_seconds(view: &RunView) -> Option<f64> {
    if view.state != RunState::Running {
        return None;
    }
    let epoch = |block: &BlockView| {
        let round = block.last_round.as_ref().filter(|round| round.samples > 0)?;
        Some(round.seconds * round.epoch_samples as f64 / round.samples as f64)
    };
    let (mut left, mut last) = (0.0, None);
    for block in &view.blocks {
        last = epoch(block).or(last);
        left += (planned(view, block.block) - counted(view, block)) * last?;
    }
    let begun = u32::try_from(view.blocks.len()).unwrap_or(u32::MAX);
    let ended = view.stages.iter().any(|stage| stage.stage == Stage::Evaluate && stage.done > 0);
    let coming = if ended { begun } else { view.planned_blocks };
    Some(left + (begun + 1..=coming).map(|block| planned(view, block)).sum::<f64>() * last?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Three blocks of ten epochs; the first is done, the second has four epochs and half of the fifth.
    fn view() -> RunView {
        let block = |block: u32, epochs: u32, seconds: f64, hard: serde_json::Value| {
            json!({ "block": block, "classes": [0, 1], "hard": hard, "rounds": epochs, "accuracy": null, "stages": [],
                "last_round": { "epochs": epochs, "epoch_samples": 100, "loss": 0.5, "accuracy": 0.5,
                    "firing_rate": 0.1, "samples": 50,
                    "seconds": seconds, "peak_memory_bytes": 0, "parameters": 0, "validation_accuracy": null } })
        };
        let attempt = json!({ "task": { "block": 2, "stage": "train", "part": 4 }, "worker": "w",
            "progress": { "done": 45, "total": 100, "epoch": 4, "epochs": 10, "loss": 0, "accuracy": 0,
                "images_per_second": 0, "firing_rate": 0 } });
        let view = json!({ "run": "r", "name": null, "dataset": "d", "end_to_end": false,
            "state": { "state": "running" },
            "created_ms": 0, "updated_ms": 0,
                "blocks": [block(1, 10, 2.0, json!([0, 1])), block(2, 4, 1.0, json!(null))],
            "stages": [], "attempts": [attempt], "notes": [], "summary": null, "planned_blocks": 3,
                "planned_epochs": 10 });
        serde_json::from_value(view).expect("a view")
    }

    #[test]
    fn what_is_left_by_hand() {
        let mut view = view();
        assert_eq!(progress(&view), 0.95 * 14.5 / 30.0);
        // An epoch of the second block takes 2 s: 5.5 of its own are left, and 10 of the third.
        assert_eq!(left_seconds(&view), Some(31.0));
        view.later_epochs = 5;
        assert_eq!((progress(&view), left_seconds(&view)), (0.95 * 14.0 / 20.0, Some(12.0)), "4 of 5 are done, 5 come");
        view.later_epochs = 0;
        view.state = RunState::Paused;
        assert_eq!(left_seconds(&view), None);
        view.state = RunState::Completed;
        assert_eq!(progress(&view), 1.0);
        view.state = RunState::Running;
        view.blocks.truncate(1);
        (view.blocks[0].last_round, view.blocks[0].hard) = (None, None);
        assert_eq!((left_seconds(&view), progress(&view)), (None, 0.0), "nothing is known yet");
    }
}
