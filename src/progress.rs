//! Progress on standard error: a bar on a terminal, nothing without one.

use bloctrain_shared::task::{Progress, Stage};
use bloctrain_shared::view::RunView;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// The progress of one run.
pub(crate) struct Display {
    bar: ProgressBar,
    notes: usize,
    /// The block and stage that are shown, with when and where they were first seen.
    since: Option<((u32, Stage), Instant, u64)>,
}

impl Display {
    /// A bar for a run. Notes are printed even without a terminal.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{prefix:22} {bar:24} {pos}/{len} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self { bar, notes: 0, since: None }
    }

    /// Shows a view of the run.
    #[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
    pub(crate) fn show(&mut self, view: &RunView) {
        for note in view.notes.iter().skip(self.notes) {
            self.bar.suspend(|| eprintln!("note: {note}"));
        }
        self.notes = view.notes.len();
        let Some(attempt) = view.attempts.iter().max_by_key(|attempt| (attempt.task.stage == Stage::Train, attempt.task)) else {
            return;
        };
        let progress = &attempt.progress;
        let left = self.left((attempt.task.block, attempt.task.stage), progress, Instant::now());
        self.bar.set_prefix(attempt.task.to_string());
        self.bar.set_length(progress.total.max(1));
        self.bar.set_position(progress.done);
        self.bar.set_message(message(attempt.task.stage, progress, left));
    }

    /// Time left of a stage, at the pace that it has had since it was first seen.
    fn left(&mut self, stage: (u32, Stage), progress: &Progress, now: Instant) -> Option<Duration> {
        match self.since {
            Some((shown, begun, first)) if shown == stage && progress.done > first => {
                let pace = now.duration_since(begun).as_secs_f64() / (progress.done - first) as f64;
                let left = pace * progress.total.saturating_sub(progress.done) as f64;
                Duration::try_from_secs_f64(left).ok()
            }
            Some((shown, _, first)) if shown == stage && progress.done == first => None,
            _ => {
                self.since = Some((stage, now, progress.done));
                None
            }
        }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn message(stage: Stage, progress: &Progress, left: Option<Duration>) -> String {
    let left = left.map(|left| format!("{} left", duration(left)));
    if stage != Stage::Train || progress.epochs == 0 {
        return left.unwrap_or_default();
    }
    let figures = format!(
        "epoch {}/{}  loss {:.3}  accuracy {:.1} %  {:.0} images/s  firing {:.1} %  waiting {:.1} %",
        progress.epoch + 1,
        progress.epochs,
        progress.loss,
        100.0 * progress.accuracy,
        progress.images_per_second,
        100.0 * progress.firing_rate,
        100.0 * progress.waiting_fraction,
    );
    [Some(figures), left].into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// Hours, minutes and seconds, the larger two that matter.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds if seconds < 3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn time_left_follows_the_pace_of_the_stage() {
        let mut display = Display::new();
        let begun = Instant::now();
        let at = |done| Progress { done, total: 100, ..Progress::default() };
        let stage = (1, Stage::Train);
        assert_eq!(display.left(stage, &at(40), begun), None, "resumed at 40: nothing is known yet");
        assert_eq!(display.left(stage, &at(40), begun + Duration::from_secs(1)), None);
        assert_eq!(display.left(stage, &at(60), begun + Duration::from_secs(10)), Some(Duration::from_secs(20)));
        assert_eq!(display.left((2, Stage::Train), &at(0), begun + Duration::from_secs(11)), None, "another stage begins anew");
    }

    #[test]
    fn durations_in_words() {
        let words = [59, 61, 3599, 7322].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(words, ["59s", "1m 1s", "59m 59s", "2h 2m"]);
    }
}
