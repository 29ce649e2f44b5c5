//! `submit`: the data set into the store, once, and the run, or every run of a sweep, to the coordinator.

use super::connect::{Begun, Runs};
use super::spec::{self, Asked};
use super::{data, order, print_json};
use crate::args::SubmitArgs;
use crate::failure::Failure;
use crate::table;
use bloctrain_data::{Dataset, embedded, stored};
use bloctrain_proto::convert::{from_json, to_json};
use bloctrain_proto::v1::{GetFleetRequest, ListWorkersRequest, SubmitRequest};
use bloctrain_shared::RunSpec;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Plan, Submission};
use bloctrain_shared::spec::sweep::Sweep;
use bloctrain_shared::view::{RunState, WorkerView};
use bloctrain_store::Artefacts;
use bloctrain_worker::stage::prepared::Prepared;
use bytesize::ByteSize;
use serde_json::json;

pub(crate) fn run(args: &SubmitArgs) -> Result<(), Failure> {
    match spec::asked(&args.source)? {
        Asked::Run(spec) => submit_one(args, *spec),
        Asked::Sweep(text, changes) => submit_sweep(args, &spec::sweep(&args.source, &text, &changes, args.max_runs)?),
    }
}

fn submit_one(args: &SubmitArgs, spec: RunSpec) -> Result<(), Failure> {
    let dataset = data::open(&spec)?;
    let submission = submission(args, spec, &dataset)?;
    let mut runs = Runs::new(&args.connect, Begun::Soon)?;
    super::block_on(Box::pin(async {
        let store = fleet_store(&mut runs).await?;
        admit(&submission.spec, &dataset, allowed(args, &mut runs).await?)?;
        upload(args, &store, &dataset).await?;
        let run = submit(&mut runs, &submission).await?;
        if args.watch {
            say!("run {run}");
            return order::follow(&mut runs, &run, args.json, false).await;
        }
        if args.json {
            return print_json(&json!({ "run": run }));
        }
        tell!("{run}");
        Ok(())
    }))?
}

/// Everything is checked before the first run is submitted.
fn submit_sweep(args: &SubmitArgs, sweep: &Sweep) -> Result<(), Failure> {
    let mut datasets: Vec<(RunSpec, Dataset)> = Vec::new();
    let mut submissions = Vec::new();
    for point in &sweep.points {
        let of = |spec: &RunSpec| (spec.data.dir.clone(), spec.data.name.clone(), spec.data.size);
        let known = datasets.iter().position(|(spec, _)| of(spec) == of(&point.spec));
        let index = match known {
            Some(index) => index,
            None => {
                datasets.push((point.spec.clone(), data::open(&point.spec)?));
                datasets.len() - 1
            }
        };
        submissions.push(submission(args, point.spec.clone(), &datasets[index].1)?);
    }
    let mut runs = Runs::new(&args.connect, Begun::Soon)?;
    super::block_on(Box::pin(async {
        let store = fleet_store(&mut runs).await?;
        let allowed = allowed(args, &mut runs).await?;
        for submission in &submissions {
            let own = datasets.iter().find(|(_, dataset)| dataset.digest == submission.dataset.digest);
            own.map_or(Ok(()), |(_, dataset)| admit(&submission.spec, dataset, allowed))?;
        }
        for (_, dataset) in &datasets {
            upload(args, &store, dataset).await?;
        }
        let (mut submitted, mut ids) = (Vec::new(), Vec::new());
        for (point, submission) in sweep.points.iter().zip(&submissions) {
            let run = submit(&mut runs, submission).await?;
            let name = point.spec.run.name.clone().unwrap_or_default();
            if args.watch || !args.json {
                let line = format!("{run}  {name}");
                if args.watch { say!("{line}") } else { tell!("{line}") }
            }
            submitted.push(json!({ "run": run, "name": name, "values": point.values }));
            ids.push(run);
        }
        if args.watch {
            return watch(&mut runs, args, ids).await;
        }
        if args.json {
            return print_json(&json!({ "sweep": sweep.name, "runs": submitted }));
        }
        Ok(())
    }))?
}

/// Follows all runs of a sweep, and prints their results.
async fn watch(runs: &mut Runs, args: &SubmitArgs, ids: Vec<String>) -> Result<(), Failure> {
    let mut views = Vec::new();
    for run in ids {
        views.push(order::ended(runs, &run, false).await?);
    }
    if args.json {
        print_json(&views)?;
    } else {
        tell!("{}", table::runs(&views));
    }
    let unfinished = views.iter().filter(|view| view.state != RunState::Completed).count();
    if unfinished > 0 {
        let problem = format!("{unfinished} of {} runs did not complete; `bloctrain show RUN` says why", views.len());
        return Err(Failure::Failed(anyhow::anyhow!(problem)));
    }
    Ok(())
}

fn submission(args: &SubmitArgs, spec: RunSpec, dataset: &Dataset) -> Result<Submission, Failure> {
    let prepared = Prepared::new(dataset.clone(), &spec);
    let submission =
        Submission { spec, dataset: prepared.info(), arithmetic: ARITHMETIC_VERSION, backend: args.backend.clone() };
    Plan::new(&submission).map_err(Failure::usage)?;
    Ok(submission)
}

/// The store of the fleet, which has to compute as this program does.
async fn fleet_store(runs: &mut Runs) -> Result<String, Failure> {
    let fleet = runs.call(GetFleetRequest {}, |mut rpc, request| async move { rpc.get_fleet(request).await }).await?;
    if fleet.arithmetic != ARITHMETIC_VERSION {
        let problem = format!(
            "the fleet computes by version {}, this program by version {ARITHMETIC_VERSION}; run the same bloctrain \
            everywhere",
            fleet.arithmetic
        );
        return Err(Failure::Failed(anyhow::anyhow!(problem)));
    }
    Ok(fleet.store)
}

/// The memory that a training step may take: what was said, or what the largest worker of the fleet has. A fleet
/// without workers, or with others than those of CPUs, says nothing about that.
async fn allowed(args: &SubmitArgs, runs: &mut Runs) -> Result<Option<ByteSize>, Failure> {
    if args.source.memory.is_some() {
        return Ok(args.source.memory);
    }
    let workers =
        runs.call(ListWorkersRequest {}, |mut rpc, request| async move { rpc.list_workers(request).await }).await?;
    let workers: Vec<WorkerView> = workers.worker_json.iter().map(|json| from_json(json)).collect::<Result<_, _>>()?;
    let is_known = |worker: &WorkerView| worker.backend == "cpu" && worker.memory_bytes > 0;
    let most = workers.iter().map(|worker| worker.memory_bytes).max();
    Ok(most.filter(|_| workers.iter().all(is_known)).map(ByteSize::b))
}

/// Refuses a run whose training step takes more memory than it may, where that is known.
fn admit(spec: &RunSpec, dataset: &Dataset, allowed: Option<ByteSize>) -> Result<(), Failure> {
    allowed.map_or(Ok(()), |allowed| spec::admit(spec, dataset, Some(allowed)))
}

async fn upload(args: &SubmitArgs, store: &str, dataset: &Dataset) -> Result<(), Failure> {
    if dataset.name == embedded::NAME {
        return Ok(());
    }
    let store = Artefacts::open(args.connect.store.as_deref().unwrap_or(store))?;
    if stored::upload(dataset, &store).await? {
        say!("the data set {} is now in the store", dataset.name);
    }
    Ok(())
}

async fn submit(runs: &mut Runs, submission: &Submission) -> Result<String, Failure> {
    let request = SubmitRequest { submission_json: to_json(submission) };
    let submitted = runs.call(request, |mut rpc, request| async move { rpc.submit(request).await }).await?;
    Ok(submitted.run)
}
