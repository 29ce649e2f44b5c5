//! The durable table under the coordinators' log: one writer, fencing, writes that are atomic and durable or never
//! happen.
//!
//! What it promises is what `coordinator::durable::table::Table` promises and SlateDB keeps (ADR 0014): a write lands
//! whole, at one moment between its beginning and its answer, unless a later opening came before that moment; it may
//! land although its answer is an error, and although its writer is dead.

use crate::bug::Bug;
use crate::process::Process;
use crate::world::World;
use bloctrain_coordinator::durable::table::{Change, Table};
use bloctrain_coordinator::durable::{Log, StateError};
use bloctrain_coordinator::run::durable::Durable;
use bytes::Bytes;
use futures::future::BoxFuture;
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest time that an outage is waited for before a write gives up.
const PATIENCE: Duration = Duration::from_secs(30);

struct SimTable {
    world: World,
    process: Process,
    owner: String,
    epoch: u64,
    is_closed: Arc<AtomicBool>,
}

/// Opens the log for a process.
pub(crate) async fn open(world: World, process: Process, owner: String) -> Result<(Log, Durable), StateError> {
    world.pause(world.draw("disk", |rng| rng.random_range(10..300))).await;
    wait_for_store(&world, &owner).await?;
    let epoch = world.disk().next_epoch();
    world.trace(|| format!("{owner} opens the log as number {epoch}"));
    let table = SimTable { world: world.clone(), process, owner, epoch, is_closed: Arc::default() };
    let (log, durable) = Log::over(Box::new(table)).await?;
    // A later opening may have begun meanwhile: this one is fenced then, and what it read is old.
    if world.disk().epoch() == epoch {
        world.oracle().opened(&durable);
    }
    Ok((log, durable))
}

async fn wait_for_store(world: &World, owner: &str) -> Result<(), StateError> {
    let mut waited = Duration::ZERO;
    while world.is_cut_off(owner) {
        if waited > PATIENCE {
            return Err(StateError::Unavailable("the store does not answer".into()));
        }
        world.pause(100).await;
        waited += Duration::from_millis(100);
    }
    Ok(())
}

impl SimTable {
    /// One attempt to make changes durable.
    fn land(world: &World, epoch: u64, changes: Vec<Change>) -> Result<(), StateError> {
        let mut disk = world.disk();
        if disk.epoch() != epoch && world.bug != Some(Bug::LostFence) {
            return Err(StateError::Fenced);
        }
        let landed = disk.land(changes);
        drop(disk);
        let mut oracle = world.oracle();
        landed.iter().for_each(|cell| oracle.landed(&cell.key, &cell.value, cell.is_replaced));
        Ok(())
    }

    async fn write_once(&self, changes: Vec<Change>) -> Result<(), StateError> {
        wait_for_store(&self.world, &self.owner).await?;
        let faults = self.world.faults();
        let (before, after, fate) =
            self.world.draw("disk", |rng| (rng.random_range(5..60), rng.random_range(1..40), rng.random::<f64>()));
        let slow =
            self.world.draw("disk", |rng| if rng.random_bool(faults.slow) { rng.random_range(100..3_000) } else { 0 });
        let world = self.world.clone();
        let (is_lost, is_refused) = (fate < faults.write_answer_lost, fate > 1.0 - faults.write_refused);
        let (sender, landed) = oneshot::channel();
        let epoch = self.epoch;
        let request = async move {
            world.pause(before + slow).await;
            let result = if is_refused {
                Err(StateError::Unavailable("500".into()))
            } else {
                Self::land(&world, epoch, changes)
            };
            // The writer may be dead.
            let _ = sender.send(result);
        };
        if self.world.bug == Some(Bug::EarlyAnswer) {
            self.process.spawn(request);
            return Ok(());
        }
        // A request that was sent lands or not, whatever becomes of its sender.
        tokio::spawn(request);
        let landed = landed.await.unwrap_or(Err(StateError::Fenced));
        self.world.pause(after).await;
        if is_lost { Err(StateError::Unavailable("the answer was lost".into())) } else { landed }
    }
}

impl Table for SimTable {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>> {
        Box::pin(async move {
            self.world.pause(2).await;
            Ok(self.world.disk().get(key))
        })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        Box::pin(async move {
            self.world.pause(2).await;
            Ok(self.world.disk().scan(prefix))
        })
    }

    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            if self.is_closed.load(Ordering::Relaxed) {
                return Err(StateError::Unavailable("the table is closed".into()));
            }
            let written = self.write_once(changes).await;
            if let Err(error) = &written {
                self.is_closed.store(true, Ordering::Relaxed);
                self.world.trace(|| format!("{} cannot write: {error}", self.owner));
            }
            written
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StateError>> {
        self.is_closed.store(true, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}
