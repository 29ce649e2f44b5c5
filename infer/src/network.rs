//! All blocks of a trained network with their detectors.
//!
//! One way through a block serves everything: blocks keep nothing for a backward pass, spikes stay packed between
//! blocks, classifiers and detectors are frozen. [`Network::records`] runs every block on every sample, which
//! calibration and figures need; [`Network::answers`] lets samples leave early and runs the next block on those that
//! are left. No sample's numbers depend on the others of its batch (on backends that say so, which the CPU does).

use crate::encode::Input;
use crate::head::{FrozenDetector, FrozenHead};
use crate::tensors::NamedTensors;
use bloctrain_kernel::call::Statistic;
use bloctrain_kernel::count::Count;
use bloctrain_kernel::cpu::FrozenBody;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::exit::{self, Answer, ExitRule, judge, top};
use bloctrain_shared::graph::{Body, Graph, Parameter};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::{BlockRecords, Records};
use bloctrain_shared::spec::{DetectorPolicy, RunSpec};
use rayon::prelude::*;

/// One block's description and parameters.
#[derive(Debug)]
pub struct BlockParts {
    /// Its classes.
    pub classes: LabelMap,
    /// Its hard classes.
    pub hard: LabelMap,
    /// Its parameters and running statistics.
    pub weights: NamedTensors,
    /// Its detector's parameters.
    pub detector: Option<NamedTensors>,
}

/// Parameters that do not make the network of a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The network cannot be built at all.
    #[error("{0}")]
    Network(String),
    /// The parameters of a block (from 1) are others.
    #[error("block {block}: {problem}")]
    Block {
        /// The block.
        block: u32,
        /// What does not fit.
        problem: String,
    },
    /// The parameters of a block's detector are others.
    #[error("detector {block}: {problem}")]
    Detector {
        /// The block.
        block: u32,
        /// What does not fit.
        problem: String,
    },
}

impl From<LoadError> for String {
    fn from(error: LoadError) -> Self {
        error.to_string()
    }
}

/// The own layers of a frozen block, on some backend.
pub trait Layers: Sync {
    /// What enters the block.
    type Input: From<Spikes>;

    /// Number of samples that enter.
    fn samples(input: &Self::Input) -> usize;

    /// The spikes that leave, and the operations that they took where these are to be counted.
    fn run(&self, input: Self::Input, count: bool) -> (Spikes, Count);
}

impl Layers for FrozenBody {
    type Input = Input;

    fn samples(input: &Input) -> usize {
        input.samples()
    }

    fn run(&self, input: Input, count: bool) -> (Spikes, Count) {
        let found = input.with(|input| FrozenBody::run(self, input, count));
        (found.spikes, found.record.count)
    }
}

struct Block<L> {
    layers: L,
    head: FrozenHead,
    classes: LabelMap,
    hard: LabelMap,
    detector: Option<FrozenDetector>,
}

/// A trained network, whose blocks' own layers run on some backend: without another, on the CPU.
pub struct Network<L: Layers = FrozenBody> {
    blocks: Vec<Block<L>>,
    policy: DetectorPolicy,
}

/// What a block says about one sample.
#[derive(Debug, Clone)]
struct Said {
    /// Over the block's classes.
    probabilities: Vec<f32>,
    /// P(hard).
    hard: f32,
    /// Synaptic operations of the classifier.
    synops: f64,
}

/// Values of some parameters by their names, one vector for each.
///
/// # Errors
/// Says which one is missing or has another shape.
pub fn part_values(parameters: &[Parameter], tensors: &NamedTensors) -> Result<Vec<Vec<f32>>, String> {
    parameters.iter().map(|parameter| tensors.values(&parameter.name, &parameter.shape)).collect()
}

/// Flat parameters of a block's own layers, and the running statistics of their norms.
fn body_values(body: &Body, tensors: &NamedTensors) -> Result<(Vec<f32>, Vec<Statistic>), String> {
    let flat = part_values(&body.parameters, tensors)?.concat();
    let mut running = Vec::with_capacity(body.running.len());
    for norm in &body.running {
        let values = |name: String| tensors.values(&name, &[norm.channels]);
        running.push(Statistic { mean: values(norm.mean())?, variance: values(norm.variance())? });
    }
    Ok((flat, running))
}

impl Network {
    /// The network of a specification with given parameters, on the CPU.
    ///
    /// # Errors
    /// When parameters do not fit the network.
    pub fn new(spec: &RunSpec, image: ImageShape, parts: &[BlockParts]) -> Result<Self, LoadError> {
        Self::on(spec, image, parts, |body, params, running| FrozenBody::new(body.clone(), params, running))
    }
}

impl<L: Layers> Network<L> {
    /// The network of a specification with given parameters; `freeze` makes the own layers of a block from its flat
    /// parameters and the running statistics of its norms.
    ///
    /// # Errors
    /// When parameters do not fit the network.
    pub fn on(
        spec: &RunSpec,
        image: ImageShape,
        parts: &[BlockParts],
        freeze: impl Fn(&Body, Vec<f32>, Vec<Statistic>) -> L,
    ) -> Result<Self, LoadError> {
        let graph = Graph::new(spec, image).map_err(|error| LoadError::Network(error.to_string()))?;
        if parts.len() > graph.blocks.len() {
            let problem =
                format!("there are parameters of {} blocks, the network has {}", parts.len(), graph.blocks.len());
            return Err(LoadError::Network(problem));
        }
        let mut blocks = Vec::with_capacity(parts.len());
        for (number, (part, block)) in (1..).zip(parts.iter().zip(&graph.blocks)) {
            let wrong = |problem| LoadError::Block { block: number, problem };
            let (params, running) = body_values(&block.body, &part.weights).map_err(wrong)?;
            let classifier = block.classifier(part.classes.len());
            let head =
                FrozenHead::new(&classifier, &part_values(&classifier.parameters, &part.weights).map_err(wrong)?);
            let detector = part.detector.as_ref().map(|tensors| {
                let graph = block.detector();
                let values = part_values(&graph.parameters, tensors);
                let values = values.map_err(|problem| LoadError::Detector { block: number, problem })?;
                Ok(FrozenDetector::new(&graph, &values))
            });
            let (classes, hard) = (part.classes.clone(), part.hard.clone());
            blocks.push(Block {
                layers: freeze(&block.body, params, running),
                head,
                classes,
                hard,
                detector: detector.transpose()?,
            });
        }
        Ok(Self { blocks, policy: spec.detector.policy })
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether the network has no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// What every block says about every sample of a batch, whether or not it would have exited before.
    pub fn records(&self, mut input: L::Input, ids: &[u32], labels: &[u16]) -> Records {
        let mut records =
            Records { ids: ids.to_vec(), labels: labels.to_vec(), blocks: Vec::with_capacity(self.blocks.len()) };
        for block in &self.blocks {
            let (spikes, count) = block.layers.run(input, true);
            records.blocks.push(self.block_records(block, &spikes, count));
            input = spikes.into();
        }
        records
    }

    /// Answers to every sample of a batch: each leaves at the first block whose gate opens, and only those that are
    /// left go through the next one.
    pub fn answers(&self, mut input: L::Input, rule: &ExitRule, classes: usize) -> Vec<Answer> {
        let batch = L::samples(&input);
        let mut heard: Vec<Vec<Said>> = vec![Vec::new(); batch];
        let mut left: Vec<usize> = (0..batch).collect();
        for (index, block) in self.blocks.iter().enumerate() {
            let (spikes, _) = block.layers.run(input, false);
            let gate = rule.gates.get(index).filter(|_| index + 1 < self.blocks.len());
            let mut rows = Vec::with_capacity(left.len());
            for (row, said) in self.listen(block, &spikes).into_iter().enumerate() {
                if !gate.is_some_and(|gate| gate.opens(said.hard, top(&said.probabilities).1)) {
                    rows.push(row);
                }
                heard[left[row]].push(said);
            }
            if rows.is_empty() {
                break;
            }
            input = if rows.len() == left.len() { spikes } else { spikes.gather(&rows) }.into();
            left = rows.into_iter().map(|row| left[row]).collect();
        }
        let conclude = |heard: &Vec<Said>| {
            let ran = self.blocks.iter().zip(heard);
            let said = ran.map(|(block, said)| exit::Said {
                classes: &block.classes,
                probabilities: &said.probabilities,
                hard: said.hard,
            });
            exit::conclude(rule, &said.collect::<Vec<_>>(), classes)
        };
        heard.iter().map(conclude).collect()
    }

    /// What a block's classifier and detector say about the spikes of every sample.
    fn listen(&self, block: &Block<L>, spikes: &Spikes) -> Vec<Said> {
        let one = |sample| {
            let (probabilities, synops) = block.head.probabilities(spikes, sample);
            let hard = match &block.detector {
                Some(detector) => detector.probability(spikes, sample),
                None => judge(self.policy, &block.classes, &block.hard, &probabilities),
            };
            Said { probabilities, hard, synops }
        };
        (0..spikes.batch()).into_par_iter().map(one).collect()
    }

    fn block_records(&self, block: &Block<L>, spikes: &Spikes, body: Count) -> BlockRecords {
        let exit_macs = block.head.macs(spikes.steps()) + block.detector.as_ref().map_or(0.0, FrozenDetector::macs);
        let mut records = BlockRecords {
            classes: block.classes.clone(),
            probabilities: Vec::with_capacity(spikes.batch() * block.classes.len()),
            hard: Vec::with_capacity(spikes.batch()),
            body_synops: body.synops,
            exit_synops: Vec::with_capacity(spikes.batch()),
            body_macs: body.macs,
            exit_macs,
        };
        for said in self.listen(block, spikes) {
            records.probabilities.extend(said.probabilities);
            records.hard.push(said.hard);
            records.exit_synops.push(said.synops);
        }
        records
    }
}
