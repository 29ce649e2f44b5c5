//! Orders and questions about runs of a fleet: `watch`, `logs`, `pause`, `resume`, `cancel`, `workers`.

use super::connect::{Begun, Runs};
use super::occupation::Reach;
use super::runs::{every_line, every_page};
use super::{block_on, print, print_json};
use crate::args::{DeleteArgs, LogsArgs, OrderArgs, ReadArgs};
use crate::failure::Failure;
use crate::progress::Display;
use crate::table;
use anyhow::Context;
use bloctrain_proto::convert::from_json;
use bloctrain_proto::v1::{
    CancelRunRequest, DeleteRunRequest, ListWorkersRequest, PauseRunRequest, ResumeRunRequest, StreamLogRequest,
    WatchRunRequest,
};
use bloctrain_shared::view::{RunState, RunView, WorkerView};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) fn watch(args: &OrderArgs) -> Result<(), Failure> {
    let mut runs = Runs::new(&args.read.connect, Begun::Already)?;
    block_on(Box::pin(async {
        // The terminal is given back before the signal ends this process.
        tokio::select! {
            followed = follow(&mut runs, &args.run, args.read.json, !args.read.json) => followed,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    }))?
}

/// Follows a run until it ends, and prints its summary.
pub(crate) async fn follow(runs: &mut Runs, run: &str, json: bool, whole: bool) -> Result<(), Failure> {
    let view = ended(runs, run, whole).await?;
    match view.state {
        RunState::Failed { message } => return Err(Failure::Failed(anyhow::anyhow!("run {run} failed: {message}"))),
        RunState::Cancelled => return Err(Failure::Failed(anyhow::anyhow!("run {run} was cancelled"))),
        _ => {}
    }
    let summary = view.summary.context("the run ended without a summary")?;
    if json {
        return print_json(&summary);
    }
    print(&table::summary(&summary)).map(drop)
}

/// Follows a run until it ends, at whichever coordinator is active; gives its last view.
pub(crate) async fn ended(runs: &mut Runs, run: &str, whole: bool) -> Result<RunView, Failure> {
    let mut display = Display::new(whole);
    let mut resized = signal(SignalKind::window_change())?;
    if let Some(screen) = display.screen() {
        screen.course.remember(&every_line(runs, run).await?);
    }
    loop {
        let request = WatchRunRequest { run: run.to_owned() };
        let mut stream = runs.call(request, |mut rpc, request| async move { rpc.watch_run(request).await }).await?;
        let mut last: Option<RunView> = None;
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                _ = resized.recv() => {
                    display.redraw();
                    continue;
                }
            };
            let Ok(Some(message)) = message else { break };
            let view: RunView = from_json(&message.view_json)?;
            display.show(&view);
            last = Some(view);
        }
        match last {
            Some(view) if !view.state.is_live() => {
                display.finish();
                return Ok(view);
            }
            // The coordinator went away: ask the next one.
            _ => runs.lost(),
        }
    }
}

pub(crate) fn logs(args: &LogsArgs) -> Result<(), Failure> {
    let mut runs = Runs::new(&args.connect, Begun::Already)?;
    block_on(Box::pin(async {
        let request = StreamLogRequest { run: args.run.clone(), follow: args.follow };
        let mut stream = runs.call(request, |mut rpc, request| async move { rpc.stream_log(request).await }).await?;
        let lost =
            |status: tonic::Status| Failure::Failed(anyhow::anyhow!("the coordinator stopped: {}", status.message()));
        while let Some(line) = stream.message().await.map_err(lost)? {
            if !print(&format!("{} {}", clock(line.at_ms), line.line))? {
                break;
            }
        }
        Ok(())
    }))?
}

/// Hours, minutes and seconds of a day (UTC).
fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, at_ms % 1000)
}

pub(crate) fn pause(args: &OrderArgs) -> Result<(), Failure> {
    let request = PauseRunRequest { run: args.run.clone() };
    order(args, "pause", async |runs| {
        runs.call(request, |mut rpc, request| async move { rpc.pause_run(request).await }).await.map(drop)
    })
}

pub(crate) fn resume(args: &OrderArgs) -> Result<(), Failure> {
    let request = ResumeRunRequest { run: args.run.clone() };
    order(args, "resume", async |runs| {
        runs.call(request, |mut rpc, request| async move { rpc.resume_run(request).await }).await.map(drop)
    })
}

pub(crate) fn cancel(args: &OrderArgs) -> Result<(), Failure> {
    let request = CancelRunRequest { run: args.run.clone() };
    order(args, "cancel", async |runs| {
        runs.call(request, |mut rpc, request| async move { rpc.cancel_run(request).await }).await.map(drop)
    })
}

/// Gives an order to the coordinator, or carries it out here where none is at work.
fn order(
    args: &OrderArgs,
    command: &str,
    give: impl AsyncFnOnce(&mut Runs) -> Result<(), Failure>,
) -> Result<(), Failure> {
    block_on(Box::pin(async {
        let mut reach = Reach::new(&args.read.connect, command).await?;
        let given = give(&mut reach.runs).await;
        if command == "resume" && given.is_ok() && reach.is_here() {
            say!("run {} goes on with the command that began it, or with a coordinator on this store", args.run);
        }
        reach.close().await;
        given
    }))?
}

pub(crate) fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let is_done = args.older_than.is_none() || args.yes;
    let deleted = block_on(Box::pin(async {
        let mut reach = Reach::new(&args.connect, "delete").await?;
        let chosen = delete_chosen(args, &mut reach.runs, is_done).await;
        reach.close().await;
        chosen
    }))??;
    if args.json {
        return print_json(&serde_json::json!({ "runs": deleted, "deleted": is_done }));
    }
    let verb = if is_done { "deleted" } else { "would delete" };
    deleted.iter().for_each(|run| tell!("{verb} {run}"));
    if !is_done && !deleted.is_empty() {
        tell!("{} runs; give --yes to delete them", deleted.len());
    }
    Ok(())
}

/// Deletes the runs that a command line means, unless it only asks which these are.
async fn delete_chosen(args: &DeleteArgs, runs: &mut Runs, is_done: bool) -> Result<Vec<String>, Failure> {
    let chosen = match args.older_than {
        Some(age) => older(runs, age).await?,
        None => args.runs.clone(),
    };
    for run in chosen.iter().filter(|_| is_done) {
        let request = DeleteRunRequest { run: run.clone() };
        runs.call(request, |mut rpc, request| async move { rpc.delete_run(request).await }).await?;
    }
    Ok(chosen)
}

/// Runs that ended longer ago than an age.
async fn older(runs: &mut Runs, age: Duration) -> Result<Vec<String>, Failure> {
    let before = super::clock()().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let views = every_page(runs).await?;
    Ok(views
        .into_iter()
        .filter(|view| !view.state.is_live() && view.updated_ms < before)
        .map(|view| view.run)
        .collect())
}

pub(crate) fn workers(args: &ReadArgs) -> Result<(), Failure> {
    let mut runs = Runs::new(&args.connect, Begun::Already)?;
    let answer =
        block_on(runs.call(ListWorkersRequest {}, |mut rpc, request| async move { rpc.list_workers(request).await }))??;
    let workers: Vec<WorkerView> = answer.worker_json.iter().map(|json| from_json(json)).collect::<Result<_, _>>()?;
    if args.json {
        return print_json(&workers);
    }
    for worker in &workers {
        let task = worker.task.as_ref().map_or_else(|| "idle".to_owned(), |(run, task)| format!("{run} {task}"));
        tell!("{:24} {:8} {:6} completed  {task}", worker.name, worker.device, worker.completed);
        worker.refused.iter().for_each(|why| tell!("    {why}"));
    }
    if workers.is_empty() {
        tell!("no workers");
    }
    Ok(())
}
