//! The confusion matrix of a frozen block on one validation shard.

use super::input::Reader;
use super::{Context, Control, EVAL_BATCH, Executor, Stop, passed};
use crate::kernel::{Mode, SpikingBackend};
use crate::snn::block::BlockNet;
use crate::snn::loss::mean_logits;
use crate::snn::param::to_host;
use crate::snn::pass::Pass;
use crate::snn::trainer::TrainingBackend;
use bloctrain_shared::exit::top;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::stage::validate::{self, Work};
use bloctrain_shared::task::{Output, Source, Split};

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { shard, classes, weights, source } = work;
    let net = executor.frozen(context, classes.len(), weights)?;
    let confusion = confusion(executor, context, &net, *shard, classes, source, control)?;
    Ok(Output::Validate(validate::Output { confusion }))
}

/// Counts the block's answers to the samples of its classes in one validation shard.
pub(super) fn confusion<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    net: &BlockNet<B::InnerBackend>,
    shard: u32,
    classes: &LabelMap,
    source: &Source,
    control: &Control,
) -> Result<Confusion, Stop> {
    let reader =
        Reader::new(&context.prepared, &context.submission.spec, &executor.io, Split::Validation, classes, source);
    let positions = reader.positions_of(shard);
    let body = net.frozen_body();
    let mut confusion = Confusion::new(classes.len());
    for (number, chunk) in positions.chunks(EVAL_BATCH).enumerate() {
        passed(control, number * EVAL_BATCH, positions.len())?;
        let batch = reader.batch::<B::InnerBackend>(chunk, 0, &executor.device)?;
        let (spikes, _) = B::InnerBackend::run_frozen(&body, batch.input, false);
        let mut pass = Pass::new(net.steps(), chunk.len(), Mode::Eval);
        let logits = net.classify(&spikes, &mut pass, false);
        let answers = to_host(mean_logits(logits));
        for (row, &truth) in answers.chunks(classes.len()).zip(&batch.labels) {
            confusion.add(truth, usize::from(top(row).0));
        }
    }
    Ok(confusion)
}
