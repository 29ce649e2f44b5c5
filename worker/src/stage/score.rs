//! How sure a frozen block is of its training samples of one shard, in a view that no block has trained on.

use super::input::{Reader, unseen_view};
use super::{Context, Control, EVAL_BATCH, Executor, Stop, passed};
use crate::kernel::{Mode, SpikingBackend};
use crate::snn::loss::mean_logits;
use crate::snn::param::to_host;
use crate::snn::pass::Pass;
use crate::snn::trainer::TrainingBackend;
use bloctrain_shared::exit::top;
use bloctrain_shared::hard_input::Scores;
use bloctrain_shared::stage::score::{self, Work};
use bloctrain_shared::task::{Output, Split};
use bloctrain_shared::{key, math};

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { shard, classes, weights, among, source } = work;
    let net = executor.frozen(context, classes.len(), weights)?;
    let chain = executor.chain(context, source)?;
    let spec = &context.submission.spec;
    let reader = Reader::new(&context.prepared, spec, &executor.io, Split::Train, classes, source);
    let reader = reader.through(chain.as_ref()).among(&executor.io, among.as_ref())?.unmixed();
    let positions = reader.positions_of(*shard);
    let (body, view) = (net.frozen_body(), unseen_view(context.block));
    let mut scores = Scores::default();
    for (number, chunk) in positions.chunks(EVAL_BATCH).enumerate() {
        passed(control, number * EVAL_BATCH, positions.len())?;
        let batch = reader.batch::<B::InnerBackend>(chunk, view, &executor.device)?;
        let (spikes, _) = B::InnerBackend::run_frozen(&body, batch.input, false);
        let mut pass = Pass::new(net.steps(), chunk.len(), Mode::Eval);
        let logits = net.classify(&spikes, &mut pass, false);
        let answers = to_host(mean_logits(logits));
        for (row, &truth) in answers.chunks(classes.len()).zip(&batch.labels) {
            scores.confidence.push(confidence(row));
            scores.right.push(usize::from(top(row).0) == truth);
        }
        scores.ids.extend(batch.ids);
    }
    let object = executor.io.put_json(&scores, |digest| key::scores(&context.run, context.block, *shard, digest))?;
    Ok(Output::Score(score::Output { scores: object }))
}

/// The largest probability that logits stand for: their softmax at its maximum.
fn confidence(logits: &[f32]) -> f32 {
    1.0 / math::powers(logits).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confidence_by_hand() {
        assert_eq!(confidence(&[2.0, 2.0, 2.0, 2.0]), 0.25);
        let (a, b) = (1.0, math::ln(3.0));
        assert!((confidence(&[a, a + b, a]) - 0.6).abs() < 1e-6, "3 of 1 + 3 + 1");
        assert!((confidence(&[1000.0, 0.0]) - 1.0).abs() < 1e-6);
    }
}
