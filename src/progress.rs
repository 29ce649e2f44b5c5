//! Progress on standard error: a bar on a terminal, lines of text without one.

use crate::attempt::{reached, shown};
use crate::say::is_drawn_on;
use crate::screen::Screen;
use bloctrain_shared::task::{Progress, Stage};
use bloctrain_shared::view::RunView;
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// The progress of one run.
pub(crate) struct Display {
    bar: ProgressBar,
    /// Whether the terminal had room for all of it when it was last drawn.
    is_wide: Option<bool>,
    notes: usize,
    /// The block and stage that are shown, with when and where they were first seen.
    since: Option<((u32, Stage), Instant, u64)>,
    lines: Option<Lines>,
    /// The whole terminal, where it was asked for and is there.
    screen: Option<Screen>,
    /// What is said when the terminal is as it was.
    kept: Vec<String>,
    /// What was shown last, for a terminal that gets another size.
    last: Option<RunView>,
}

/// Lines for logs: one an epoch or stage, and no more than one in [`EVERY`].
struct Lines {
    last: Instant,
    said: Option<(u32, Stage, u32)>,
}

/// Columns from which a terminal has room for a bar and figures.
const WIDE: usize = 120;

/// Shortest time between two lines.
const EVERY: Duration = Duration::from_secs(10);

impl Lines {
    /// The line to be written now, if any.
    fn next(&mut self, view: &RunView, now: Instant) -> Option<String> {
        let (place, text) = line(view)?;
        if self.said == Some(place) || now.duration_since(self.last) < EVERY {
            return None;
        }
        (self.said, self.last) = (Some(place), now);
        Some(text)
    }
}

/// What there is to say of a run: the last epoch of training, or the stage that it is in.
fn line(view: &RunView) -> Option<((u32, Stage, u32), String)> {
    let attempt = shown(view)?;
    let (block, stage, progress) = (attempt.task.block, attempt.task.stage, reached(view, attempt));
    if stage != Stage::Train {
        let text = match progress.total {
            0 => format!("{} begins", attempt.task),
            total => format!("{}: {} of {}", attempt.task, progress.done, total.max(progress.done)),
        };
        return Some(((block, stage, 0), text));
    }
    let last = view.blocks.iter().find(|known| known.block == block).and_then(|known| known.last_round.as_ref());
    let text = match last {
        Some(round) => format!(
            "block {block}: epoch {} of {}, loss {:.3}, accuracy {:.1} %, firing {:.1} %",
            round.epochs,
            progress.epochs.max(round.epochs),
            round.loss,
            100.0 * round.accuracy,
            100.0 * round.firing_rate
        ),
        None if progress.total == 0 => format!("block {block}: training begins"),
        None => format!(
            "block {block}: the first epoch, batch {} of {}",
            progress.done,
            progress.total / u64::from(progress.epochs.max(1))
        ),
    };
    Some(((block, stage, last.map_or(0, |round| round.epochs)), text))
}

impl Display {
    /// A bar for a run, or lines where there is no terminal.
    #[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
    pub(crate) fn new(whole: bool) -> Self {
        let bar = if is_drawn_on() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let lines = (!is_drawn_on()).then(|| Lines { last: Instant::now(), said: None });
        // A terminal that cannot be taken has the bar.
        let screen = if whole { Screen::open().ok().flatten() } else { None };
        Self { bar, is_wide: None, notes: 0, since: None, lines, screen, kept: Vec::new(), last: None }
    }

    /// Leaves out what a run had to say before it was looked at.
    pub(crate) fn skip(&mut self, view: &RunView) {
        self.notes = view.notes.len();
    }

    /// Draws again what was shown last: the terminal has another size.
    pub(crate) fn redraw(&mut self) {
        if let Some(view) = self.last.take().filter(|_| self.lines.is_none()) {
            self.show(&view);
        }
    }

    /// Shows a view of the run.
    #[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
    pub(crate) fn show(&mut self, view: &RunView) {
        if self.lines.is_none() {
            self.last = Some(view.clone());
        }
        if let Some(screen) = &mut self.screen {
            self.kept.extend(view.notes.iter().skip(self.notes).cloned());
            self.notes = view.notes.len();
            return screen.show(view);
        }
        for note in view.notes.iter().skip(self.notes) {
            self.bar.suspend(|| say!("note: {note}"));
        }
        self.notes = view.notes.len();
        if let Some(lines) = &mut self.lines {
            lines.next(view, Instant::now()).iter().for_each(|line| say!("{line}"));
            return;
        }
        self.fit(usize::from(Term::stderr().size().1));
        let Some(attempt) = shown(view) else { return };
        let progress = reached(view, attempt);
        let left = self.left((attempt.task.block, attempt.task.stage), &progress, Instant::now());
        self.bar.set_prefix(attempt.task.to_string());
        self.bar.set_length(progress.total.max(1));
        self.bar.set_position(progress.done);
        self.bar.set_message(message(attempt.task.stage, &progress, left));
    }

    /// Draws in a form that a terminal of some columns has room for; what is too long is cut off.
    fn fit(&mut self, columns: usize) {
        let is_wide = columns >= WIDE;
        if self.is_wide.replace(is_wide) == Some(is_wide) {
            return;
        }
        let template = if is_wide {
            "{prefix:22} {bar:24} {pos}/{len} {wide_msg} [{elapsed}]"
        } else {
            "{prefix} {pos}/{len} {wide_msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
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

    /// The whole terminal, if it is taken: it wants to know what was done before.
    pub(crate) fn screen(&mut self) -> Option<&mut Screen> {
        self.screen.as_mut()
    }

    /// Clears the bar, or gives the terminal back.
    pub(crate) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.screen = None;
        self.kept.drain(..).for_each(|note| say!("note: {note}"));
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
pub(crate) fn duration(time: Duration) -> String {
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
        let mut display = Display::new(false);
        let begun = Instant::now();
        let at = |done| Progress { done, total: 100, ..Progress::default() };
        let stage = (1, Stage::Train);
        assert_eq!(display.left(stage, &at(40), begun), None, "resumed at 40: nothing is known yet");
        assert_eq!(display.left(stage, &at(40), begun + Duration::from_secs(1)), None);
        assert_eq!(display.left(stage, &at(60), begun + Duration::from_secs(10)), Some(Duration::from_secs(20)));
        assert_eq!(
            display.left((2, Stage::Train), &at(0), begun + Duration::from_secs(11)),
            None,
            "another stage begins anew"
        );
    }

    /// A run in training that has committed some epochs of its second block.
    fn view(epochs: u32) -> RunView {
        let round = serde_json::json!({ "epochs": epochs, "epoch_samples": 9, "loss": 0.5, "accuracy": 0.75,
            "firing_rate": 0.1,
            "samples": 9, "seconds": 1.0, "peak_memory_bytes": 0, "parameters": 0, "validation_accuracy": null });
        let block = serde_json::json!({ "block": 2, "classes": [0, 1], "hard": null, "rounds": epochs, "accuracy": null,
            "last_round": if epochs > 0 { round } else { serde_json::Value::Null }, "stages": [] });
        let task = serde_json::json!({ "block": 2, "stage": "train", "part": 0 });
        let progress = Progress { done: 30, total: 100, epochs: 10, ..Progress::default() };
        let attempt = serde_json::json!({ "task": task, "worker": "w", "progress": progress });
        let view = serde_json::json!({ "run": "r", "name": null, "dataset": "d", "end_to_end": false,
            "state": { "state": "running" },
            "created_ms": 0, "updated_ms": 0, "blocks": [block], "stages": [], "attempts": [attempt], "notes": [],
                "summary": null });
        serde_json::from_value(view).expect("a view")
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn without_a_terminal_there_is_a_line_an_epoch_and_at_most_one_in_ten_seconds() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lines = Lines { last: begun, said: None };
        assert_eq!(lines.next(&view(0), at(1)), None, "the run was named just now");
        assert_eq!(lines.next(&view(0), at(11)).as_deref(), Some("block 2: the first epoch, batch 30 of 10"));
        assert_eq!(lines.next(&view(0), at(50)), None, "nothing is new");
        let line = lines.next(&view(3), at(51)).expect("an epoch is done");
        assert_eq!(line, "block 2: epoch 3 of 10, loss 0.500, accuracy 75.0 %, firing 10.0 %");
        assert_eq!(lines.next(&view(4), at(55)), None, "too soon");
        assert!(lines.next(&view(4), at(61)).is_some(), "it is said later");
        assert_eq!(lines.next(&view(4), at(90)), None);
    }

    #[test]
    fn a_stage_of_which_nothing_is_heard_begins() {
        let mut view = view(0);
        view.attempts[0].task.stage = Stage::Score;
        assert_eq!(line(&view).expect("a line").1, "block2/score/0: 30 of 100");
        view.attempts[0].progress = Progress::default();
        assert_eq!(line(&view).expect("a line").1, "block2/score/0 begins");
    }

    #[test]
    fn a_round_of_which_nothing_is_heard_is_where_the_one_before_ended() {
        let mut view = view(3);
        view.planned_epochs = 10;
        assert_eq!(reached(&view, &view.attempts[0]), view.attempts[0].progress, "what it says counts");
        view.attempts[0].progress = Progress::default();
        let at = reached(&view, &view.attempts[0]);
        assert_eq!((at.done, at.total), (27, 90));
        let said = message(Stage::Train, &at, None);
        assert_eq!(said, "epoch 4/10  loss 0.500  accuracy 75.0 %  9 images/s  firing 10.0 %  waiting 0.0 %");
        assert_eq!(
            line(&view).expect("a line").1,
            "block 2: epoch 3 of 10, loss 0.500, accuracy 75.0 %, firing 10.0 %"
        );
        view.blocks[0].last_round = None;
        assert_eq!(reached(&view, &view.attempts[0]), Progress::default(), "the first round");
    }

    #[test]
    fn durations_in_words() {
        let words = [59, 61, 3599, 7322].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(words, ["59s", "1m 1s", "59m 59s", "2h 2m"]);
    }
}
