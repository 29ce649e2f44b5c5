//! What changes seldom of a run and takes more room than its [`RunView`](bloctrain_shared::view::RunView): what was
//! asked, names of classes, what every block answered to validation.

use super::block::Block;
use super::durable::Run;
use bloctrain_shared::ImageShape;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::spec::preset;
use bloctrain_shared::summary::CacheSize;
use serde::Serialize;

/// Classes up to which a confusion matrix is given: of more, nobody could read the picture.
pub const MAX_MATRIX: usize = 64;

/// A run beside its view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDetail {
    /// Names of the classes by global label.
    pub classes: Vec<String>,
    /// Shape of an image.
    pub shape: ImageShape,
    /// Samples by split.
    pub samples: Samples,
    /// What was asked, as far as people want to see it at a glance.
    pub asked: Asked,
    /// Backend that its workers must have, once known.
    pub backend: Option<String>,
    /// Size of the spike cache that it uses.
    pub cache: CacheSize,
    /// Its blocks, as far as they have begun.
    pub blocks: Vec<BlockDetail>,
}

/// Samples by split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// For training, without those held out.
    pub train: usize,
    /// Held out of training.
    pub validation: usize,
    /// For the figures at the end.
    pub test: usize,
}

/// The fields of a specification that a heading has room for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// Preset of the network; `None` where its layers are written out.
    pub preset: Option<String>,
    /// Channels of the preset's first layer, where given.
    pub width: Option<usize>,
    /// Time steps.
    pub steps: usize,
    /// Seed.
    pub seed: u64,
    /// Samples of a batch.
    pub batch: usize,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Workers that train a block together.
    pub replicas: u32,
    /// Share of a fleet relative to other runs.
    pub priority: u32,
}

/// A block beside its view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockDetail {
    /// The block, from 1.
    pub block: u32,
    /// Training samples of an epoch, once a round is committed.
    pub train_samples: Option<usize>,
    /// Validation accuracy of each of its classes, in ascending order of label, once validated.
    pub class_accuracy: Vec<Option<f64>>,
    /// Its answers to the validation samples by true class (row) and answered class, once validated; empty of more than
    /// [`MAX_MATRIX`] classes.
    pub confusion: Vec<Vec<u64>>,
    /// Bytes of its spikes in the cache; 0 of a completed run, whose sum is in [`RunDetail::cache`].
    pub cached_bytes: u64,
}

fn block_detail(index: usize, block: &Block) -> BlockDetail {
    let small = block.confusion.as_ref().filter(|confusion| confusion.classes() <= MAX_MATRIX);
    BlockDetail {
        block: u32::try_from(index + 1).unwrap_or(u32::MAX),
        train_samples: block.rounds.last().map(|round| round.metrics.epoch_samples),
        class_accuracy: block.confusion.as_ref().map(Confusion::class_accuracy).unwrap_or_default(),
        confusion: small.map(Confusion::counts).unwrap_or_default(),
        cached_bytes: block.exports.values().map(|exported| exported.shard.object.bytes).sum(),
    }
}

impl Run {
    /// What its view leaves out.
    pub fn detail(&self) -> RunDetail {
        let (spec, dataset) = (&self.submission.spec, &self.submission.dataset);
        let preset = preset::of(&spec.network).map(|preset| preset.name.to_owned());
        RunDetail {
            classes: dataset.classes.clone(),
            shape: dataset.shape,
            samples: Samples { train: dataset.train, validation: dataset.validation, test: dataset.test },
            asked: Asked {
                preset,
                width: spec.network.width,
                steps: spec.encoding.steps,
                seed: spec.run.seed,
                batch: spec.train.batch,
                learning_rate: spec.train.learning_rate,
                replicas: spec.train.replicas,
                priority: spec.run.priority,
            },
            backend: self.backend().map(str::to_owned),
            cache: self.summary.as_ref().map_or_else(|| self.cache(), |summary| summary.cache),
            blocks: self.blocks.iter().enumerate().map(|(index, block)| block_detail(index, block)).collect(),
        }
    }
}
