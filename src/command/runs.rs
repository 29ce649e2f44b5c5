//! `runs` and `show`.

use super::{block_on, print_json};
use crate::args::{ShowArgs, StoreArgs};
use crate::failure::Failure;
use crate::table;
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_store::Artefacts;

fn read(store: &str) -> Result<Vec<RunView>, Failure> {
    let artefacts = Artefacts::open(store)?;
    Ok(block_on(bloctrain_coordinator::read_runs(&artefacts))??)
}

fn state(view: &RunView) -> String {
    match &view.state {
        RunState::Running => "unfinished".into(),
        RunState::Completed => "completed".into(),
        RunState::Failed { message } => format!("failed: {message}"),
        RunState::Cancelled => "cancelled".into(),
    }
}

pub(crate) fn list(args: &StoreArgs) -> Result<(), Failure> {
    let views = read(&args.store)?;
    if args.json {
        return print_json(&views);
    }
    for view in &views {
        let accuracy = view
            .summary
            .as_ref()
            .map(|summary| format!("test accuracy {}", table::percent(summary.accuracy.test)))
            .unwrap_or_default();
        println!("{}  {:20} {:12} {accuracy}", view.run, view.dataset, state(view));
    }
    if views.is_empty() {
        println!("no runs in {}", args.store);
    }
    Ok(())
}

pub(crate) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let views = read(&args.store.store)?;
    let view = views.into_iter().find(|view| view.run == args.run);
    let view =
        view.ok_or_else(|| anyhow::anyhow!("there is no run {} in {}; `bloctrain runs` lists them", args.run, args.store.store))?;
    if args.store.json {
        return print_json(&view);
    }
    println!("{} on {}: {}", view.run, view.dataset, state(&view));
    for block in &view.blocks {
        let stages: Vec<String> =
            block.stages.iter().map(|stage| format!("{} {}/{}", stage.stage.name(), stage.done, stage.total)).collect();
        let hard = block.hard.as_ref().map(|hard| format!(", {} hard", hard.len())).unwrap_or_default();
        println!("block {}: {} classes{hard}; {}", block.block, block.classes.len(), stages.join(", "));
    }
    view.notes.iter().for_each(|note| println!("note: {note}"));
    if let Some(summary) = &view.summary {
        println!("{}", table::summary(summary));
    }
    Ok(())
}
