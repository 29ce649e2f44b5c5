//! All blocks of a trained network with their detectors, at inference.

use crate::kernel::count::Count;
use crate::kernel::{BodyInput, Mode, SpikingBackend};
use crate::snn::block::{BlockConfig, BlockNet};
use crate::snn::detector::DetectorNet;
use crate::snn::param::to_host;
use crate::snn::pass::Pass;
use bloctrain_shared::ImageShape;
use bloctrain_shared::exit::top;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::{BlockRecords, Records};
use bloctrain_shared::spec::{DetectorPolicy, RunSpec};
use bloctrain_store::safetensor::NamedTensors;
use burn::tensor::activation::softmax;

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

struct LoadedBlock<B: SpikingBackend> {
    net: BlockNet<B>,
    classes: LabelMap,
    hard: LabelMap,
    detector: Option<DetectorNet<B>>,
}

/// A trained network.
pub struct FullNet<B: SpikingBackend> {
    blocks: Vec<LoadedBlock<B>>,
    policy: DetectorPolicy,
}

impl<B: SpikingBackend> FullNet<B> {
    /// Builds the network of a specification with given parameters.
    ///
    /// # Errors
    /// When parameters do not fit the network.
    pub fn new(spec: &RunSpec, image: ImageShape, parts: &[BlockParts], device: &B::Device) -> Result<Self, String> {
        let mut blocks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let number = u32::try_from(index + 1).map_err(|error| error.to_string())?;
            let net = load_block(spec, image, number, part.classes.len(), &part.weights, device)?;
            let detector =
                part.detector.as_ref().map(|tensors| load_detector(&net, spec, number, tensors, device)).transpose()?;
            blocks.push(LoadedBlock { net, classes: part.classes.clone(), hard: part.hard.clone(), detector });
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
            let mut pass = Pass::new(block.net.steps(), batch, Mode::Eval).with_count();
            let spikes = block.net.body(input, &mut pass);
            let body = pass.take_count();
            let logits = block.net.classify(&spikes, &mut pass, false);
            let classes = block.classes.len();
            let probabilities = to_host(softmax(logits.mean_dim(0).reshape([batch, classes]), 1));
            let hard = match &block.detector {
                Some(detector) => {
                    let features = detector.features(&spikes, block.net.steps());
                    to_host(detector.probability(features, &mut pass))
                }
                None => self.judge(block, &probabilities),
            };
            let exit = pass.take_count();
            records.blocks.push(block_records(block, probabilities, hard, body, exit));
            input = BodyInput::Spikes(spikes.into_spikes(batch));
        }
        records
    }

    /// P(hard) by a policy that learns nothing; 0 for the last block.
    fn judge(&self, block: &LoadedBlock<B>, probabilities: &[f32]) -> Vec<f32> {
        let classes = block.classes.len();
        let one = |row: &[f32]| match self.policy {
            _ if block.hard.is_empty() => 0.0,
            DetectorPolicy::Top1 => {
                let answer = block.classes.global(usize::from(top(row).0));
                f32::from(u8::from(answer.is_some_and(|class| block.hard.contains(class))))
            }
            DetectorPolicy::Entropy | DetectorPolicy::Learned => {
                let entropy: f32 = row.iter().filter(|&&p| p > 0.0).map(|&p| -p * p.ln()).sum();
                entropy / (classes as f32).ln().max(f32::MIN_POSITIVE)
            }
        };
        probabilities.chunks(classes).map(one).collect()
    }
}

fn block_records<B: SpikingBackend>(
    block: &LoadedBlock<B>,
    probabilities: Vec<f32>,
    hard: Vec<f32>,
    body: Count,
    exit: Count,
) -> BlockRecords {
    BlockRecords {
        classes: block.classes.clone(),
        probabilities,
        hard,
        body_synops: body.synops,
        exit_synops: exit.synops,
        body_macs: body.macs,
        exit_macs: exit.macs,
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
) -> Result<BlockNet<B>, String> {
    let config = BlockConfig::new(spec, image, number, classes).map_err(|error| error.to_string())?;
    let mut net = BlockNet::new(&config, device).map_err(|error| error.to_string())?;
    net.store.load(weights).map_err(|error| format!("block {number}: {error}"))?;
    Ok(net)
}

fn load_detector<B: SpikingBackend>(
    net: &BlockNet<B>,
    spec: &RunSpec,
    number: u32,
    tensors: &NamedTensors,
    device: &B::Device,
) -> Result<DetectorNet<B>, String> {
    let mut detector = DetectorNet::new(net.output(), spec.run.seed, number, device);
    detector.store.load(tensors).map_err(|error| format!("detector {number}: {error}"))?;
    Ok(detector)
}
