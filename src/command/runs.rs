//! `runs` and `show`.

use super::connect::{Begun, Runs};
use super::{block_on, print, print_json};
use crate::args::{ConnectArgs, DEFAULT_STORE, RunsArgs, ShowArgs};
use crate::failure::Failure;
use crate::table;
use bloctrain_proto::convert::{ConvertError, from_json};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{GetHistoryRequest, GetHistoryResponse, GetRunRequest, ListRunsRequest};
use bloctrain_shared::history::{self, HistoryLine};
use bloctrain_shared::spec::sweep;
use bloctrain_shared::view::RunView;
use bloctrain_store::Artefacts;
use tonic::transport::Channel;

/// Runs of a store, or, where only a coordinator is named, of its fleet; and the place that was read.
fn read(connect: &ConnectArgs) -> Result<(Vec<RunView>, String), Failure> {
    if connect.store.is_none() && !connect.coordinator.is_empty() {
        let mut runs = Runs::new(connect, Begun::Already)?;
        let views = block_on(Box::pin(every_page(&mut runs)))??;
        return Ok((views, connect.coordinator.join(",")));
    }
    let store = connect.store.as_deref().unwrap_or(DEFAULT_STORE);
    let artefacts = Artefacts::look(store)?;
    Ok((block_on(bloctrain_coordinator::read_runs(&artefacts))??, store.to_owned()))
}

/// All runs of a fleet.
pub(crate) async fn every_page(runs: &mut Runs) -> Result<Vec<RunView>, Failure> {
    let (mut views, mut after) = (Vec::new(), String::new());
    loop {
        let request = ListRunsRequest { page_size: 0, after };
        let page = runs.call(request, |mut rpc, request| async move { rpc.list_runs(request).await }).await?;
        for json in &page.view_json {
            views.push(from_json(json)?);
        }
        if page.next.is_empty() {
            return Ok(views);
        }
        after = page.next;
    }
}

/// One run of a store, or of a fleet; and the place that was read.
fn read_one(connect: &ConnectArgs, run: &str) -> Result<(Option<RunView>, String), Failure> {
    if connect.store.is_none() && !connect.coordinator.is_empty() {
        let mut runs = Runs::new(connect, Begun::Already)?;
        let request = GetRunRequest { run: run.to_owned() };
        let answer = block_on(runs.call(request, |mut rpc, request| async move { rpc.get_run(request).await }))??;
        return Ok((Some(from_json(&answer.view_json)?), connect.coordinator.join(",")));
    }
    let (views, place) = read(connect)?;
    Ok((views.into_iter().find(|view| view.run == run), place))
}

pub(crate) fn list(args: &RunsArgs) -> Result<(), Failure> {
    let (mut views, place) = read(&args.read.connect)?;
    if let Some(name) = &args.sweep {
        views.retain(|view| view.name.as_deref().is_some_and(|run| sweep::is_of(name, run)));
        if views.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!(
                "no run in {place} is of the sweep {name}; `bloctrain runs` lists all runs"
            )));
        }
    }
    if args.read.json {
        return print_json(&views);
    }
    if args.sweep.is_some() {
        tell!("{}", table::runs(&views));
        return Ok(());
    }
    for view in &views {
        let accuracy = view
            .summary
            .as_ref()
            .map(|summary| format!("test accuracy {}", table::percent(summary.accuracy.test)))
            .unwrap_or_default();
        let running = match view.attempts.len() {
            0 => String::new(),
            count => format!("{count} running"),
        };
        let name = view.name.as_deref().unwrap_or_default();
        let line = format!(
            "{}  {:20} {:12} {running:12} {accuracy:24} {name}",
            view.run,
            view.dataset,
            table::state(&view.state)
        );
        tell!("{}", line.trim_end());
    }
    if views.is_empty() {
        tell!("no runs in {place}");
    }
    Ok(())
}

/// The course of a run's training.
fn course(args: &ShowArgs) -> Result<(), Failure> {
    let (connect, run) = (&args.read.connect, &args.run);
    let lines = if connect.store.is_none() && !connect.coordinator.is_empty() {
        let mut runs = Runs::new(connect, Begun::Already)?;
        block_on(Box::pin(every_line(&mut runs, run)))??
    } else {
        let store = connect.store.as_deref().unwrap_or(DEFAULT_STORE);
        let artefacts = Artefacts::look(store)?;
        let lines = block_on(Box::pin(bloctrain_coordinator::read_history(&artefacts, run)))??;
        lines.ok_or_else(|| anyhow::anyhow!("there is no run {run} in {store}; `bloctrain runs` lists them"))?
    };
    if args.read.json {
        return print_json(&lines);
    }
    if args.csv {
        return print(history::to_csv(&lines).trim_end()).map(drop);
    }
    if lines.is_empty() {
        tell!("no round of {run} is committed yet");
        return Ok(());
    }
    print(&table::history(&lines)).map(drop)
}

/// Takes the lines of a page of a history; how many the next page leaves out, where there is one.
fn take(page: &GetHistoryResponse, lines: &mut Vec<HistoryLine>) -> Result<Option<u32>, ConvertError> {
    for json in &page.line_json {
        lines.push(from_json(json)?);
    }
    Ok((page.next > 0).then_some(page.next))
}

/// All lines of a run's history, of whichever coordinator is active.
pub(super) async fn every_line(runs: &mut Runs, run: &str) -> Result<Vec<HistoryLine>, Failure> {
    let (mut lines, mut next) = (Vec::new(), Some(0));
    while let Some(skip) = next {
        let request = GetHistoryRequest { run: run.to_owned(), skip };
        let page = runs.call(request, |mut rpc, request| async move { rpc.get_history(request).await }).await?;
        next = take(&page, &mut lines)?;
    }
    Ok(lines)
}

/// The same, of the coordinator in this process.
pub(super) async fn history_of(runs: &mut RunServiceClient<Channel>, run: &str) -> anyhow::Result<Vec<HistoryLine>> {
    let (mut lines, mut next) = (Vec::new(), Some(0));
    while let Some(skip) = next {
        let page = runs.get_history(GetHistoryRequest { run: run.to_owned(), skip }).await?;
        next = take(&page.into_inner(), &mut lines)?;
    }
    Ok(lines)
}

pub(crate) fn show(args: &ShowArgs) -> Result<(), Failure> {
    if args.history {
        return course(args);
    }
    let (view, place) = read_one(&args.read.connect, &args.run)?;
    let view =
        view.ok_or_else(|| anyhow::anyhow!("there is no run {} in {place}; `bloctrain runs` lists them", args.run))?;
    if args.read.json {
        return print_json(&view);
    }
    tell!("{} on {}: {}", view.run, view.dataset, table::state(&view.state));
    for block in &view.blocks {
        let stages: Vec<String> =
            block.stages.iter().map(|stage| format!("{} {}/{}", stage.stage.name(), stage.done, stage.total)).collect();
        let hard = block.hard.as_ref().map(|hard| format!(", {} hard", hard.len())).unwrap_or_default();
        tell!("block {}: {} classes{hard}; {}", block.block, block.classes.len(), stages.join(", "));
    }
    if !view.attempts.is_empty() {
        tell!("{} running:", view.attempts.len());
    }
    for attempt in &view.attempts {
        let progress = &attempt.progress;
        let backup = if attempt.backup { ", a second time because the first attempt takes too long" } else { "" };
        tell!("{} on {}: {} of {}{backup}", attempt.task, attempt.worker, progress.done, progress.total);
    }
    for lost in &view.lost {
        tell!("{} was lost {} times: {}", lost.task, lost.workers.len(), lost.workers.join("; "));
    }
    view.missing.iter().for_each(|missing| tell!("nobody can work on it: {missing}"));
    view.refused.iter().for_each(|refused| tell!("no tasks for {}: {}", refused.worker, refused.why));
    view.notes.iter().for_each(|note| tell!("note: {note}"));
    if let Some(summary) = &view.summary {
        tell!("{}", table::summary(summary));
    }
    Ok(())
}
