//! What befalls processes and links in the phase with faults.

use crate::fleet::{interlude, resubmit};
use crate::network::THIEF;
use crate::transport::replay;
use crate::world::{Running, World};
use bloctrain_session::client::Leaving;
use bloctrain_shared::key;
use bloctrain_store::leader::Leader;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::time::Duration;
use tokio::time::Instant;

/// Objects that one simulation loses at most: a run may lose the same one three times.
const MOST_LOST: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Incident {
    Kill,
    KillCoordinators,
    KillAll,
    Suspend,
    SuspendCoordinator,
    Cut,
    CutStore,
    Outage,
    Leave,
    Stop,
    Pause,
    Lose,
    HideStore,
    Resubmit,
    Hang,
    StepClock,
    Thief,
}

const ALL: [Incident; 17] = [
    Incident::Kill,
    Incident::KillCoordinators,
    Incident::KillAll,
    Incident::Suspend,
    Incident::SuspendCoordinator,
    Incident::Cut,
    Incident::CutStore,
    Incident::Outage,
    Incident::Leave,
    Incident::Stop,
    Incident::Pause,
    Incident::Lose,
    Incident::HideStore,
    Incident::Resubmit,
    Incident::Hang,
    Incident::StepClock,
    Incident::Thief,
];

fn draw<T>(world: &World, draw: impl FnOnce(&mut rand_chacha::ChaCha8Rng) -> T) -> T {
    world.draw("incident", draw)
}

/// Lets the incidents of a scenario happen, one after another.
pub(crate) async fn happen(world: World) {
    let length = u64::try_from(world.scenario.safety.as_millis()).unwrap_or(u64::MAX);
    let mut times: Vec<u64> =
        (0..world.scenario.incidents).map(|_| draw(&world, |rng| rng.random_range(0..length))).collect();
    times.sort_unstable();
    let mut lost = 0;
    for time in times {
        world.pause(time.saturating_sub(world.elapsed_ms())).await;
        if world.is_healthy() {
            return;
        }
        let mut incident = draw(&world, |rng| *ALL.choose(rng).unwrap_or(&Incident::Kill));
        // Where what is made again comes out differently, more has to be made again.
        if world.scenario.is_differing && draw(&world, |rng| rng.random_bool(0.4)) {
            incident = Incident::Lose;
        }
        if matches!(incident, Incident::Lose) {
            lost += 1;
            if lost > MOST_LOST {
                continue;
            }
        }
        one(&world, incident).await;
    }
}

/// A process whose name begins in some way; any one for the empty beginning.
fn choose(world: &World, beginning: &str) -> Option<(String, Running)> {
    let running = world.running();
    let fitting: Vec<_> =
        running.iter().filter(|(name, running)| name.starts_with(beginning) && !running.process.is_dead()).collect();
    draw(world, |rng| fitting.choose(rng).map(|(name, running)| ((*name).clone(), (*running).clone())))
}

fn kill(world: &World, beginning: &str) {
    let running = world.running();
    running.iter().filter(|(name, _)| name.starts_with(beginning)).for_each(|(_, running)| running.process.kill());
}

async fn one(world: &World, incident: Incident) {
    world.trace(|| format!("incident: {incident:?}"));
    let long = draw(world, |rng| rng.random_range(200..25_000));
    match incident {
        Incident::Kill => choose(world, "").into_iter().for_each(|(_, running)| running.process.kill()),
        Incident::KillCoordinators => kill(world, "c"),
        Incident::KillAll => kill(world, ""),
        Incident::Suspend => suspend(world, "w", long),
        Incident::SuspendCoordinator => suspend(world, "c", long),
        Incident::Cut => {
            let (from, to) = (choose(world, "w"), choose(world, "c"));
            let (there, back) = draw(world, |rng| (rng.random_bool(0.7), rng.random_bool(0.7)));
            if let (Some((from, _)), Some((to, _))) = (from, to) {
                let until = Instant::now() + Duration::from_millis(long);
                let mut network = world.network();
                there.then(|| network.cut(&from, &to, until));
                back.then(|| network.cut(&to, &from, until));
            }
        }
        Incident::CutStore => choose(world, "").into_iter().for_each(|(name, _)| world.cut_store(&name, long)),
        Incident::Resubmit => {
            if let Some(submission) = draw(world, |rng| world.scenario.submissions.choose(rng).cloned()) {
                tokio::spawn(resubmit(world.clone(), submission, long));
            }
        }
        Incident::Hang => {
            if let Some((name, Running { hangs: Some(hangs), .. })) = choose(world, "w") {
                world.trace(|| format!("tasks of {name} hang"));
                hangs.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        Incident::StepClock => {
            let by = draw(world, |rng| rng.random_range(-60_000..60_000));
            world.trace(|| format!("the clock is set by {by} ms"));
            world.step_clock(by);
        }
        Incident::Thief => steal(world, long).await,
        Incident::HideStore => {
            if let Some((name, running)) = choose(world, "w") {
                // A worker that is started meanwhile sees it from the beginning.
                draw(world, |rng| rng.random_bool(0.5)).then(|| running.process.kill());
                world.hide_store(&name, long);
            }
        }
        Incident::Outage => world.names().iter().for_each(|name| world.cut_store(name, long)),
        Incident::Leave => {
            let Some((_, Running { leaving: Some(leaving), .. })) = choose(world, "w") else { return };
            leaving.send_replace(Leaving::Soon);
            let world = world.clone();
            tokio::spawn(async move {
                world.pause(long / 2).await;
                leaving.send_replace(Leaving::Now);
            });
        }
        Incident::Stop => {
            if let Some((_, Running { stop: Some(stop), .. })) = choose(world, "c") {
                stop.send_replace(true);
            }
        }
        Incident::Pause => {
            let runs: Vec<String> = world.oracle().durable.runs.keys().cloned().collect();
            if let Some(run) = draw(world, |rng| runs.choose(rng).cloned()) {
                tokio::spawn(interlude(world.clone(), run, long / 2));
            }
        }
        Incident::Lose => {
            let one = |keys: Vec<String>| draw(world, |rng| keys.choose(rng).cloned()).into_iter().collect();
            let keys = if world.scenario.is_differing { unmade(world, long) } else { one(world.oracle().losable()) };
            for key in keys {
                world.trace(|| format!("the store loses {key}"));
                // It may have been removed already.
                let _ = world.memory.delete(&Path::from(key)).await;
            }
            if world.scenario.is_differing {
                tokio::spawn(replay(world.clone()));
            }
        }
    }
}

/// Weights of a block, with or without the spikes that were made with them, while the next block is trained. Where the
/// spikes go as well, a worker stands still meanwhile: what it then reports may rest on weights that have been made
/// again.
fn unmade(world: &World, long: u64) -> Vec<String> {
    let made = world.oracle().made();
    let Some((weights, spikes)) = draw(world, |rng| made.choose(rng).cloned()) else { return Vec::new() };
    if draw(world, |rng| rng.random_bool(0.3)) {
        return vec![weights];
    }
    suspend(world, "w", 3 * long);
    std::iter::once(weights).chain(spikes).collect()
}

/// Somebody who can write to the store publishes an address of its own for a while, as if it were the newest.
async fn steal(world: &World, milliseconds: u64) {
    let opening = 1 << 40;
    let addresses = vec![format!("http://{THIEF}")];
    let leader = Leader { opening, addresses, beat: 0, released: false, state: THIEF.into() };
    let (place, bytes) = (Path::from(key::leader(opening)), serde_json::to_vec(&leader).unwrap_or_default());
    // Nothing is wrong with what is below the faults.
    let _ = world.memory.put(&place, bytes.into()).await;
    let world = world.clone();
    tokio::spawn(async move {
        world.pause(milliseconds).await;
        let _ = world.memory.delete(&place).await;
    });
}

fn suspend(world: &World, beginning: &str, milliseconds: u64) {
    let Some((name, Running { process, .. })) = choose(world, beginning) else { return };
    world.trace(|| format!("{name} stands still for {milliseconds} ms"));
    process.suspend();
    let world = world.clone();
    tokio::spawn(async move {
        world.pause(milliseconds).await;
        process.resume();
    });
}
