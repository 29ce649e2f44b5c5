//! Events and results as short lines of the trace.

use bloctrain_coordinator::schedule::{Effect, Event, Rejected};
use bloctrain_session::control::Stop;
use bloctrain_shared::task::Output;

/// An event that a coordinator applied, and what came of it.
pub(crate) fn event(name: &str, event: &Event, result: &Result<Vec<Effect>, Rejected>) -> String {
    let what = match event {
        Event::Submitted { submission, .. } => format!("submission of {}", submission.run_id()),
        Event::Registered(newcomer) => {
            let holding = newcomer.holding.as_ref().map(|holding| format!(" holding {}", holding.task));
            format!("{} registers{}", newcomer.instance, holding.unwrap_or_default())
        }
        Event::Asked { worker } => format!("worker {worker} asks"),
        Event::Waits { worker } => format!("worker {worker} still waits"),
        Event::Heartbeat { worker, task, lease_epoch, .. } => {
            format!("worker {worker} beats for {task} by {lease_epoch:x}")
        }
        Event::Reported { worker, report, .. } => {
            let kind = report.result.as_ref().map_or_else(|failure| format!("failure: {failure}"), |_| "output".into());
            format!("worker {worker} reports {} by {:x}: {kind}", report.task, report.lease_epoch)
        }
        Event::Verified { doubt, found } => format!("{} of {} is looked for: {found:?}", doubt.key, doubt.task),
        Event::Left { worker } => format!("worker {worker} leaves"),
        Event::Late { by_ms } => format!("{by_ms} ms are given back"),
        Event::Tick => "tick".into(),
        Event::Cancelled { run } => format!("{run} is cancelled"),
        Event::PackageLost { run, key, .. } => format!("{key} of {run} is lost"),
        Event::Deleted { run } => format!("{run} is deleted"),
        Event::Paused { run } => format!("{run} is paused"),
        Event::Resumed { run } => format!("{run} is resumed"),
    };
    let came = match result {
        Ok(effects) => effects.iter().filter_map(effect).collect::<Vec<_>>().join(", "),
        Err(rejected) => format!("refused: {rejected}"),
    };
    format!("{name}: {what} -> {came}")
}

fn effect(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Grant { lease_epoch, task, .. } => Some(format!("grant {} by {lease_epoch:x}", task.id)),
        Effect::Welcome { worker, adopted } => Some(format!("welcome as {worker}, adopted {adopted:x?}")),
        Effect::Verify(doubt) => Some(format!("look for {}", doubt.key)),
        Effect::Log(entry) => Some(entry.text.clone()),
        Effect::HandBack { .. } => Some("hand back".into()),
        Effect::Delete(keys) => Some(format!("delete {} objects", keys.len())),
        _ => None,
    }
}

/// How a task ended.
pub(crate) fn end(result: &Result<Output, Stop>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(Stop::Interrupted) => " interrupted".into(),
        Err(Stop::Failed(failure)) => format!(" with a failure: {failure}"),
    }
}
