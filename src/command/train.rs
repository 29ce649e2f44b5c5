//! `train`: a coordinator and its workers in this process, over the same channel and store that a fleet uses.

use super::{clock, data, spec, stopwatch};
use crate::args::TrainArgs;
use crate::failure::Failure;
use crate::progress::Display;
use crate::table;
use anyhow::Context;
use bloctrain_coordinator::{App, Config};
use bloctrain_proto::convert::{from_json, to_json};
use bloctrain_proto::dial::Dialer;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{SubmitRequest, WatchRunRequest};
use bloctrain_shared::RunSpec;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Plan, Submission};
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_store::Artefacts;
use bloctrain_worker::device::Device;
use bloctrain_worker::engine;
use bloctrain_worker::session::client::{self, About, Leaving, Tools};
use bloctrain_worker::stage::io::Io;
use bloctrain_worker::stage::prepared::{Datasets, Prepared};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

pub(crate) fn run(args: TrainArgs) -> Result<(), Failure> {
    let spec = spec::read(&args.source)?;
    let device = args.device.resolve().map_err(Failure::usage)?;
    let prepared = Arc::new(Prepared::new(data::open(&spec)?, &spec));
    let submission =
        Submission { spec, dataset: prepared.info(), arithmetic: ARITHMETIC_VERSION, backend: device.backend().to_owned() };
    Plan::new(&submission).map_err(Failure::usage)?;
    if device == Device::Cpu {
        spec::admit(&submission.spec, &prepared.dataset, args.source.memory)?;
    }
    let artefacts = Artefacts::open(&args.store.store)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let view = runtime.block_on(Box::pin(train(&args, device, artefacts, prepared, submission)))?;
    match view.state {
        RunState::Completed => {}
        RunState::Failed { message } => return Err(Failure::Failed(anyhow::anyhow!("run {} failed: {message}", view.run))),
        RunState::Cancelled => return Err(Failure::Failed(anyhow::anyhow!("run {} was cancelled", view.run))),
        RunState::Running | RunState::Paused => return Err(Failure::Interrupted),
    }
    let summary = view.summary.context("the run ended without a summary")?;
    if args.store.json { super::print_json(&summary) } else { super::print(&table::summary(&summary)).map(drop) }
}

async fn train(
    args: &TrainArgs,
    device: Device,
    artefacts: Artefacts,
    prepared: Arc<Prepared>,
    submission: Submission,
) -> Result<RunView, Failure> {
    let app = Box::pin(App::open(Config::in_process(), artefacts.clone(), clock())).await?;
    let mut runs = RunServiceClient::new(app.channel()).max_decoding_message_size(bloctrain_proto::MESSAGE_LIMIT);
    let (stop, stopping) = watch::channel(Leaving::No);
    let datasets = Datasets::default();
    datasets.add(prepared, &submission.spec);
    let submitted = runs
        .submit(SubmitRequest { submission_json: to_json(&submission) })
        .await
        .map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    let run = submitted.into_inner().run;
    greet(args, &submission.spec, &run, &submission.dataset.name);
    let mut workers = JoinSet::new();
    for number in 0..args.workers {
        workers.spawn(worker(
            app.channel(),
            format!("worker{number}"),
            device,
            artefacts.clone(),
            datasets.clone(),
            stopping.clone(),
        ));
    }
    let watched = Box::pin(follow(&mut runs, run, &mut workers)).await;
    stop.send_replace(Leaving::Now);
    // Workers hand back what they hold; whatever they say now changes nothing.
    while workers.join_next().await.is_some() {}
    drop(runs);
    app.close().await;
    watched
}

fn greet(args: &TrainArgs, spec: &RunSpec, run: &str, dataset: &str) {
    let mode = if spec.run.end_to_end { "end to end" } else { "block by block" };
    eprintln!("run {run}: {dataset}, {mode}; everything is kept in {}", args.store.store);
}

/// Follows a run until it ends, a worker gives up, or this process is interrupted.
async fn follow(
    runs: &mut RunServiceClient<Channel>,
    run: String,
    workers: &mut JoinSet<Result<(), Failure>>,
) -> Result<RunView, Failure> {
    let problem = |status: tonic::Status| Failure::Failed(anyhow::anyhow!("{}", status.message()));
    let mut stream = runs.watch_run(WatchRunRequest { run }).await.map_err(problem)?.into_inner();
    let mut display = Display::new();
    let mut last: Option<RunView> = None;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            message = stream.message() => match message.map_err(problem)? {
                Some(message) => {
                    let view: RunView = from_json(&message.view_json)?;
                    if last.is_none() && view.state == RunState::Completed {
                        eprintln!("this run was completed before; change the spec (such as --set run.seed=2) for another one");
                    }
                    display.show(&view);
                    last = Some(view);
                }
                None => break,
            },
            Some(ended) = workers.join_next() => ended??,
            _ = &mut interrupt => break,
            _ = terminate.recv() => break,
        }
    }
    display.finish();
    last.ok_or(Failure::Interrupted)
}

async fn worker(
    channel: Channel,
    name: String,
    device: Device,
    artefacts: Artefacts,
    datasets: Datasets,
    stop: watch::Receiver<Leaving>,
) -> Result<(), Failure> {
    let io = Io::new(artefacts.clone(), Handle::current());
    let engine = engine::start(device, io, datasets, stopwatch())?;
    let (backend, precision) = (device.backend().to_owned(), device.precision().to_owned());
    let about = About { name, backend, precision, device: device.to_string(), ..About::default() };
    let equip = Box::new(|_: &str| Ok(Tools { engine, artefacts, discover: None }));
    Ok(client::serve(Dialer::fixed(channel), about, equip, stop).await?)
}
