//! A run on the whole terminal: its pipeline, its curves, who works on it.

use crate::attempt::reached;
use crate::say::is_drawn_on;
use crate::table;
use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::task::{Progress, Stage};
use bloctrain_shared::view::{BlockView, RunView};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};
use ratatui::{Frame, Terminal};
use std::io::Stderr;

/// Colours of blocks.
const COLOURS: [Color; 6] = [Color::Blue, Color::Red, Color::Green, Color::Magenta, Color::Yellow, Color::Cyan];

/// Columns from which two curves are beside each other.
const WIDE: u16 = 90;

/// Rows from which curves are drawn.
const HIGH: u16 = 18;

/// Most workers that are named.
const WORKERS: usize = 6;

/// Columns of a bar.
const BAR: usize = 12;

/// An epoch that is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    block: u32,
    epoch: u32,
    loss: f64,
    accuracy: f64,
}

impl From<&HistoryLine> for Point {
    fn from(line: &HistoryLine) -> Self {
        Self { block: line.block, epoch: line.epoch, loss: line.loss, accuracy: line.accuracy }
    }
}

/// The epochs that were seen.
#[derive(Debug, Default)]
pub(crate) struct Course(Vec<Point>);

impl Course {
    /// Takes what was done before anybody looked.
    pub(crate) fn remember(&mut self, lines: &[HistoryLine]) {
        self.0 = lines.iter().filter(|line| !line.partial).map(Point::from).collect();
    }

    /// Takes what a view says that is new.
    fn note(&mut self, view: &RunView) {
        for block in &view.blocks {
            let Some(round) = block.last_round.as_ref().filter(|round| round.epochs > 0) else { continue };
            let last = self.0.iter().filter(|point| point.block == block.block).map(|point| point.epoch).max();
            if last.is_none_or(|last| last < round.epochs) {
                let (loss, accuracy) = (round.loss, round.accuracy);
                self.0.push(Point { block: block.block, epoch: round.epochs, loss, accuracy });
            }
        }
    }

    /// Points of a block, of one figure.
    fn points(&self, block: u32, figure: fn(&Point) -> f64) -> Vec<(f64, f64)> {
        let own = self.0.iter().filter(|point| point.block == block);
        own.map(|point| (f64::from(point.epoch), figure(point))).collect()
    }
}

/// The terminal, as long as this lives.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    pub(crate) course: Course,
}

impl Screen {
    /// Takes the terminal; none where standard error is none, or a dumb one.
    pub(crate) fn open() -> std::io::Result<Option<Self>> {
        if !is_drawn_on() {
            return Ok(None);
        }
        // Keys go on meaning what they mean: Ctrl-C is a signal.
        execute!(std::io::stderr(), EnterAlternateScreen, Hide)?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stderr()))?;
        Ok(Some(Self { terminal, course: Course::default() }))
    }

    /// Shows a view of the run. A terminal that cannot be drawn on shows nothing.
    pub(crate) fn show(&mut self, view: &RunView) {
        self.course.note(view);
        let course = &self.course;
        let _ = self.terminal.draw(|frame| draw(frame, view, course));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever closed the terminal does not need it as it was.
        let _ = execute!(std::io::stderr(), LeaveAlternateScreen, Show);
    }
}

/// Draws all of it, as far as there is room.
fn draw(frame: &mut Frame<'_>, view: &RunView, course: &Course) {
    let area = frame.area();
    let rows = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX);
    let (blocks, workers) = (rows(view.blocks.len() + 3), rows(view.attempts.len().clamp(1, WORKERS) + 2));
    let has_curves = area.height >= HIGH;
    let curves = if has_curves { Constraint::Min(8) } else { Constraint::Length(0) };
    let layout = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(blocks),
        curves,
        Constraint::Length(workers),
        Constraint::Length(1),
    ]);
    let [title, pipeline, middle, bottom, note] = layout.areas(area);
    frame.render_widget(Paragraph::new(heading(view)), title);
    frame.render_widget(Paragraph::new(stages(view)).block(Block::bordered().title(" pipeline ")), pipeline);
    if has_curves {
        draw_curves(frame, middle, view, course);
    }
    frame.render_widget(Paragraph::new(attempts(view)).block(Block::bordered().title(" at work ")), bottom);
    let last = view.notes.last().map(|note| format!("note: {note}"));
    frame.render_widget(Paragraph::new(last.unwrap_or_else(|| "Ctrl-C ends".into())).dim(), note);
}

fn heading(view: &RunView) -> Line<'static> {
    let name = view.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    Line::from(vec![
        Span::raw(view.run.clone()).bold(),
        Span::raw(format!("{name}  {}  {}", view.dataset, table::state(&view.state))),
    ])
}

fn bar(done: u32, total: u32) -> String {
    let share = if total > 0 { (f64::from(done) / f64::from(total)).clamp(0.0, 1.0) } else { 0.0 };
    let full = (share * BAR as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

fn stages(view: &RunView) -> Vec<Line<'static>> {
    let of_block = |block: &BlockView| {
        let colour = colour(block.block);
        let hard = block.hard.as_ref().map(|hard| format!(", {} hard", hard.len())).unwrap_or_default();
        let mut spans = vec![Span::styled(format!("block {} ", block.block), Style::new().fg(colour).bold())];
        for stage in &block.stages {
            let text = match stage.stage {
                Stage::Train => format!("{} {}/{} ", bar(stage.done, stage.total), stage.done, stage.total),
                other => format!(" {} {}/{}", other.name(), stage.done, stage.total),
            };
            spans.push(Span::raw(text));
        }
        spans.push(Span::raw(format!("  {} classes{hard}", block.classes.len())));
        spans.extend(block.accuracy.map(|accuracy| Span::raw(format!("  {}", table::percent(accuracy)))));
        Line::from(spans)
    };
    let mut lines: Vec<Line<'static>> = view.blocks.iter().map(of_block).collect();
    let network: Vec<String> =
        view.stages.iter().map(|stage| format!("{} {}/{}", stage.stage.name(), stage.done, stage.total)).collect();
    lines.push(Line::from(format!("network {}", network.join("  "))));
    lines
}

fn colour(block: u32) -> Color {
    COLOURS[(block as usize).saturating_sub(1) % COLOURS.len()]
}

fn attempts(view: &RunView) -> Vec<Line<'static>> {
    if view.attempts.is_empty() {
        let why = view.missing.clone().or_else(|| view.refused.first().map(|refused| refused.why.clone()));
        return vec![Line::from(why.unwrap_or_else(|| "nobody".into()))];
    }
    let line = |attempt: &bloctrain_shared::view::AttemptView| {
        let Progress { done, total, loss, images_per_second, .. } = reached(view, attempt);
        let figures = if attempt.task.stage == Stage::Train {
            format!("  loss {loss:.3}  {images_per_second:.0} images/s")
        } else {
            String::new()
        };
        Line::from(format!("{:16} {:20} {done}/{total}{figures}", attempt.worker, attempt.task.to_string()))
    };
    view.attempts.iter().take(WORKERS).map(line).collect()
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, view: &RunView, course: &Course) {
    let places = if area.width >= WIDE {
        Layout::horizontal([Constraint::Ratio(1, 2); 2]).areas::<2>(area)
    } else {
        Layout::vertical([Constraint::Ratio(1, 2); 2]).areas::<2>(area)
    };
    draw_curve(frame, places[0], view, course, " loss by epoch ", |point| point.loss);
    draw_curve(frame, places[1], view, course, " accuracy by epoch, % ", |point| 100.0 * point.accuracy);
}

fn draw_curve(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &RunView,
    course: &Course,
    title: &'static str,
    figure: fn(&Point) -> f64,
) {
    let series: Vec<(u32, Vec<(f64, f64)>)> =
        view.blocks.iter().map(|block| (block.block, course.points(block.block, figure))).collect();
    let all = || series.iter().flat_map(|(_, points)| points).filter(|(_, y)| y.is_finite());
    let low = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low < high {
        (low, high)
    } else if low == high {
        (low - 0.5, high + 0.5)
    } else {
        (0.0, 1.0)
    };
    let last = all().map(|point| point.0).fold(2.0, f64::max);
    let datasets = series.iter().map(|(block, points)| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour(*block)))
            .data(points)
    });
    let digits = if high - low < 5.0 { 2 } else { 0 };
    let chart = Chart::new(datasets.collect())
        .block(Block::bordered().title(title))
        .x_axis(Axis::default().bounds([1.0, last]).labels(["1".to_owned(), format!("{last:.0}")]))
        .y_axis(Axis::default().bounds([low, high]).labels([format!("{low:.digits$}"), format!("{high:.digits$}")]));
    frame.render_widget(chart, area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;

    fn view() -> RunView {
        let round = |epochs: u32| {
            serde_json::json!({ "epochs": epochs, "epoch_samples": 9, "loss": 1.0 / f64::from(epochs), "accuracy": 0.75,
                "firing_rate": 0.1, "samples": 9, "seconds": 1.0, "peak_memory_bytes": 0, "parameters": 0,
                    "validation_accuracy": null })
        };
        let stage =
            |stage: &str, done: u32, total: u32| serde_json::json!({ "stage": stage, "done": done, "total": total });
        let block = |number: u32, epochs: u32| {
            serde_json::json!({ "block": number, "classes": [0, 1], "hard": [1], "rounds": epochs, "accuracy": 0.5,
                "last_round": round(epochs), "stages": [stage("train", epochs, 10), stage("validate", 0, 1)] })
        };
        let task = serde_json::json!({ "block": 2, "stage": "train", "part": 0 });
        let progress =
            Progress { done: 30, total: 100, epochs: 10, loss: 0.5, images_per_second: 900.0, ..Progress::default() };
        let attempt = serde_json::json!({ "task": task, "worker": "worker0", "progress": progress });
        let view = serde_json::json!({ "run": "r123", "name": "mine", "dataset": "d", "end_to_end": false,
            "state": { "state": "running" }, "created_ms": 0, "updated_ms": 0, "blocks": [block(1, 10), block(2, 3)],
            "stages": [stage("evaluate", 0, 2)], "attempts": [attempt], "notes": ["a note"], "summary": null });
        serde_json::from_value(view).expect("a view")
    }

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        let (view, mut course) = (view(), Course::default());
        course.note(&view);
        course.0.insert(0, Point { block: 1, epoch: 1, loss: 2.0, accuracy: 0.25 });
        terminal.draw(|frame| draw(frame, &view, &course)).expect("in memory");
        terminal.backend().to_string()
    }

    #[test]
    fn every_size_of_a_terminal_can_be_drawn_on() {
        for (width, height) in [(1, 1), (20, 4), (60, 16), (60, 24), (100, 30), (300, 90)] {
            drawn(width, height);
        }
        let narrow = drawn(60, 24);
        for part in ["r123", "block 1", "██████████", "block 2", "3/10", "loss by epoch", "worker0", "a note"]
        {
            assert!(narrow.contains(part), "{part}: {narrow}");
        }
        assert!(drawn(100, 30).contains("accuracy by epoch"));
    }

    #[test]
    fn an_epoch_is_taken_once() {
        let (view, mut course) = (view(), Course::default());
        course.note(&view);
        course.note(&view);
        let epochs: Vec<(u32, u32)> = course.0.iter().map(|point| (point.block, point.epoch)).collect();
        assert_eq!(epochs, [(1, 10), (2, 3)]);
        assert_eq!(course.points(2, |point| point.accuracy), [(3.0, 0.75)]);
    }
}
