//! Progress on standard error: bars on a terminal, nothing without one.

use bloctrain_shared::task::Stage;
use bloctrain_shared::view::RunView;
use indicatif::{ProgressBar, ProgressStyle};

/// The progress of one run.
pub(crate) struct Display {
    bar: ProgressBar,
    notes: usize,
    committed: usize,
}

impl Display {
    /// A bar for a run. Notes are printed even without a terminal.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{prefix:22} {bar:24} {pos}/{len} {msg} [{elapsed}, {eta} left]") {
            bar.set_style(style);
        }
        Self { bar, notes: 0, committed: 0 }
    }

    /// Shows a view of the run.
    pub(crate) fn show(&mut self, view: &RunView) {
        for note in view.notes.iter().skip(self.notes) {
            self.bar.suspend(|| eprintln!("note: {note}"));
        }
        self.notes = view.notes.len();
        let Some(attempt) = view.attempts.iter().max_by_key(|attempt| (attempt.task.stage == Stage::Train, attempt.task)) else {
            return;
        };
        let stages = view.blocks.iter().flat_map(|block| &block.stages).chain(&view.stages);
        let committed = stages.map(|stage| stage.done as usize).sum();
        if committed != self.committed && attempt.task.stage != Stage::Train {
            self.bar.reset_eta();
        }
        self.committed = committed;
        let progress = &attempt.progress;
        self.bar.set_prefix(attempt.task.to_string());
        self.bar.set_length(progress.total.max(1));
        self.bar.set_position(progress.done);
        if attempt.task.stage == Stage::Train && progress.epochs > 0 {
            self.bar.set_message(format!(
                "epoch {}/{}  loss {:.3}  accuracy {:.1} %  {:.0} images/s  firing {:.1} %",
                progress.epoch + 1,
                progress.epochs,
                progress.loss,
                100.0 * progress.accuracy,
                progress.images_per_second,
                100.0 * progress.firing_rate,
            ));
        } else {
            self.bar.set_message(String::new());
        }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
