//! `track`, and what `train` does of it while it goes on: TensorBoard and MLflow hear of every epoch.

use super::block_on;
use super::runs::history_of;
use crate::args::{TrackArgs, TrackingArgs};
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_coordinator::durable;
use bloctrain_proto::convert::from_json;
use bloctrain_proto::v1::WatchRunRequest;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_shared::RunSpec;
use bloctrain_shared::view::RunView;
use bloctrain_store::Artefacts;
use bloctrain_tracking::mlflow::{Credentials, Mlflow};
use bloctrain_tracking::otlp::{Exporter, Settings, Tell};
use bloctrain_tracking::{Course, tensorboard};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// What becomes of spans that are not taken.
pub(crate) const DROPPED: &str = "the work goes on, and what waits too long is dropped";

/// Longest time that the last spans have to be taken when a process ends.
pub(crate) const POSTED: Duration = Duration::from_secs(3);

/// The tools that are told.
pub(crate) struct Trackers {
    tensorboard: Option<PathBuf>,
    mlflow: Option<Mlflow>,
    experiment: String,
}

impl Trackers {
    /// Those of a command line; none where it names none.
    pub(crate) fn new(args: &TrackingArgs) -> Result<Option<Self>, Failure> {
        let credentials = Credentials::of_environment(|name| std::env::var(name).ok());
        let mlflow = args
            .mlflow
            .as_deref()
            .map(|server| Mlflow::new(server, credentials))
            .transpose()
            .map_err(Failure::usage)?;
        let is_asked = mlflow.is_some() || args.tensorboard.is_some();
        let (tensorboard, experiment) = (args.tensorboard.clone(), args.experiment.clone());
        Ok(is_asked.then_some(Self { tensorboard, mlflow, experiment }))
    }

    /// Tells each tool what it does not know yet; gives where TensorBoard finds it.
    fn tell(&mut self, course: &Course) -> anyhow::Result<Option<PathBuf>> {
        let mut written = None;
        if let Some(folder) = &self.tensorboard {
            let place = tensorboard::write(folder, course);
            written =
                Some(place.with_context(|| format!("cannot write TensorBoard's files below {}", folder.display()))?);
        }
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.tell(&self.experiment, course)?;
        }
        Ok(written)
    }
}

/// Begins to post spans where a flag or OpenTelemetry's environment variables name an endpoint.
pub(crate) fn traces(flag: Option<&str>, tell: Tell) -> Result<Option<Exporter>, Failure> {
    let settings = Settings::new(flag, |name| std::env::var(name).ok()).map_err(Failure::usage)?;
    Ok(settings.map(|settings| Exporter::start(settings, tell)).transpose()?)
}

pub(crate) fn run(args: &TrackArgs) -> Result<(), Failure> {
    let Some(mut trackers) = Trackers::new(&args.tools)? else {
        let problem = "no tool is named: give --tensorboard DIR, --mlflow URL, or both";
        return Err(Failure::Usage(anyhow::anyhow!(problem)));
    };
    let artefacts = Artefacts::look(&args.store)?;
    block_on(artefacts.look_format())??;
    let state = block_on(Box::pin(durable::read(&artefacts)))??;
    let run = state
        .runs
        .get(&args.run)
        .with_context(|| format!("there is no run {} in {}; `bloctrain runs` lists them", args.run, args.store))?;
    let course = Course {
        run: args.run.clone(),
        spec: run.submission.spec.clone(),
        dataset: run.submission.dataset.name.clone(),
        created_ms: run.created_ms,
        state: run.state.clone(),
        lines: run.history(),
        summary: run.summary.clone(),
    };
    if let Some(folder) = trackers.tell(&course)? {
        tell!("{}", folder.display());
    }
    Ok(())
}

/// Tells the tools of a run's epochs as they are committed, until it ends. Trouble with a tool is said once and does no
/// harm to the run.
pub(crate) fn begin(channel: Channel, run: String, spec: RunSpec, trackers: Trackers) -> JoinHandle<()> {
    tokio::spawn(async move {
        let told = follow(channel, &run, spec, trackers).await;
        if let Err(error) = told {
            say!("note: tracking of the run has ended: {error:#}; `bloctrain track {run}` tells what is missing");
        }
    })
}

async fn follow(channel: Channel, run: &str, spec: RunSpec, mut trackers: Trackers) -> anyhow::Result<()> {
    let mut runs = RunServiceClient::new(channel).max_decoding_message_size(bloctrain_proto::MESSAGE_LIMIT);
    let mut stream = runs.watch_run(WatchRunRequest { run: run.to_owned() }).await?.into_inner();
    let (mut seen, mut said) = (None, false);
    while let Some(message) = stream.message().await? {
        let view: RunView = from_json(&message.view_json)?;
        let now = (view.blocks.iter().map(|block| u64::from(block.rounds)).sum::<u64>(), view.state.name());
        if seen.replace(now) == Some(now) {
            continue;
        }
        let course = Course {
            run: run.to_owned(),
            spec: spec.clone(),
            dataset: view.dataset,
            created_ms: view.created_ms,
            state: view.state,
            lines: history_of(&mut runs, run).await?,
            summary: view.summary,
        };
        let (back, told) = tokio::task::spawn_blocking(move || {
            let told = trackers.tell(&course);
            (trackers, told)
        })
        .await?;
        trackers = back;
        if let Err(error) = told
            && !std::mem::replace(&mut said, true)
        {
            say!("note: {error:#}; the run goes on, and every epoch tries again");
        }
    }
    Ok(())
}
