//! `train --dry-run`: one batch through every stage to the package, to find in seconds what would fail at the end.
//!
//! The network, the batch and the data are those of the run; there is one epoch, few images, and every class stays hard
//! so that every block has its turn. What it makes is kept in memory and gone with the process. The store is only asked
//! whether it can be used.

use super::in_process::{Quiet, work};
use super::{block_on, print_json, stopwatch};
use crate::args::TrainArgs;
use crate::failure::Failure;
use crate::progress::duration;
use anyhow::Context;
use bloctrain_data::{Dataset, Split};
use bloctrain_shared::RunSpec;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Submission};
use bloctrain_shared::spec::HardClassPolicy;
use bloctrain_shared::summary::Summary;
use bloctrain_shared::view::RunState;
use bloctrain_store::{Artefacts, Place};
use bloctrain_worker::device::Device;
use bloctrain_worker::stage::prepared::Prepared;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most test images.
const TEST: usize = 64;

/// What a dry run found.
#[derive(Debug, Serialize)]
struct Found {
    dry_run: bool,
    blocks: usize,
    images: usize,
    seconds: f64,
    /// Seconds that training would take if every class stayed hard, at the pace of this one step a block.
    training_seconds_at_most: f64,
    peak_memory_bytes: u64,
}

pub(super) fn run(args: &TrainArgs, spec: &RunSpec, device: Device, whole: &Prepared) -> Result<(), Failure> {
    let watch = stopwatch();
    let begun = watch();
    store(args)?;
    let small = few(&whole.dataset, spec);
    let mut own = spec.clone();
    shorten(&mut own);
    let images = small.train.len();
    let prepared = Arc::new(Prepared::new(small, &own));
    let submission = Submission {
        spec: own,
        dataset: prepared.info(),
        arithmetic: ARITHMETIC_VERSION,
        backend: device.backend().to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let memory = Artefacts::open("memory://")?;
    let view = runtime.block_on(Box::pin(work(args, device, memory, prepared, submission, Quiet::Yes)))?;
    match view.state {
        RunState::Completed => {}
        RunState::Failed { message } => {
            return Err(Failure::Failed(anyhow::anyhow!("the dry run failed, as the run would: {message}")));
        }
        _ => return Err(Failure::Interrupted),
    }
    let summary = view.summary.context("the dry run ended without a summary")?;
    let found = Found {
        dry_run: true,
        blocks: summary.blocks.len(),
        images,
        seconds: watch() - begun,
        training_seconds_at_most: at_most(&summary, whole, spec),
        peak_memory_bytes: summary.blocks.iter().map(|block| block.peak_memory_bytes).max().unwrap_or(0),
    };
    if args.store.json {
        return print_json(&found);
    }
    let time = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    tell!(
        "dry run: {} blocks were trained, validated, exported, evaluated and packed on {} images in {:.1} s; nothing \
        of it is kept",
        found.blocks,
        found.images,
        found.seconds
    );
    tell!(
        "a training step took {} at most; all epochs of every block on all classes would take about {}",
        bytesize::ByteSize::b(found.peak_memory_bytes).display().iec(),
        time(found.training_seconds_at_most)
    );
    Ok(())
}

/// Whether the run could be kept where it is to be.
fn store(args: &TrainArgs) -> Result<(), Failure> {
    let artefacts = Artefacts::open(&args.store.store)?;
    block_on(async {
        artefacts.check_format().await?;
        if artefacts.place() != Place::Memory {
            artefacts.probe().await?;
        }
        Ok::<_, bloctrain_store::StoreError>(())
    })??;
    Ok(())
}

/// Seconds of training on all classes, by the pace of each block's step.
fn at_most(summary: &Summary, whole: &Prepared, spec: &RunSpec) -> f64 {
    let samples = whole.info().train as f64;
    let seconds = |block: &bloctrain_shared::summary::BlockSummary| {
        let trained = (block.train_samples as f64 * f64::from(block.epochs)).max(1.0);
        samples * f64::from(spec.train.epochs_of(block.block)) * block.train_seconds / trained
    };
    summary.blocks.iter().map(seconds).sum()
}

/// One epoch of everything, and every class and every input hard.
fn shorten(spec: &mut RunSpec) {
    spec.run.name = None;
    spec.train.epochs = 1;
    spec.train.warmup_epochs = 0;
    spec.detector.epochs = 1;
    spec.hard_classes.policy = HardClassPolicy::All;
    spec.hard_inputs.fraction = spec.hard_inputs.fraction.map(|_| 1.0);
}

/// As many images as one batch of every replica takes, of all classes in turn.
fn few(dataset: &Dataset, spec: &RunSpec) -> Dataset {
    let batches = spec.train.batch * spec.train.replicas.max(1) as usize;
    let train = (batches as f64 / (1.0 - spec.data.validation_fraction)).ceil() as usize + 1;
    let classes = dataset.classes.len();
    let area = dataset.shape.len();
    let cut = |split: &Split, most: usize| {
        let chosen = in_turn(split.labels(), most.max(2 * classes));
        let labels = chosen.iter().map(|&index| split.label(index)).collect();
        Split::new(labels, chosen.iter().flat_map(|&index| split.image(index).to_vec()).collect(), area)
    };
    let (train, test) = (cut(&dataset.train, train), cut(&dataset.test, TEST));
    Dataset::new(dataset.name.clone(), dataset.classes.clone(), dataset.shape, train, test)
}

/// Indices of at most so many samples, one of each class after another.
fn in_turn(labels: &[u16], most: usize) -> Vec<usize> {
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(labels.len());
    for (index, label) in labels.iter().enumerate() {
        let rank = seen.entry(*label).or_default();
        ranked.push((*rank, index));
        *rank += 1;
    }
    ranked.sort_unstable();
    ranked.truncate(most);
    ranked.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_there_before_any_is_there_twice() {
        let labels = [0, 0, 0, 0, 1, 1, 2];
        assert_eq!(in_turn(&labels, 3), [0, 4, 6]);
        assert_eq!(in_turn(&labels, 5), [0, 4, 6, 1, 5]);
        assert_eq!(in_turn(&labels, 99).len(), 7);
    }
}
