//! `train`: a coordinator and its workers in this process.

use super::in_process::{Quiet, work};
use super::track::Trackers;
use super::{data, dry_run, spec};
use crate::args::TrainArgs;
use crate::failure::Failure;
use crate::table;
use anyhow::Context;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Plan, Submission};
use bloctrain_shared::view::RunState;
use bloctrain_store::Artefacts;
use bloctrain_worker::device::Device;
use bloctrain_worker::stage::prepared::Prepared;
use std::sync::Arc;

pub(crate) fn run(args: TrainArgs) -> Result<(), Failure> {
    let spec = spec::read(&args.source)?;
    let device = args.device.resolve().map_err(Failure::usage)?;
    let prepared = Arc::new(Prepared::new(data::open(&spec)?, &spec));
    let submission = Submission {
        spec,
        dataset: prepared.info(),
        arithmetic: ARITHMETIC_VERSION,
        backend: device.backend().to_owned(),
    };
    Plan::new(&submission).map_err(Failure::usage)?;
    if device == Device::Cpu {
        spec::admit(&submission.spec, &prepared.dataset, args.source.memory)?;
    }
    if args.dry_run {
        return dry_run::run(&args, &submission.spec, device, &prepared);
    }
    let trackers = Trackers::new(&args.tools)?;
    let artefacts = Artefacts::open(&args.store.store)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let view = runtime.block_on(Box::pin(work(&args, device, artefacts, prepared, submission, Quiet::No(trackers))))?;
    match view.state {
        RunState::Completed => {}
        RunState::Failed { message } => {
            return Err(Failure::Failed(anyhow::anyhow!("run {} failed: {message}", view.run)));
        }
        RunState::Cancelled => return Err(Failure::Failed(anyhow::anyhow!("run {} was cancelled", view.run))),
        RunState::Running | RunState::Paused => return Err(Failure::Interrupted),
    }
    let summary = view.summary.context("the run ended without a summary")?;
    if args.store.json { super::print_json(&summary) } else { super::print(&table::summary(&summary)).map(drop) }
}
