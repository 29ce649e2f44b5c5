//! What a run comes to when nothing happens: the rules and the tasks, one after another, without network or clock.

use crate::oracle;
use crate::work::Bench;
use crate::world::World;
use bloctrain_coordinator::run::durable::Durable;
use bloctrain_coordinator::schedule::worker::Newcomer;
use bloctrain_coordinator::schedule::{Effect, Event, State};
use bloctrain_session::control::Control;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Submission};
use bloctrain_shared::task::Report;
use bloctrain_shared::{Digest, key};
use bloctrain_store::{Artefacts, Place};
use bytes::Bytes;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The digest of everything that the run makes.
pub(crate) async fn result(world: &World, submission: &Submission) -> Result<Digest, String> {
    let artefacts = Artefacts::with_store(Arc::new(InMemory::new()), "memory://undisturbed", Place::Memory);
    let never = AtomicBool::new(false);
    let bench = Bench { world, artefacts: &artefacts, step_ms: 0, is_watched: false, hangs: &never };
    let run = submission.run_id();
    let bytes = serde_json::to_vec(submission).map_err(|error| error.to_string())?;
    let object = artefacts
        .put(&key::spec(&run, Digest::of(&bytes)), Bytes::from(bytes))
        .await
        .map_err(|error| error.to_string())?;
    let mut state = State::new(Durable::default(), u64::from(u32::MAX));
    let mut apply = |event| state.apply(0, event).map_err(|rejected| rejected.to_string());
    apply(Event::Submitted { submission: Box::new(submission.clone()), object })?;
    let newcomer =
        Newcomer { name: "w".into(), backend: "cpu".into(), arithmetic: ARITHMETIC_VERSION, ..Newcomer::default() };
    let welcome = apply(Event::Registered(Box::new(newcomer)))?;
    let worker = welcome.iter().find_map(|effect| match effect {
        Effect::Welcome { worker, .. } => Some(*worker),
        _ => None,
    });
    let worker = worker.ok_or("no welcome")?;
    loop {
        let granted = apply(Event::Asked { worker })?.into_iter().find_map(|effect| match effect {
            Effect::Grant { lease_epoch, task, .. } => Some((task, lease_epoch)),
            _ => None,
        });
        let Some((task, lease_epoch)) = granted else { break };
        let output =
            Box::pin(bench.run(&task, &Control::default())).await.map_err(|stop| format!("{}: {stop:?}", task.id))?;
        let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result: Ok(output) };
        apply(Event::Reported { worker, run: run.clone(), report: Box::new(report) })?;
    }
    let run = state.durable.runs.get(&run).ok_or("no run")?;
    if run.summary.is_none() { Err(format!("it stays {:?}", run.state)) } else { Ok(oracle::result(run)) }
}
