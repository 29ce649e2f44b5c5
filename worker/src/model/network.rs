//! All blocks of a trained network with their detectors, at inference.
//!
//! One way through a block serves everything: blocks in training form keep nothing for a backward pass, spikes stay
//! packed between blocks, classifiers and detectors are frozen. [`FullNet::records`] runs every block on every sample,
//! which calibration and figures need; [`FullNet::answers`] lets samples leave early and runs the next block on those
//! that are left. No sample's numbers depend on the others of its batch (on backends that say so, which the CPU does).

use crate::kernel::{BodyInput, SpikingBackend};
use crate::snn::block::{BlockConfig, BlockNet};
use crate::snn::detector::DetectorNet;
use crate::snn::frozen::{FrozenDetector, FrozenHead};
use bloctrain_kernel::count::Count;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::exit::{Answer, ExitRule, conclude, judge, top};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::{BlockRecords, Records};
use bloctrain_shared::spec::{DetectorPolicy, RunSpec};
use bloctrain_store::safetensor::NamedTensors;
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

struct LoadedBlock<B: SpikingBackend> {
    body: B::Frozen,
    head: FrozenHead,
    classes: LabelMap,
    hard: LabelMap,
    detector: Option<FrozenDetector>,
}

/// A trained network.
pub struct FullNet<B: SpikingBackend> {
    blocks: Vec<LoadedBlock<B>>,
    policy: DetectorPolicy,
}

/// What a block says about one sample.
struct Said {
    /// Over the block's classes.
    probabilities: Vec<f32>,
    /// P(hard).
    hard: f32,
    /// Synaptic operations of the classifier.
    synops: f64,
}

impl<B: SpikingBackend> FullNet<B> {
    /// Builds the network of a specification with given parameters.
    ///
    /// # Errors
    /// When parameters do not fit the network.
    pub fn new(spec: &RunSpec, image: ImageShape, parts: &[BlockParts], device: &B::Device) -> Result<Self, LoadError> {
        let mut blocks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let number = u32::try_from(index + 1).map_err(|error| LoadError::Network(error.to_string()))?;
            let net = load_block::<B>(spec, image, number, part.classes.len(), &part.weights, device)?;
            let detector =
                part.detector.as_ref().map(|tensors| load_detector(&net, spec, number, tensors, device)).transpose()?;
            let (body, head) = (net.frozen_body(), net.frozen_head());
            blocks.push(LoadedBlock { body, head, classes: part.classes.clone(), hard: part.hard.clone(), detector });
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
    pub fn records(&self, mut input: BodyInput<B>, ids: &[u32], labels: &[u16]) -> Records {
        let batch = input.batch();
        let mut records = Records { ids: ids.to_vec(), labels: labels.to_vec(), blocks: Vec::with_capacity(self.blocks.len()) };
        for block in &self.blocks {
            let (emitted, count) = B::run_frozen(&block.body, input, true);
            let spikes = emitted.into_spikes(batch);
            records.blocks.push(self.block_records(block, &spikes, count));
            input = BodyInput::Spikes(spikes);
        }
        records
    }

    /// Answers to every sample of a batch: each leaves at the first block whose gate opens, and only those that are left
    /// go through the next one.
    pub fn answers(&self, mut input: BodyInput<B>, rule: &ExitRule, classes: usize) -> Vec<Answer> {
        let batch = input.batch();
        let mut heard: Vec<(Vec<Vec<f32>>, Vec<f32>)> = vec![Default::default(); batch];
        let mut left: Vec<usize> = (0..batch).collect();
        for (index, block) in self.blocks.iter().enumerate() {
            let spikes = B::run_frozen(&block.body, input, false).0.into_spikes(left.len());
            let gate = rule.gates.get(index).filter(|_| index + 1 < self.blocks.len());
            let mut rows = Vec::with_capacity(left.len());
            for (row, said) in self.listen(block, &spikes).into_iter().enumerate() {
                let (spread, hard) = &mut heard[left[row]];
                let confidence = top(&said.probabilities).1;
                spread.push(block.classes.spread(&said.probabilities, classes));
                hard.push(said.hard);
                if !gate.is_some_and(|gate| gate.opens(said.hard, confidence)) {
                    rows.push(row);
                }
            }
            if rows.is_empty() {
                break;
            }
            input = BodyInput::Spikes(if rows.len() == left.len() { spikes } else { spikes.gather(&rows) });
            left = rows.into_iter().map(|row| left[row]).collect();
        }
        heard.into_iter().map(|(spread, hard)| conclude(rule.combine, &spread, &hard)).collect()
    }

    /// What a block's classifier and detector say about the spikes of every sample.
    fn listen(&self, block: &LoadedBlock<B>, spikes: &Spikes) -> Vec<Said> {
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

    fn block_records(&self, block: &LoadedBlock<B>, spikes: &Spikes, body: Count) -> BlockRecords {
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

/// Block `number` (from 1) with given parameters.
///
/// # Errors
/// When the parameters do not fit.
pub fn load_block<B: SpikingBackend>(
    spec: &RunSpec,
    image: ImageShape,
    number: u32,
    classes: usize,
    weights: &NamedTensors,
    device: &B::Device,
) -> Result<BlockNet<B>, LoadError> {
    let config = BlockConfig::new(spec, image, number, classes).map_err(|error| LoadError::Network(error.to_string()))?;
    let mut net = BlockNet::new(&config, device);
    net.store.load(weights).map_err(|error| LoadError::Block { block: number, problem: error.to_string() })?;
    Ok(net)
}

fn load_detector<B: SpikingBackend>(
    net: &BlockNet<B>,
    spec: &RunSpec,
    number: u32,
    tensors: &NamedTensors,
    device: &B::Device,
) -> Result<FrozenDetector, LoadError> {
    let mut detector = DetectorNet::<B>::new(net.detector(), spec.run.seed, number, device);
    detector.store.load(tensors).map_err(|error| LoadError::Detector { block: number, problem: error.to_string() })?;
    Ok(detector.freeze())
}
