//! The processes of the simulated fleet: coordinators, workers, and somebody who submits. Whoever dies is started
//! again.

use crate::bug::Bug;
use crate::call::call;
use crate::network::{Server, name_of};
use crate::process::Process;
use crate::table;
use crate::transport::Wire;
use crate::work::Bench;
use crate::world::{Running, STORE, World};
use bloctrain_coordinator::access::Role;
use bloctrain_coordinator::drive::environment::{Environment, Rules};
use bloctrain_coordinator::fleet::{Seat, hold};
use bloctrain_coordinator::{Gate, RunRpc, WorkerRpc};
use bloctrain_proto::convert::to_json;
use bloctrain_proto::dial::{Dialer, Trust};
use bloctrain_proto::v1::run_service_server::RunService;
use bloctrain_proto::v1::{PauseRunRequest, ResumeRunRequest, SubmitRequest};
use bloctrain_session::client::{self, About, Done, Engine, Job, Leaving, Tools};
use bloctrain_session::discover;
use bloctrain_shared::plan::Submission;
use bloctrain_shared::view::RunState;
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};

fn coordinator_name(number: usize) -> String {
    format!("c{number}")
}

/// The addresses of all coordinators.
fn addresses(world: &World) -> Vec<String> {
    (0..world.scenario.coordinators).map(|number| format!("https://{}", coordinator_name(number))).collect()
}

fn dialer(world: &World, seed: u64) -> Dialer {
    let (addresses, token) = (addresses(world), Some("a-token-of-the-fleet"));
    if world.bug == Some(Bug::TrustedAddress) {
        let plain = addresses.iter().map(|address| address.replace("https://", "http://")).collect();
        return Dialer::new(plain, Trust { is_insecure: true, ..Trust::default() }, token, seed).unwrap_or_default();
    }
    Dialer::new(addresses, Trust::default(), token, seed).unwrap_or_default()
}

/// Begins the whole fleet.
pub(crate) fn start(world: &World) {
    (0..world.scenario.coordinators).for_each(|number| drop(tokio::spawn(coordinator(world.clone(), number))));
    (0..world.scenario.workers).for_each(|number| drop(tokio::spawn(worker(world.clone(), number))));
    for (number, submission) in world.scenario.submissions.iter().enumerate() {
        tokio::spawn(submitter(world.clone(), number as u64, submission.clone()));
    }
}

/// Pause before a process that ended is started again.
async fn rest(world: &World) {
    let pause = world.draw("restart", |rng| rng.random_range(50..8_000));
    world.pause(if world.is_healthy() { 500 } else { pause }).await;
}

async fn coordinator(world: World, number: usize) {
    let name = coordinator_name(number);
    let mut is_standby = number > 0;
    loop {
        let process = Process::default();
        let gate = Gate::default();
        let (stop, stopping) = watch::channel(false);
        world
            .running()
            .insert(name.clone(), Running { process: process.clone(), leaving: None, stop: Some(stop), hangs: None });
        let server = Server {
            process: process.clone(),
            workers: Arc::new(WorkerRpc::new(gate.clone())),
            runs: Arc::new(RunRpc::new(gate.clone())),
        };
        world.network().bind(&name, server);
        let environment = environment(&world, &process, &name);
        let seat = Seat::new(vec![format!("https://{name}")], STORE.to_owned(), is_standby);
        let config = world.scenario.config;
        let held = async move { hold(config, seat, &environment, &gate, Arc::default(), stopping).await };
        let ended = process.spawn(held).await;
        world.trace(|| match ended {
            Ok(Ok(())) => format!("{name} stopped in order"),
            Ok(Err(error)) => format!("{name} ended: {error}"),
            Err(_) => format!("{name} was killed"),
        });
        process.kill();
        world.network().unbind(&name);
        rest(&world).await;
        is_standby = world.draw("restart", |rng| rng.random_bool(0.7));
    }
}

fn environment(world: &World, process: &Process, name: &str) -> Environment {
    let (spawning, opening) = (process.clone(), process.clone());
    let (watched, opened, watcher, opener) = (world.clone(), world.clone(), name.to_owned(), name.to_owned());
    Environment {
        artefacts: world.artefacts(name),
        clock: world.clock(),
        log: Arc::new(move |_| Box::pin(table::open(opened.clone(), opening.clone(), opener.clone()))),
        rules: Arc::new(move || rules(watched.clone(), watcher.clone())),
        spawn: Arc::new(move |task| spawning.spawn(task)),
        traces: None,
    }
}

/// The rules under the eyes of the oracle.
fn rules(world: World, name: String) -> Rules {
    let opening = world.next_opening();
    let mut has_begun = false;
    Box::new(move |state, now, event| {
        if !std::mem::replace(&mut has_begun, true) {
            world.oracle().begun(opening, state.durable.openings, world.scenario.config.lease_ms);
        }
        let before = state.clone();
        let result = crate::bug::apply(world.bug, state, now, event.clone());
        if event != bloctrain_coordinator::schedule::Event::Tick {
            world.trace(|| crate::describe::event(&name, &event, &result));
        }
        world.oracle().applied(opening, (now, world.now_ms()), &event, (&before, state), &result);
        result
    })
}

async fn worker(world: World, number: usize) {
    let name = format!("w{number}");
    let mut generation = 0_u64;
    loop {
        generation += 1;
        let process = Process::default();
        let (leave, leaving) = watch::channel(Leaving::No);
        let hangs = Arc::<AtomicBool>::default();
        let running =
            Running { process: process.clone(), leaving: Some(leave), stop: None, hangs: Some(Arc::clone(&hangs)) };
        world.running().insert(name.clone(), running);
        let about = About {
            name: name.clone(),
            backend: "cpu".into(),
            instance: format!("{name}-{generation}"),
            ..About::default()
        };
        let transport = Wire {
            world: world.clone(),
            name: name.clone(),
            dialer: dialer(&world, number as u64 * 1_000 + generation),
        };
        let equip = equip(world.clone(), process.clone(), name.clone(), (number, hangs));
        let ended = process.spawn(client::serve(transport, about, equip, leaving)).await;
        match ended {
            Ok(Ok(())) => world.trace(|| format!("{name} left")),
            Ok(Err(error)) => {
                world.trace(|| format!("{name} gave up: {error}"));
                // Who sees another store is told so.
                let is_told = error.to_string().contains("no store at its address");
                // Whose task hangs ends itself.
                let is_stalled = matches!(error, client::ClientError::Stalled { .. });
                if !is_told && !is_stalled {
                    world.oracle().fail(format!("{name} gave up: {error}"));
                }
            }
            Err(_) => world.trace(|| format!("{name} was killed")),
        }
        process.kill();
        rest(&world).await;
    }
}

/// The computing thread of a simulated worker, and the way to the published address.
fn equip(world: World, process: Process, name: String, (number, hangs): (usize, Arc<AtomicBool>)) -> client::Equip {
    Box::new(move |_| {
        let artefacts = world.artefacts(&name);
        let (seen, discover) = (artefacts.clone(), discover::in_store(artefacts.clone()));
        let (jobs, mut inbox) = mpsc::unbounded_channel::<Job>();
        let (outbox, done) = mpsc::channel(1);
        let step_ms = world.scenario.step_ms[number];
        let dying = process.clone();
        process.spawn(async move {
            while let Some(Job { task, control }) = inbox.recv().await {
                world.trace(|| format!("{name} begins {} of {}", task.id, task.run));
                world.oracle().started(&task);
                if world.scenario.is_poison(&task) {
                    dying.kill();
                }
                let bench = Bench { world: &world, artefacts: &artefacts, step_ms, is_watched: true, hangs: &hangs };
                let result = bench.run(&task, &control).await;
                world.trace(|| format!("{name} ends {}{}", task.id, crate::describe::end(&result)));
                if outbox.send(Done { result, seconds: 1.0 }).await.is_err() {
                    return;
                }
            }
        });
        Ok(Tools { engine: Engine { jobs, done }, artefacts: seen, discover: Some(discover) })
    })
}

fn as_operator<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Role::Operator);
    request
}

/// Longest time for an order.
const ORDER: Duration = Duration::from_secs(10);

/// An order about a run.
#[derive(Clone)]
pub(crate) enum Order {
    Submit(Box<Submission>),
    Pause(String),
    Resume(String),
}

impl Order {
    async fn at(self, server: Server) -> Result<(), Status> {
        match self {
            Self::Submit(submission) => {
                let request = SubmitRequest { submission_json: to_json(&submission) };
                server.runs.submit(as_operator(request)).await.map(drop)
            }
            Self::Pause(run) => server.runs.pause_run(as_operator(PauseRunRequest { run })).await.map(drop),
            Self::Resume(run) => server.runs.resume_run(as_operator(ResumeRunRequest { run })).await.map(drop),
        }
    }
}

/// Gives an order to whoever is in turn.
pub(crate) async fn order(world: &World, dialer: &mut Dialer, order: Order) -> Result<(), Status> {
    let address = dialer.next_address().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let handler = move |server: Server| {
        let order = order.clone();
        Box::pin(order.at(server)) as futures::future::BoxFuture<'static, _>
    };
    call(world, "operator", name_of(&address), ORDER, "order", Arc::new(handler)).await
}

/// Submits a run until that is acknowledged, and takes care that it does not stay paused.
async fn submitter(world: World, number: u64, submission: Submission) {
    let run = submission.run_id();
    let mut dialer = dialer(&world, 77 + number);
    let early = world.draw("restart", |rng| rng.random_range(0..20_000));
    world.pause(early * number).await;
    while order(&world, &mut dialer, Order::Submit(Box::new(submission.clone()))).await.is_err() {
        let pause = dialer.pause();
        world.pause(u64::try_from(pause.as_millis()).unwrap_or(0)).await;
    }
    world.trace(|| format!("{run} is submitted"));
    let known = world.oracle().durable.runs.contains_key(&run);
    if !known {
        world.oracle().fail(format!("R-7: the submission of {run} was acknowledged before it was durable"));
    }
    loop {
        world.pause(3_000).await;
        let is_paused = world.oracle().durable.runs.get(&run).is_some_and(|run| run.state == RunState::Paused);
        if is_paused && world.is_healthy() {
            // If it fails, there is a next time.
            let _ = order(&world, &mut dialer, Order::Resume(run.clone())).await;
        }
    }
}

/// Submits a run again, with its data at another place each time: the same run, and another specification of it.
pub(crate) async fn resubmit(world: World, submission: Submission, place: u64) {
    let mut dialer = dialer(&world, 55);
    let mut moved = submission.clone();
    moved.spec.data.dir = Some(format!("/elsewhere/{place}"));
    let run = submission.run_id();
    world.trace(|| format!("{run} is submitted again"));
    // A person tries for a while.
    for _ in 0..4 {
        if order(&world, &mut dialer, Order::Submit(Box::new(moved.clone()))).await.is_ok() {
            return;
        }
        world.pause(1_000).await;
    }
}

/// Pauses a run, and resumes it after a while.
pub(crate) async fn interlude(world: World, run: String, milliseconds: u64) {
    let mut dialer = dialer(&world, 99);
    world.trace(|| format!("{run} is to be paused"));
    if order(&world, &mut dialer, Order::Pause(run.clone())).await.is_ok() {
        world.pause(milliseconds).await;
    }
    while order(&world, &mut dialer, Order::Resume(run.clone())).await.is_err() {
        world.pause(1_000).await;
        if !world.oracle().is_unfinished() {
            return;
        }
    }
}
