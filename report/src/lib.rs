//! What people read of finished runs: a report as one HTML file or as Markdown, and a model card.
//!
//! Everything here is a pure function of what a model package holds ([`Run`]): [`report`] makes a [`Document`] of it,
//! section by section, and the document becomes text that needs nothing else: pictures are inline SVG, there is no
//! script, and whatever came from outside is escaped in one place for each form.

mod card;
mod chart;
mod document;
mod energy;
mod grid;
mod html;
mod markdown;
mod number;
mod section;

pub use card::card;
pub use document::Document;
pub use energy::{Energy, EnergyError};
pub use html::to_html;
pub use markdown::to_markdown;

use bloctrain_shared::curve::Curve;
use bloctrain_shared::figures::Figures;
use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::plan::DatasetInfo;
use bloctrain_shared::sample::Samples;
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::summary::Summary;

/// A finished run, as its package holds it.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was asked.
    pub spec: RunSpec,
    /// On which data.
    pub dataset: DatasetInfo,
    /// Its figures.
    pub summary: Summary,
    /// Accuracy against compute.
    pub curve: Curve,
    /// What packages of older programs do not have.
    pub figures: Option<Figures>,
    /// Test images of every exit; packages of older programs have none.
    pub samples: Option<Samples>,
    /// The course of training; empty where it is not known.
    pub history: Vec<HistoryLine>,
}

impl Run {
    /// Its name, or its id.
    fn title(&self) -> &str {
        self.spec.run.name.as_deref().unwrap_or(&self.summary.run)
    }

    fn class(&self, label: u16) -> String {
        self.dataset.classes.get(usize::from(label)).cloned().unwrap_or_else(|| label.to_string())
    }
}

/// The report of some runs, side by side where there are several, beside a baseline where one is named.
pub fn report(runs: &[Run], baseline: Option<&Run>, energy: &Energy) -> Document {
    let names: Vec<&str> = runs.iter().map(Run::title).collect();
    let mut document = Document::new(match names.as_slice() {
        [one] => format!("Run {one}"),
        several => format!("Runs {}", several.join(", ")),
    });
    if runs.len() > 1 || baseline.is_some() {
        section::compare::add(&mut document, runs, baseline, energy);
    }
    for run in runs {
        let prefix = if runs.len() > 1 { format!("{}: ", run.title()) } else { String::new() };
        section::add_all(&mut document, run, baseline, energy, &prefix);
    }
    document
}
