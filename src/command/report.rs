//! `report`: what a finished run came to, as one HTML file or as Markdown.

use super::{block_on, print};
use crate::args::ReportArgs;
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_infer::{CURVE, FIGURES, MANIFEST, Manifest, PackageError, SAMPLES, SUMMARY};
use bloctrain_report::{Run, report, to_html, to_markdown};
use bloctrain_shared::{history, key};
use bloctrain_store::Artefacts;
use bloctrain_worker::model::place::Place;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Standard output, as a file.
const STDOUT: &str = "-";

pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let runs: Vec<Run> = args.runs.iter().map(|run| load(run, &args.store)).collect::<Result<_, _>>()?;
    let baseline = args.baseline.as_deref().map(|run| load(run, &args.store)).transpose()?;
    let document = report(&runs, baseline.as_ref(), &args.energy);
    let text = if args.markdown { to_markdown(&document) } else { to_html(&document) };
    let ending = if args.markdown { "md" } else { "html" };
    let first = runs.first().map_or("", |run| run.summary.run.as_str());
    let out = args.out.clone().unwrap_or_else(|| format!("report-{first}.{ending}").into());
    if out == Path::new(STDOUT) {
        return print(text.trim_end()).map(drop);
    }
    std::fs::write(&out, text)
        .with_context(|| format!("cannot write the report {}; name another file with --out", out.display()))?;
    tell!("{}", out.display());
    Ok(())
}

/// A finished run: the package of a run of the store, or one that is named by its folder or address.
pub(crate) fn load(run: &str, store: &str) -> Result<Run, Failure> {
    if run.contains('/') || Path::new(run).join(MANIFEST).is_file() {
        return package(&Place::of(run)?, None);
    }
    let artefacts = Artefacts::look(store)?;
    let address =
        format!("{}/{}", artefacts.location().trim_end_matches('/'), key::model(run, "").trim_end_matches('/'));
    let loaded = package(&Place::of(&address)?, Some((&artefacts, run)));
    loaded.map_err(|failure| match failure {
        Failure::Failed(error) => Failure::Failed(error.context(format!(
            "run {run} has no model package in {store} that a report could be made of; `bloctrain show {run} --store \
            {store}` says how it stands"
        ))),
        other => other,
    })
}

/// What a package holds; where it has no history, the state of its store may.
fn package(place: &Place, state: Option<(&Artefacts, &str)>) -> Result<Run, Failure> {
    let manifest: Manifest = read(place, MANIFEST)?;
    let history = match place.read(key::HISTORY) {
        Ok(bytes) => history::from_jsonl(&String::from_utf8_lossy(&bytes)).map_err(|problem| {
            anyhow::anyhow!(
                "the history {} cannot be read: {problem}; remove the file, then \
            `bloctrain train` of the same run writes it again",
                place.name(key::HISTORY)
            )
        })?,
        Err(_) => match state {
            Some((artefacts, run)) => {
                block_on(Box::pin(bloctrain_coordinator::read_history(artefacts, run)))??.unwrap_or_default()
            }
            None => Vec::new(),
        },
    };
    Ok(Run {
        spec: manifest.spec,
        dataset: manifest.dataset,
        summary: read(place, SUMMARY)?,
        curve: read(place, CURVE)?,
        figures: of_newer(place, FIGURES)?,
        samples: of_newer(place, SAMPLES)?,
        history,
    })
}

/// What packages of older programs do not have.
fn of_newer<T: DeserializeOwned>(place: &Place, file: &str) -> anyhow::Result<Option<T>> {
    match read(place, file) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.downcast_ref::<PackageError>().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

fn read<T: DeserializeOwned>(place: &Place, file: &str) -> anyhow::Result<T> {
    let bytes = place.read(file)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not of this version", place.name(file)))
}
