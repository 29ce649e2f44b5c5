//! What garbage collection has to leave alone: everything that a run still names.
//!
//! A run that may go on keeps all that it committed and has not declared unneeded: the last checkpoints, records, detectors,
//! cached shards. A completed run keeps its specification, final weights, detectors and cached shards, so that other runs may
//! share them; its older checkpoints, optimiser states and records go. Model packages are never candidates.

use crate::run::block::Block;
use crate::run::record::{Durable, Run};
use crate::{OpenError, store};
use bloctrain_shared::view::RunState;
use bloctrain_store::Artefacts;
use bloctrain_store::collect::{self, Collected, Keep, Sweep};

/// Removes what no run names and is old enough.
///
/// # Errors
/// When the store or the state in it cannot be used.
pub async fn collect(artefacts: &Artefacts, sweep: Sweep) -> Result<Collected, OpenError> {
    artefacts.check_format().await?;
    // In this order: what a run commits to after the listing is no candidate.
    let candidates = collect::candidates(artefacts).await?;
    let durable = Box::pin(store::read(artefacts)).await?;
    Ok(collect::sweep(artefacts, candidates, &named(&durable), sweep).await?)
}

/// Keys of all objects that runs still need.
pub fn named(durable: &Durable) -> Keep {
    let mut keep = Keep::default();
    durable.runs.values().for_each(|run| name_run(run, &mut keep));
    keep
}

fn name_run(run: &Run, keep: &mut Keep) {
    let completed = run.state == RunState::Completed;
    keep.keys.insert(run.object.key.clone());
    if !completed {
        keep.keys.extend(run.evaluated.values().map(|records| records.key.clone()));
    }
    run.blocks.iter().for_each(|block| name_block(block, completed, keep));
}

fn name_block(block: &Block, completed: bool, keep: &mut Keep) {
    keep.keys.extend(block.weights().map(|weights| weights.key.clone()));
    let detector = block.detector.iter().filter_map(|detected| detected.object.as_ref());
    keep.keys.extend(detector.map(|detector| detector.key.clone()));
    keep.keys.extend(block.exports.values().map(|exported| exported.shard.object.key.clone()));
    if !completed {
        keep.keys.extend(block.resumable().map(|object| object.key.clone()));
    }
}
