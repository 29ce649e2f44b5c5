//! How well a network answers: by class, by confusion, by exit.

use crate::Run;
use crate::chart::{Chart, Series};
use crate::document::{Section, Table};
use crate::grid::{Cell, Grid};
use crate::number::{count, percent};
use bloctrain_shared::curve::{CurveFigures, CurvePoint};
use std::cmp::Reverse;

/// Classes up to which each has a row of its own.
const ROWS: usize = 120;

/// Classes up to which the whole confusion matrix is drawn.
const MATRIX: usize = 60;

/// Classes up to which its cells have room for numbers.
const NUMBERED: usize = 20;

/// Confusions that are named.
const NAMED: usize = 12;

/// Global labels of a block's classes: those that stayed hard in the block before.
fn labels(run: &Run, index: usize) -> Vec<u16> {
    match index.checked_sub(1).and_then(|before| run.summary.blocks.get(before)) {
        Some(before) => before.hard_classes.clone(),
        None => (0..u16::try_from(run.dataset.classes.len()).unwrap_or(u16::MAX)).collect(),
    }
}

pub(super) fn classes(section: &mut Section, run: &Run) {
    let blocks = &run.summary.blocks;
    let answers = run.figures.as_ref().map(|figures| figures.confusion.class_accuracy());
    let classes: Vec<u16> = labels(run, 0);
    let of_block = |label: u16| {
        blocks.iter().enumerate().map(move |(index, block)| {
            let at = labels(run, index).binary_search(&label).ok()?;
            let accuracy = block.class_accuracy.get(at).copied().flatten()?;
            // Where all stay hard, as under hard inputs, a frame would say nothing.
            let sorts = block.hard_classes.len() < block.classes;
            Some((accuracy, sorts && block.hard_classes.contains(&label)))
        })
    };
    let cell =
        |accuracy: f64, is_marked: bool| Cell { shade: accuracy, text: format!("{:.1}", 100.0 * accuracy), is_marked };
    let row = |label: u16| {
        let mut cells: Vec<Option<Cell>> =
            of_block(label).map(|found| found.map(|(accuracy, is_hard)| cell(accuracy, is_hard))).collect();
        if let Some(answers) = &answers {
            cells.push(answers.get(usize::from(label)).copied().flatten().map(|accuracy| cell(accuracy, false)));
        }
        (run.class(label), cells)
    };
    let mut shown = classes.clone();
    if shown.len() > ROWS {
        let worst = |label: &u16| {
            let final_accuracy =
                answers.as_ref().and_then(|answers| answers.get(usize::from(*label)).copied().flatten());
            let first = of_block(*label).flatten().map(|(accuracy, _)| accuracy).next();
            (final_accuracy.or(first).unwrap_or(1.0) * 1e6) as u64
        };
        shown.sort_by_key(worst);
        shown.truncate(ROWS);
        section.text(format!("Of {} classes the {ROWS} least accurate are shown.", classes.len()));
    }
    let mut columns: Vec<String> = blocks.iter().map(|block| format!("block {}", block.block)).collect();
    if answers.is_some() {
        columns.push("answers".into());
    }
    let grid = Grid {
        what: "accuracy of every class in every block, in percent",
        rows: shown.iter().map(|label| row(*label)).collect(),
        columns,
        width: 64.0,
        colour: 0,
    };
    section.picture(
        grid.to_svg(),
        "Accuracy of every class in percent: of the blocks on validation data, when they were frozen; of the answers, \
        with exits, on test data. A frame: the class stayed hard, and the next block learned it; a block without \
        frames hands on all classes.",
    );
    let mut table =
        Table::numbers(&["class", "blocks that learned it", "accuracy in the last of them", "accuracy of the answers"]);
    for label in shown {
        let learned: Vec<f64> = of_block(label).flatten().map(|(accuracy, _)| accuracy).collect();
        let answered = answers.as_ref().and_then(|answers| answers.get(usize::from(label)).copied().flatten());
        table.row([
            run.class(label),
            learned.len().to_string(),
            learned.last().map(|accuracy| percent(*accuracy)).unwrap_or_default(),
            answered.map(percent).unwrap_or_default(),
        ]);
    }
    section.table(table);
}

pub(super) fn confusion(section: &mut Section, run: &Run) {
    let Some(figures) = &run.figures else {
        section.text("The program that trained this run kept no confusion matrix of its answers.");
        return;
    };
    let (confusion, classes) = (&figures.confusion, run.dataset.classes.len());
    let name = |class: usize| run.class(u16::try_from(class).unwrap_or(u16::MAX));
    if classes <= MATRIX {
        let totals = confusion.samples().unwrap_or_default();
        let row = |truth: usize| {
            let whole = totals.get(truth).copied().unwrap_or(0).max(1) as f64;
            let cell = |answer: usize| {
                let counted = confusion.count(truth, answer);
                let text = if classes <= NUMBERED && counted > 0 { counted.to_string() } else { String::new() };
                (counted > 0).then(|| Cell { shade: (counted as f64 / whole).sqrt(), text, is_marked: truth == answer })
            };
            (name(truth), (0..classes).map(cell).collect())
        };
        let grid = Grid {
            what: "confusion matrix of the answers to the test data",
            rows: (0..classes).map(row).collect(),
            columns: (0..classes).map(name).collect(),
            width: if classes <= NUMBERED { 40.0 } else { 18.0 },
            colour: 1,
        };
        section.picture(
            grid.to_svg(),
            "Answers to the test data with exits: a row is a true class, a column an answer, framed where they are \
            the same.",
        );
    }
    let mut wrong: Vec<(usize, usize, u64)> = confusion.pairs().filter(|(truth, answer, _)| truth != answer).collect();
    wrong.sort_by_key(|&(truth, answer, counted)| (Reverse(counted), truth, answer));
    wrong.truncate(NAMED);
    let mut table = Table::words(&["true class", "answer", "test inputs"]);
    for (truth, answer, counted) in wrong {
        table.row([name(truth), name(answer), counted.to_string()]);
    }
    section.text(format!("{} test inputs; the most frequent wrong answers:", count(figures.samples as f64)));
    section.table(table);
}

pub(super) fn exits(section: &mut Section, run: &Run) {
    let curve = &run.curve;
    let series = |name: &str, of: fn(&CurvePoint) -> &CurveFigures| Series {
        name: name.into(),
        points: curve.points.iter().map(of).map(|at| (100.0 * at.relative_compute, 100.0 * at.accuracy)).collect(),
        marked: vec![curve.chosen],
        ..Series::default()
    };
    let series = vec![series("validation", |point| &point.validation), series("test", |point| &point.test)];
    let chart = Chart { x: "mean compute per input, % of the full network", y: "accuracy, %", series };
    section.picture(
        chart.to_svg(),
        "Accuracy against compute. Every point is a setting of the exits that was found on validation data; a ring \
        marks the one that the package uses.",
    );
    if let Some(chosen) = curve.points.get(curve.chosen) {
        let mut table =
            Table::numbers(&["block", "exits, validation", "exits, test", "P(hard) below", "confidence at least"]);
        for (index, exits) in chosen.test.exit_fraction.iter().enumerate() {
            let gate = chosen.gates.get(index);
            let validation = chosen.validation.exit_fraction.get(index).copied().unwrap_or(0.0);
            table.row([
                (index + 1).to_string(),
                percent(validation),
                percent(*exits),
                gate.map_or_else(|| "all that are left".into(), |gate| format!("{:.3}", gate.tau)),
                gate.map_or_else(String::new, |gate| format!("{:.3}", gate.gamma)),
            ]);
        }
        section.table(table);
    }
    let mut table =
        Table::numbers(&["point", "compute, validation", "accuracy, validation", "compute, test", "accuracy, test"]);
    let mark = |index| if index == curve.chosen { " (chosen)" } else { "" };
    let points = curve.points.iter().enumerate().map(|(index, point)| (format!("{}{}", index + 1, mark(index)), point));
    for (name, point) in points.chain(curve.without_exits.iter().map(|point| ("without early exits".into(), point))) {
        table.row([
            name,
            percent(point.validation.relative_compute),
            percent(point.validation.accuracy),
            percent(point.test.relative_compute),
            percent(point.test.accuracy),
        ]);
    }
    section.table(table);
    section.text(
        "Another point: train again with exit.max_accuracy_drop or exit.compute_budget. Frozen blocks are \
    taken over, so that takes the time of the last stages only.",
    );
}
