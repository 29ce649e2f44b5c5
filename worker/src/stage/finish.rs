//! Calibration on validation records, figures on test records, and the model package.

use super::evaluate::parts;
use super::io::fatal;
use super::picture::png;
use super::{Context, Executor, Stop};
use crate::model::curve as picture;
use crate::snn::trainer::TrainingBackend;
use bloctrain_infer::{self as package, BlockManifest, Manifest, NamedTensors};
use bloctrain_report::{Energy, Run, card, report, to_html};
use bloctrain_shared::curve::Curve;
use bloctrain_shared::exit::calibration::calibrate;
use bloctrain_shared::exit::{Outcome, evaluate};
use bloctrain_shared::figures::{Figures, Known};
use bloctrain_shared::graph::{BlockGraph, Graph};
use bloctrain_shared::record::Records;
use bloctrain_shared::sample::Samples;
use bloctrain_shared::stage::finish::{self, BlockProgress, Work};
use bloctrain_shared::summary::{Accuracy, BlockSummary, Inference, Summary};
use bloctrain_shared::task::{Failure, FrozenBlock, ObjectRef, Output, Split};
use bloctrain_shared::{Digest, history, key, remark};
use bytes::Bytes;

pub(super) fn run<B: TrainingBackend>(executor: &Executor<B>, context: &Context, work: &Work) -> Result<Output, Stop> {
    let spec = &context.submission.spec;
    let dataset = &context.submission.dataset;
    let classes = dataset.classes.len();
    let of =
        |split: Split, objects: &[ObjectRef]| records(executor, context.prepared.shards(split), &work.blocks, objects);
    let (validation, test) = (of(Split::Validation, &work.validation)?, of(Split::Test, &work.test)?);
    let calibration = calibrate(&validation, &spec.exit, classes);
    let on_validation = evaluate(&validation, &calibration.rule, classes);
    let on_test = evaluate(&test, &calibration.rule, classes);
    let curve = Curve::new(&calibration, &validation, &test, classes);

    let parts = parts(executor, &work.blocks)?;
    let mut tensors = NamedTensors::default();
    let mut parameters = 0;
    let (mut blocks, mut detectors) = (Vec::new(), Vec::new());
    for (index, part) in parts.into_iter().enumerate() {
        blocks.push(BlockManifest { classes: part.classes, hard: part.hard, detector: part.detector.is_some() });
        let mut weights = part.weights;
        weights.tensors.retain(|tensor| !BlockGraph::is_auxiliary(&tensor.name));
        tensors.tensors.extend(package::prefixed(&format!("block{}", index + 1), weights));
        parameters += work.progress[index].rounds.last().map_or(0, |round| round.parameters);
        let of_detector = part.detector.iter().flat_map(|detector| &detector.tensors);
        detectors.push(of_detector.map(|tensor| tensor.values.len()).sum::<usize>());
        if let Some(detector) = part.detector {
            tensors.tensors.extend(package::prefixed(&format!("detector{}", index + 1), detector));
        }
    }
    parameters += detectors.iter().sum::<usize>();
    let tested = context.prepared.samples(Split::Test);
    let samples = Samples::pick(&test, &calibration.rule, classes, |id| png(dataset.shape, tested.image(id as usize)));
    let known = Known {
        program: env!("CARGO_PKG_VERSION"),
        backend: executor.backend,
        spec,
        dataset,
        rule: &calibration.rule,
        test: &test,
        outcome: &on_test,
    };
    let confusions = work.progress.iter().map(|block| block.confusion.clone());
    let figures = Figures::new(known, confusions.zip(detectors).collect(), parameters).map_err(fatal)?;
    let tensor_bytes = Bytes::from(tensors.encode().map_err(fatal)?);
    let manifest = Manifest {
        format: key::FORMAT_VERSION,
        run: context.run.clone(),
        spec: spec.clone(),
        dataset: dataset.clone(),
        mean: context.prepared.dataset.mean.clone(),
        std: context.prepared.dataset.std.clone(),
        blocks,
        exit: calibration.rule.clone(),
        tensors: Digest::of(&tensor_bytes),
    };
    let location = executor.io.artefacts().location();
    let mut summary = Summary {
        run: context.run.clone(),
        dataset: dataset.name.clone(),
        accuracy: Accuracy { test: on_test.accuracy, validation: on_validation.accuracy },
        blocks: block_summaries(work, &on_test),
        inference: Inference {
            compute_efficiency: on_test.compute_efficiency(),
            synops_per_sample: on_test.compute.synops,
            macs_per_sample: on_test.compute.macs,
            parameter_overhead: parameters as f64 / figures.end_to_end_parameters as f64,
        },
        cache: work.cache,
        wall_seconds: work.seconds,
        model: format!("{location}/{}", key::model(&context.run, "").trim_end_matches('/')),
        report: format!("{location}/{}", key::model(&context.run, package::REPORT)),
        notes: Vec::new(),
    };
    let planned = Graph::new(spec, dataset.shape).map_err(fatal)?.blocks.len();
    let exits = curve.points.get(curve.chosen).map(|point| &point.validation);
    summary.notes = remark::notes(spec, &summary, planned, classes, exits);
    let history = history::lines(&spec.train, work.progress.iter().map(|block| &block.rounds));
    let told = Run {
        spec: spec.clone(),
        dataset: dataset.clone(),
        summary,
        curve,
        figures: Some(figures),
        samples: Some(samples),
        history,
    };
    let html = to_html(&report(std::slice::from_ref(&told), None, &Energy::default()));
    let put = |name: &str, bytes: Bytes| executor.io.put(&key::model(&context.run, name), bytes);
    let json = |value: serde_json::Result<Vec<u8>>| value.map(Bytes::from).map_err(fatal);
    put(package::TENSORS, tensor_bytes)?;
    put(package::SUMMARY, json(serde_json::to_vec_pretty(&told.summary))?)?;
    put(package::CURVE, json(serde_json::to_vec_pretty(&told.curve))?)?;
    put(package::CURVE_PICTURE, Bytes::from(picture::to_svg(&told.curve).map_err(fatal)?))?;
    put(package::FIGURES, json(serde_json::to_vec_pretty(&told.figures))?)?;
    put(package::SAMPLES, json(serde_json::to_vec(&told.samples))?)?;
    put(package::REPORT, Bytes::from(html))?;
    put(package::CARD, Bytes::from(card(&told)))?;
    put(package::MANIFEST, json(serde_json::to_vec_pretty(&manifest))?)?;
    Ok(Output::Finish(finish::Output { summary: Box::new(told.summary) }))
}

/// Records of every shard of a split, each about exactly the samples of its shard.
fn records<B: TrainingBackend>(
    executor: &Executor<B>,
    shards: &[Vec<u32>],
    blocks: &[FrozenBlock],
    objects: &[ObjectRef],
) -> Result<Records, Failure> {
    let mut all = Records::default();
    for (object, ids) in objects.iter().zip(shards) {
        let lost = |problem: String| Failure::InputLost { key: object.key.clone(), problem, content: true };
        let part: Records =
            serde_json::from_slice(&executor.io.get(object)?).map_err(|error| lost(error.to_string()))?;
        part.check(ids, blocks.iter().map(|block| &block.classes)).map_err(|error| lost(error.to_string()))?;
        all.join(part).map_err(|error| lost(error.to_string()))?;
    }
    Ok(all)
}

fn block_summaries(work: &Work, test: &Outcome) -> Vec<BlockSummary> {
    let summary = |(index, (block, progress)): (usize, (&FrozenBlock, &BlockProgress))| {
        let last = progress.rounds.last().cloned().unwrap_or_default();
        let train_seconds: f64 = progress.rounds.iter().map(|round| round.seconds).sum();
        let waiting_seconds: f64 = progress.rounds.iter().map(|round| round.waiting_seconds).sum();
        BlockSummary {
            block: block.block,
            classes: block.classes.len(),
            hard_classes: block.hard.globals().to_vec(),
            accuracy: progress.confusion.accuracy(),
            class_accuracy: progress.confusion.class_accuracy(),
            exit_fraction: test.exit_fraction.get(index).copied().unwrap_or(0.0),
            epochs: last.epochs,
            train_samples: last.epoch_samples,
            train_seconds,
            waiting_fraction: if train_seconds > 0.0 { waiting_seconds / train_seconds } else { 0.0 },
            peak_memory_bytes: progress.rounds.iter().map(|round| round.peak_memory_bytes).max().unwrap_or(0),
            firing_rate: last.firing_rate,
            parameters: last.parameters,
        }
    };
    work.blocks.iter().zip(&work.progress).enumerate().map(summary).collect()
}
