//! What the whole network says about one shard of validation or test data.

use super::input::Reader;
use super::io::fatal;
use super::{Context, Control, EVAL_BATCH, Executor, Stop, misfit, passed};
use crate::model::network::load_network;
use crate::snn::trainer::TrainingBackend;
use bloctrain_infer::{BlockParts, LoadError};
use bloctrain_shared::key;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::Records;
use bloctrain_shared::stage::evaluate::{self, Work};
use bloctrain_shared::task::{Failure, FrozenBlock, ObjectRef, Output, Source};

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { split, shard, blocks } = work;
    let (split, shard) = (*split, *shard);
    let spec = &context.submission.spec;
    let parts = parts(executor, blocks)?;
    let net = load_network::<B::InnerBackend>(spec, context.submission.dataset.shape, &parts, &executor.device);
    let net = net.map_err(|error| misfit(&error, |error| object_of(blocks, error)))?;
    let all = LabelMap::all(context.submission.dataset.classes.len());
    let reader = Reader::new(&context.prepared, spec, &executor.io, split, &all, &Source::Images);
    let positions = reader.positions_of(shard);
    let samples = context.prepared.samples(split);
    let mut records = Records::default();
    for (number, chunk) in positions.chunks(EVAL_BATCH).enumerate() {
        passed(control, number * EVAL_BATCH, positions.len())?;
        let batch = reader.batch::<B::InnerBackend>(chunk, 0, &executor.device)?;
        let labels: Vec<u16> = batch.ids.iter().map(|&id| samples.label(id as usize)).collect();
        records.join(net.records(batch.input, &batch.ids, &labels)).map_err(fatal)?;
    }
    let object = executor.io.put_json(&records, |digest| key::records(&context.run, split, shard, digest))?;
    Ok(Output::Evaluate(evaluate::Output { records: object }))
}

/// The object that does not fit.
fn object_of<'a>(blocks: &'a [FrozenBlock], error: &LoadError) -> Option<&'a ObjectRef> {
    let block = |number: u32| blocks.iter().find(|block| block.block == number);
    match error {
        LoadError::Network(_) => None,
        LoadError::Block { block: number, .. } => block(*number).map(|block| &block.weights),
        LoadError::Detector { block: number, .. } => block(*number).and_then(|block| block.detector.as_ref()),
    }
}

/// Parameters of every block from the store.
pub(super) fn parts<B: TrainingBackend>(
    executor: &Executor<B>,
    blocks: &[FrozenBlock],
) -> Result<Vec<BlockParts>, Failure> {
    let part = |block: &FrozenBlock| {
        let detector = block.detector.as_ref().map(|detector| executor.tensors(detector)).transpose()?;
        Ok(BlockParts {
            classes: block.classes.clone(),
            hard: block.hard.clone(),
            weights: executor.tensors(&block.weights)?,
            detector,
        })
    };
    blocks.iter().map(part).collect()
}
