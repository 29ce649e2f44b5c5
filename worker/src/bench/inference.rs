//! Inference with and without early exits, for `bench inference`.

use super::{Clock, Images, SEED, WARM_UP, step};
use crate::snn::detector::DetectorNet;
use bloctrain_data::Dataset;
use bloctrain_infer::{BlockParts, Input, NamedTensors, Network, Package, Predictor};
use bloctrain_shared::RunSpec;
use bloctrain_shared::exit::{ExitRule, Gate};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::Records;
use bloctrain_shared::spec::Combine;
use burn_flex::Flex;
use serde::Serialize;

/// Images that batches are cut from, at least one batch of them.
const IMAGES: usize = 512;

/// A gate through which nothing leaves.
const SHUT: Gate = Gate { tau: 0.0, gamma: 2.0 };

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Samples in a batch.
    pub batch: usize,
    /// Batches that are timed.
    pub iters: u32,
}

/// Where samples leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exits {
    /// Nowhere: every block runs on every sample.
    None,
    /// Where thresholds make a given share leave.
    Forced,
    /// Where the model's own thresholds say.
    Model,
}

impl Exits {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Forced => "forced",
            Self::Model => "model",
        }
    }
}

/// Figures of one way through the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Where samples leave.
    pub exits: Exits,
    /// Samples per second, over all batches.
    pub images_per_s: f64,
    /// Fraction of the samples that left at each block.
    pub exit_fraction: Vec<f64>,
}

/// A network with batches to answer.
struct Workload {
    net: Network,
    classes: usize,
    inputs: Vec<Input>,
}

/// Times a network that was trained for some steps, with random detectors: without exits, and with thresholds under
/// which a share of `exit_fraction` of the samples that reach a block leave there, by the confidence of its classifier.
///
/// # Errors
/// When the network cannot be built on the images.
pub fn preset(
    spec: &RunSpec,
    images: &Images,
    options: Options,
    train_steps: usize,
    exit_fraction: f64,
    clock: Clock<'_>,
) -> Result<Vec<Figures>, String> {
    let nets = step::trained(spec, images, train_steps)?;
    let all = LabelMap::all(images.classes());
    let tensors = |tensors| NamedTensors { tensors, ..NamedTensors::default() };
    let last = nets.len().saturating_sub(1);
    let part = |(index, net): (usize, &crate::snn::block::BlockNet<Flex>)| {
        let detector = DetectorNet::<Flex>::new(net.detector(), SEED, index as u32 + 1, &Default::default());
        BlockParts {
            classes: all.clone(),
            hard: if index < last { all.clone() } else { LabelMap::default() },
            weights: tensors(net.store.export()),
            detector: (index < last).then(|| tensors(detector.store.export())),
        }
    };
    let parts: Vec<BlockParts> = nets.iter().enumerate().map(part).collect();
    let net = Network::new(spec, images.shape(), &parts)?;
    let input = |number| Input::Images { samples: options.batch, values: images.batch(options.batch, number).0 };
    let inputs: Vec<Input> = (0..IMAGES.div_ceil(options.batch)).map(input).collect();
    let work = Workload { net, classes: images.classes(), inputs };
    let mut figures = vec![work.time(Exits::None, &work.rule(vec![SHUT; last]), options.iters, clock)];
    if last > 0 {
        let gates = work.gates(exit_fraction)?;
        figures.push(work.time(Exits::Forced, &work.rule(gates), options.iters, clock));
    }
    Ok(figures)
}

/// Times a trained model on its test data: without exits, and with its own.
///
/// # Errors
/// When the model does not fit itself.
pub fn model(package: &Package, dataset: &Dataset, options: Options, clock: Clock<'_>) -> Result<Vec<Figures>, String> {
    let predictor = Predictor::new(package).map_err(|error| error.to_string())?;
    let ids: Vec<u32> = (0..u32::try_from(dataset.test.len()).unwrap_or(u32::MAX)).collect();
    let test = |ids: &[u32]| {
        let images: Vec<&[u8]> = ids.iter().map(|&id| dataset.test.image(id as usize)).collect();
        predictor.input(&images, ids)
    };
    let whole = ids.chunks_exact(options.batch.min(ids.len()).max(1));
    let inputs = whole.take(IMAGES.div_ceil(options.batch)).map(test).collect();
    let rule = package.manifest.exit.clone();
    let work = Workload { net: predictor.into_network(), classes: package.manifest.dataset.classes.len(), inputs };
    let shut = ExitRule { gates: vec![SHUT; rule.gates.len()], ..rule.clone() };
    Ok(vec![work.time(Exits::None, &shut, options.iters, clock), work.time(Exits::Model, &rule, options.iters, clock)])
}

impl Workload {
    fn rule(&self, gates: Vec<Gate>) -> ExitRule {
        ExitRule::new(Combine::Mixture, gates)
    }

    /// Gates by confidence alone, through which a share of the samples that reach them leaves.
    fn gates(&self, share: f64) -> Result<Vec<Gate>, String> {
        let mut records = Records::default();
        for input in &self.inputs {
            let samples = input.samples();
            let part = self.net.records(input.clone(), &vec![0; samples], &vec![0; samples]);
            records.join(part).map_err(|error| error.to_string())?;
        }
        let mut left: Vec<usize> = (0..records.len()).collect();
        let mut gates = Vec::new();
        for block in &records.blocks[..records.blocks.len().saturating_sub(1)] {
            left.sort_by(|&a, &b| block.confidence(b).total_cmp(&block.confidence(a)));
            let leaving = ((share * left.len() as f64).round() as usize).min(left.len());
            gates.push(match leaving.checked_sub(1) {
                Some(last) => Gate { tau: 2.0, gamma: block.confidence(left[last]) },
                None => SHUT,
            });
            left.drain(..leaving);
        }
        Ok(gates)
    }

    fn time(&self, exits: Exits, rule: &ExitRule, iters: u32, clock: Clock<'_>) -> Figures {
        let mut left = vec![0_u64; self.net.len()];
        let (mut samples, mut seconds) = (0_u64, 0.0);
        let numbers = (0..WARM_UP).chain(0..iters).zip(0_u32..);
        for (number, call) in numbers {
            let input = self.inputs[number as usize % self.inputs.len()].clone();
            let begun = clock();
            let answers = self.net.answers(input, rule, self.classes);
            if call >= WARM_UP {
                seconds += clock() - begun;
                samples += answers.len() as u64;
                answers.iter().for_each(|answer| left[answer.exit] += 1);
            }
        }
        Figures {
            exits,
            images_per_s: samples as f64 / seconds.max(1e-12),
            exit_fraction: left.into_iter().map(|count| count as f64 / samples.max(1) as f64).collect(),
        }
    }
}
