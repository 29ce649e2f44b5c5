//! A fleet in one thread: the real state machines and drivers on simulated ground, where one seed decides everything.
//!
//! **Real** are the coordinator (`run::State`, `driver`, `store::Log` with its snapshots, `fleet::hold` with standing
//! by, taking over and publishing, the services in `rpc`), the worker's session (`Session` and its client), the dialer,
//! discovery, and the store's retries and verified reads. **Simulated** are time (tokio's paused clock), the network at
//! the level of calls (`network`, `call`), the durable table under the log (`disk`, `table`, [ADR
//! 0014](https://github.com/bloctrain/bloctrain/blob/main/docs/adr/0014-simulation.md)), the object store (in memory,
//! behind `FaultyStore`), processes (`process`) and the tasks themselves (`work`).
//!
//! A simulation has two phases. In the first, messages and requests go wrong at the rates of the seed's `scenario`, and
//! `incident`s befall processes and links: they are killed, suspended so that they come back with old leases, cut off,
//! asked to leave. In the second nothing goes wrong, and every run has to complete. The `oracle` watches every event of
//! every coordinator, every record that becomes durable, every task that begins and every answer that a worker hears,
//! and checks at each. What a run comes to must be what it comes to undisturbed (`undisturbed`).
//!
//! Nothing here runs in parallel and nothing reads a clock or draws a number of its own, so a seed gives the same
//! trace every time. [`Bug`] plants bugs around the real parts, to show that they are found.

mod bug;
mod call;
mod coverage;
mod describe;
mod disk;
mod fleet;
mod incident;
mod lease;
mod lineage;
mod network;
mod oracle;
mod process;
mod sample;
mod scenario;
mod table;
mod transport;
mod undisturbed;
mod watch;
mod work;
mod world;

pub use bug::Bug;
pub use oracle::Counts;

use bloctrain_shared::plan::Submission;
use bloctrain_shared::view::RunState;
use bloctrain_shared::{Digest, history, key};
use object_store::ObjectStoreExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// Longest time that runs may take once nothing goes wrong any more, virtual milliseconds.
const LIVENESS_MS: u64 = 900_000;

/// Time after the end in which histories may still be written, virtual milliseconds.
const HISTORY_MS: u64 = 10_000;

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The first thing that may not be.
    pub violation: Option<String>,
    /// Digest of everything that happened, in order.
    pub trace: Digest,
    /// How much happened.
    pub counts: Counts,
    /// How long it took, virtual milliseconds.
    pub virtual_ms: u64,
}

/// Simulates one seed; `is_printed` prints the trace.
///
/// # Panics
/// When the system gives no runtime.
pub fn simulate(seed: u64, bug: Option<Bug>, is_printed: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(async {
        let world = World::new(seed, bug, is_printed);
        Box::pin(live(&world)).await;
        let oracle = world.oracle();
        Outcome {
            seed,
            violation: oracle.violation().cloned(),
            trace: world.trace_digest(),
            counts: oracle.counts,
            virtual_ms: world.elapsed_ms(),
        }
    })
}

async fn live(world: &World) {
    let place = object_store::path::Path::from(key::FORMAT);
    if let Err(error) = world.memory.put(&place, world::format().into()).await {
        return world.oracle().fail(format!("the store cannot be prepared: {error}"));
    }
    for submission in &world.scenario.submissions {
        match Box::pin(undisturbed::result(world, submission)).await {
            Ok(result) => drop(world.oracle().expected.insert(submission.run_id(), result)),
            Err(problem) => return world.oracle().fail(format!("the undisturbed run fails: {problem}")),
        }
    }
    let poisoned =
        world.scenario.submissions.iter().map(Submission::run_id).find(|run| world.scenario.is_poisoned(run));
    world.oracle().poisoned = poisoned;
    world.oracle().is_differing = world.scenario.is_differing;
    fleet::start(world);
    tokio::spawn(incident::happen(world.clone()));
    let safety = u64::try_from(world.scenario.safety.as_millis()).unwrap_or(u64::MAX);
    if goes_on(world, safety).await {
        world.trace(|| "nothing goes wrong from now on".into());
        world.heal();
        if goes_on(world, safety + LIVENESS_MS).await {
            let states: Vec<_> = world.oracle().durable.runs.values().map(|run| run.state.clone()).collect();
            world.oracle().fail(format!("liveness: the runs do not end: {states:?}"));
        }
    }
    // Time for whoever was replaced to do harm, and for histories that wait.
    if world.oracle().violation().is_none() {
        world.pause(HISTORY_MS).await;
        histories(world).await;
    }
    if world.oracle().violation().is_none() {
        // with every process gone, the log alone holds all of it.
        world.running().values().for_each(|running| running.process.kill());
        let opened = table::open(world.clone(), process::Process::default(), "auditor".into()).await;
        if let Err(error) = opened {
            world.oracle().fail(format!("R-7: the log cannot be opened in the end: {error}"));
        }
    }
}

/// Checks that the history of every completed run is in the store as it follows from what is durable.
async fn histories(world: &World) {
    let runs = world.oracle().durable.runs.clone();
    for (id, run) in runs.iter().filter(|(_, run)| run.state == RunState::Completed) {
        let lines = run.history();
        for (file, expected) in
            [(key::HISTORY, history::to_jsonl(&lines)), (key::HISTORY_TABLE, history::to_csv(&lines))]
        {
            let path = object_store::path::Path::from(key::model(id, file));
            let found = match world.memory.get(&path).await {
                Ok(found) => {
                    found.bytes().await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
                }
                Err(error) => error.to_string(),
            };
            if found != expected {
                world
                    .oracle()
                    .fail(format!("R-3: the history of {id} is not what is durable:\n{found}\ninstead of\n{expected}"));
            }
        }
    }
}

/// Waits for the runs to complete, for a violation, or for a time; whether it was the time.
async fn goes_on(world: &World, until_ms: u64) -> bool {
    while world.elapsed_ms() < until_ms {
        {
            let oracle = world.oracle();
            if oracle.violation().is_some() || !oracle.is_unfinished() {
                return false;
            }
        }
        world.pause(100).await;
    }
    true
}

/// Simulates many seeds on some threads; `each` is told of every outcome.
///
/// # Panics
/// When a thread cannot be made.
pub fn simulate_all(
    seeds: Range<u64>,
    bug: Option<Bug>,
    threads: usize,
    each: impl Fn(&Outcome) + Sync,
) -> BTreeMap<u64, Outcome> {
    let next = AtomicU64::new(seeds.start);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = simulate(seed, bug, false);
                    each(&outcome);
                    outcomes.lock().expect("no thread panics while it holds this").insert(seed, outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no thread panicked")
}

/// The command that simulates one seed again.
pub fn command(seed: u64, bug: Option<Bug>) -> String {
    use clap::ValueEnum;
    let bug = bug.and_then(|bug| bug.to_possible_value()).map(|bug| format!(" --bug {}", bug.get_name()));
    format!("cargo run --release -p bloctrain-simulation -- --seed {seed}{}", bug.unwrap_or_default())
}
