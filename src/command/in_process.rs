//! A coordinator and its workers in this process, over the same channel and store that a fleet uses.

use super::connect::tokens;
use super::machine::bind;
use super::runs::history_of;
use super::track::{self, Trackers};
use super::{clock, occupation, random_seed, stopwatch};
use crate::args::TrainArgs;
use crate::failure::Failure;
use crate::progress::Display;
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::drive::environment::Environment;
use bloctrain_coordinator::{App, Config};
use bloctrain_proto::convert::{from_json, to_json};
use bloctrain_proto::dial::Dialer;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{GetRunRequest, ListRunsRequest, SubmitRequest, WatchRunRequest};
use bloctrain_shared::RunSpec;
use bloctrain_shared::plan::Submission;
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_store::Artefacts;
use bloctrain_tracking::otlp::Exporter;
use bloctrain_worker::device::Device;
use bloctrain_worker::engine;
use bloctrain_worker::session::client::{self, About, Leaving, Tools};
use bloctrain_worker::stage::io::Io;
use bloctrain_worker::stage::prepared::{Datasets, Prepared};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Pause between two looks whether the workers may take part in the run.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which a run that nobody may work on is given up.
const PATIENCE: u32 = 3;

/// Longest time that tools have to hear of the end of a run.
const TOLD: Duration = Duration::from_secs(30);

/// Refused workers that a view names.
const SHOWN: usize = 16;

/// Other unfinished runs that are named.
const NAMED: usize = 5;

/// Whether people hear of a run, and which tools do.
pub(super) enum Quiet {
    /// Nobody does.
    Yes,
    /// People do, and these tools.
    No(Option<Trackers>),
}

/// Works on a run until it ends or this process is interrupted.
pub(super) async fn work(
    args: &TrainArgs,
    device: Device,
    artefacts: Artefacts,
    prepared: Arc<Prepared>,
    submission: Submission,
    quiet: Quiet,
) -> Result<RunView, Failure> {
    let _occupation = occupation::take(&artefacts, "train", args.take_over).await?;
    let shown = match &args.http {
        Some(address) => Some(place(address).await?),
        None => None,
    };
    let traces = match &quiet {
        Quiet::Yes => None,
        Quiet::No(_) => {
            track::traces(args.otlp.as_deref(), Box::new(|problem| say!("note: {problem}; {}", track::DROPPED)))?
        }
    };
    let environment = Environment::new(artefacts.clone(), clock()).traced(traces.as_ref().map(Exporter::sink));
    let mut app = Box::pin(App::open_on(Config::in_process(), environment)).await?;
    if let Some((listener, access)) = shown {
        say!("look at it at http://{}", listener.local_addr()?);
        app.show(listener, access);
    }
    let mut runs = RunServiceClient::new(app.channel()).max_decoding_message_size(bloctrain_proto::MESSAGE_LIMIT);
    let (stop, stopping) = watch::channel(Leaving::No);
    let datasets = Datasets::default();
    datasets.add(prepared, &submission.spec);
    let submitted = runs
        .submit(SubmitRequest { submission_json: to_json(&submission) })
        .await
        .map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    let run = submitted.into_inner().run;
    let mut tracking = None;
    if let Quiet::No(trackers) = quiet {
        greet(&artefacts, &submission.spec, &run, &submission.dataset.name);
        leave_alone(&mut runs, &run).await?;
        tracking = trackers.map(|trackers| track::begin(app.channel(), run.clone(), submission.spec.clone(), trackers));
    }
    let mut workers = JoinSet::new();
    for number in 0..args.workers {
        workers.spawn(worker(
            app.channel(),
            format!("worker{number}"),
            run.clone(),
            device,
            artefacts.clone(),
            datasets.clone(),
            stopping.clone(),
        ));
    }
    let watched = Box::pin(follow(&mut runs, run, &mut workers, args.tui)).await;
    stop.send_replace(Leaving::Now);
    // Workers hand back what they hold; whatever they say now changes nothing.
    while workers.join_next().await.is_some() {}
    if let Some(tracking) = tracking {
        let has_ended = watched.as_ref().is_ok_and(|view| !view.state.is_live());
        // Of a run that goes on later they hear then.
        let patience = if has_ended { TOLD } else { Duration::ZERO };
        let abort = tracking.abort_handle();
        if tokio::time::timeout(patience, tracking).await.is_err() {
            abort.abort();
        }
    }
    drop(runs);
    app.close().await;
    if let Some(traces) = traces {
        tokio::task::spawn_blocking(|| traces.close(track::POSTED)).await?;
    }
    watched
}

/// Where the run can be looked at, and by whom: on this machine, by everybody unless the environment has tokens.
async fn place(address: &str) -> Result<(TcpListener, Access), Failure> {
    let listener = bind(address).await?;
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(Failure::Usage(anyhow::anyhow!(
            "{address} is reached from other machines, and `train` has no certificates: give an address of this \
            machine such as 127.0.0.1:9090 and a tunnel (ssh -L 9090:127.0.0.1:9090 HOST), or start `bloctrain \
            coordinator` with --tls-cert, --tls-key and tokens"
        )));
    }
    let (viewer, operator) = (tokens(None, "BLOCTRAIN_VIEWER_TOKEN")?, tokens(None, "BLOCTRAIN_OPERATOR_TOKEN")?);
    Ok((listener, Access::new(&[], &viewer, &operator).map_err(Failure::usage)?))
}

fn greet(artefacts: &Artefacts, spec: &RunSpec, run: &str, dataset: &str) {
    let mode = if spec.run.end_to_end { "end to end" } else { "block by block" };
    say!("run {run}: {dataset}, {mode}; everything is kept in {}", artefacts.location());
}

/// Names the other runs of the store that are not finished: this process was not asked to work on them.
async fn leave_alone(runs: &mut RunServiceClient<Channel>, own: &str) -> Result<(), Failure> {
    let mut others = Vec::new();
    let mut after = String::new();
    loop {
        let page = runs.list_runs(ListRunsRequest { page_size: 0, after }).await;
        let page = page.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
        for json in &page.view_json {
            let view: RunView = from_json(json)?;
            if view.run != own && view.state.is_live() {
                others.push(view.name.map_or_else(|| view.run.clone(), |name| format!("{} ({name})", view.run)));
            }
        }
        if page.next.is_empty() {
            break;
        }
        after = page.next;
    }
    if !others.is_empty() {
        let (count, more) = (others.len(), others.len().saturating_sub(NAMED));
        others.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (verb, they) = if count == 1 { ("is", "it goes") } else { ("are", "each goes") };
        say!(
            "note: {}{more} {verb} unfinished and left alone; {they} on with the command that began it",
            others.join(", ")
        );
    }
    Ok(())
}

/// Follows a run until it ends, a worker gives up, or this process is interrupted.
async fn follow(
    runs: &mut RunServiceClient<Channel>,
    run: String,
    workers: &mut JoinSet<Result<(), Failure>>,
    whole: bool,
) -> Result<RunView, Failure> {
    let problem = |status: tonic::Status| Failure::Failed(anyhow::anyhow!("{}", status.message()));
    let (mut look_at, id) = (runs.clone(), run.clone());
    let mut stream = runs.watch_run(WatchRunRequest { run }).await.map_err(problem)?.into_inner();
    let mut display = Display::new(whole);
    if let Some(screen) = display.screen() {
        screen.course.remember(&history_of(&mut look_at, &id).await?);
    }
    let mut last: Option<RunView> = None;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut stuck = 0;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => match refused(&mut look_at, &id, workers.len()).await? {
                // Between two tasks, and before a worker has shown its store, this says nothing.
                Some(_) if stuck < PATIENCE => stuck += 1,
                Some(why) => return Err(Failure::Failed(anyhow::anyhow!("run {id} cannot go on here: {why}"))),
                None => stuck = 0,
            },
            message = stream.message() => match message.map_err(problem)? {
                Some(message) => {
                    let view: RunView = from_json(&message.view_json)?;
                    if last.is_none() && view.state == RunState::Completed {
                        say!("this run was completed before; change the spec (such as --set run.seed=2) for another \
                        one");
                        display.skip(&view);
                    }
                    display.show(&view);
                    last = Some(view);
                }
                None => break,
            },
            _ = resized.recv() => display.redraw(),
            Some(ended) = workers.join_next() => ended??,
            _ = &mut interrupt => break,
            _ = terminate.recv() => break,
        }
    }
    display.finish();
    last.ok_or(Failure::Interrupted)
}

/// Why none of this process's workers may take part in a run, which would wait for ever.
async fn refused(runs: &mut RunServiceClient<Channel>, run: &str, workers: usize) -> Result<Option<String>, Failure> {
    let Ok(answer) = runs.get_run(GetRunRequest { run: run.to_owned() }).await else { return Ok(None) };
    let view: RunView = from_json(&answer.into_inner().view_json)?;
    let is_stuck =
        view.state == RunState::Running && view.attempts.is_empty() && view.refused.len() >= workers.min(SHOWN);
    Ok(view.refused.into_iter().next().filter(|_| is_stuck).map(|refused| refused.why))
}

async fn worker(
    channel: Channel,
    name: String,
    run: String,
    device: Device,
    artefacts: Artefacts,
    datasets: Datasets,
    stop: watch::Receiver<Leaving>,
) -> Result<(), Failure> {
    let io = Io::new(artefacts.clone(), Handle::current());
    let engine = engine::start(device, io, datasets, stopwatch())?;
    let instance = format!("{:016x}{:016x}", random_seed(), random_seed());
    let (backend, precision) = (device.backend().to_owned(), device.precision().to_owned());
    let about =
        About { name, backend, precision, device: device.to_string(), instance, only_run: run, ..About::default() };
    let equip = Box::new(|_: &str| Ok(Tools { engine, artefacts, discover: None }));
    Ok(client::serve(Dialer::fixed(channel), about, equip, stop).await?)
}
