//! What garbage collection has to leave alone: everything that a run still names.
//!
//! What that is, each kind of task says of what its tasks made (`run/stage`). In short: a run that may go on keeps all
//! that it committed and has not declared unneeded, as the last checkpoints, records, detectors, cached shards. A
//! completed run keeps its specification, final weights, detectors and cached shards, so that other runs may share
//! them; its older checkpoints, optimiser states and records go. Data sets stay as long as a run has them, models until
//! theirs is deleted.

use crate::durable;
use crate::open::OpenError;
use crate::run::durable::{Durable, Run};
use bloctrain_store::Artefacts;
use bloctrain_store::collect::{self, Collected, Keep, Sweep};

/// Removes what no run names and is old enough.
///
/// # Errors
/// When the store or the state in it cannot be used.
pub async fn collect(artefacts: &Artefacts, sweep: Sweep) -> Result<Collected, OpenError> {
    artefacts.look_format().await?;
    // In this order: what a run commits to after the listing is no candidate.
    let candidates = collect::candidates(artefacts).await?;
    let durable = Box::pin(durable::read(artefacts)).await?;
    Ok(collect::sweep(artefacts, candidates, &named(&durable), sweep).await?)
}

/// Keys of all objects that runs still need.
pub fn named(durable: &Durable) -> Keep {
    let objects = durable.runs.values().flat_map(Run::names);
    let data = durable.runs.values().map(|run| run.submission.dataset.digest.to_string());
    let keys = objects.map(|object| object.key.clone()).collect();
    Keep { keys, data: data.collect(), given_up: durable.deleted.clone() }
}
