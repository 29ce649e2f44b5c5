//! The samples that train the next block, from the scores of all training samples of a block.

use super::input::selection;
use super::io::{fatal, lost};
use super::{Context, Control, Executor, Stop, passed};
use crate::snn::trainer::TrainingBackend;
use bloctrain_shared::hard_input::{self, Scores};
use bloctrain_shared::key;
use bloctrain_shared::stage::select::{self, Work};
use bloctrain_shared::task::{Failure, ObjectRef, Output, Split};

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { classes, among, scores } = work;
    let spec = &context.submission.spec;
    let mut shards = context.prepared.shards_of(Split::Train, classes);
    if let Some(among) = among {
        shards = selection(&executor.io, among, &shards)?.shards;
    }
    if scores.len() != shards.len() {
        return Err(fatal(format!(
            "the task names scores of {} shards, the data set has {}",
            scores.len(),
            shards.len()
        ))
        .into());
    }
    let mut read = Vec::with_capacity(scores.len());
    for (number, (object, ids)) in scores.iter().zip(&shards).enumerate() {
        passed(control, number, scores.len())?;
        read.push(scores_of(executor, object, ids)?);
    }
    let samples = context.prepared.samples(Split::Train);
    let selected = hard_input::select(&spec.hard_inputs, &read, |id| samples.label(id as usize));
    let all = shards.iter().map(Vec::len).sum::<usize>();
    if selected.len() < 2 {
        return Err(fatal(format!(
            "of {all} training samples of block {} hard_inputs.fraction leaves {}, which the next block cannot train \
            on; set a larger one, or leave it out",
            context.block,
            selected.len()
        ))
        .into());
    }
    let object = executor.io.put_json(&selected, |digest| key::selection(&context.run, context.block, digest))?;
    Ok(Output::Select(select::Output {
        selection: object,
        samples: all as u64,
        selected: selected.len() as u64,
        wrong: Some(selected.wrong(&read) as u64),
    }))
}

/// Stored scores of some samples.
fn scores_of<B: TrainingBackend>(executor: &Executor<B>, object: &ObjectRef, ids: &[u32]) -> Result<Scores, Failure> {
    let read: Scores =
        serde_json::from_slice(&executor.io.get(object)?).map_err(|error| lost(object, error.to_string()))?;
    read.check(ids).map_err(|error| lost(object, error.to_string()))?;
    Ok(read)
}
