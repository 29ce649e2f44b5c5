//! Networks by name, with what they train best with.

use super::network::{BlockSpec, HeadSpec, NetworkSpec};
use crate::layer::LayerSpec;

/// A named network with a width.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name used in `network.preset`.
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// Width used when the spec gives none.
    pub width: usize,
    /// The blocks and the head for a width.
    pub build: fn(usize) -> (Vec<BlockSpec>, HeadSpec),
    /// What its blocks train best with.
    pub blocks: Recipe,
    /// What it trains best with end to end.
    pub end_to_end: Recipe,
}

/// What was measured to be better than the defaults (docs/accuracy.md), in chains of settings, each as one would write
/// it after `--set`. A specification that is [read](super::written::read) has a setting where nothing else is written,
/// as long as none before it in its chain is left out or written as the default. So specifications of before, in stores
/// and packages, keep their meaning.
pub type Recipe = &'static [&'static [&'static str]];

const HEAD: &[&str] = &["network.head={ pool = 4, hidden = [] }"];
const THRESHOLD: &[&str] = &["neuron.threshold=2.0"];
const LEAK: &[&str] = &["neuron.leak=0.75"];
const RATE: &[&str] = &["train.learning_rate=0.016"];
// Twice as deep as a block alone, so between the rates of a block and of the whole network.
const NEXT: &[&str] = &["network.auxiliary.kind=next", "neuron.surrogate_width=1.0", "train.learning_rate=0.008"];
const FRESH: &[&str] = &["data.views=0"];
const STACK: &[&str] = &["exit.combine=stack"];
const INPUTS: &[&str] = &["hard_inputs.fraction=0.6", "detector.policy=confidence"];
// Of a hundred classes a block leaves most inputs unsolved, so all go on.
const ALL: &[&str] = &["hard_classes.policy=all", "detector.policy=confidence"];
const SMALL_BLOCKS: Recipe = &[
    &["train.learning_rate=0.032"],
    THRESHOLD,
    STACK,
    &["hard_inputs.fraction=0.5", "detector.policy=confidence"],
    // With so few validation images settings of the exits differ by luck: of those, one that uses every block.
    &["exit.min_share=0.06"],
];
const RESNET9_BLOCKS: Recipe = &[RATE, HEAD, THRESHOLD, LEAK, NEXT, FRESH, STACK, INPUTS];
const RESNET11_BLOCKS: Recipe = &[RATE, HEAD, THRESHOLD, LEAK, NEXT, FRESH, STACK, ALL];
// A deeper network does not bear the learning rates of blocks, and its gradients reach further with a wider surrogate.
const RESNET_WHOLE: Recipe = &[HEAD, THRESHOLD, LEAK, &["neuron.surrogate_width=1.0"]];

/// Every preset.
pub const PRESETS: [Preset; 5] = [
    preset("small", "3 blocks of plain convolutions for 28x28 gray images", 16, small, [SMALL_BLOCKS, &[]]),
    preset("resnet9", "stem and 3 residual pairs in 3 blocks", 64, resnet9, [RESNET9_BLOCKS, RESNET_WHOLE]),
    preset("resnet11", "stem and 4 residual pairs in 4 blocks", 64, resnet11, [RESNET11_BLOCKS, RESNET_WHOLE]),
    preset("resnet18", "stem and 8 residual pairs in 4 blocks, at full resolution", 64, resnet18, [&[]; 2]),
    preset("vgg16", "13 convolutions with max pooling in 5 blocks", 64, vgg16, [&[]; 2]),
];

const fn preset(
    name: &'static str,
    title: &'static str,
    width: usize,
    build: fn(usize) -> (Vec<BlockSpec>, HeadSpec),
    [blocks, end_to_end]: [Recipe; 2],
) -> Preset {
    Preset { name, title, width, build, blocks, end_to_end }
}

impl Preset {
    /// What it trains best with, end to end or block by block.
    pub fn recipe(&self, end_to_end: bool) -> Recipe {
        if end_to_end { self.end_to_end } else { self.blocks }
    }
}

/// The preset that a network is of: the default one where it names neither preset nor blocks.
pub fn of(network: &NetworkSpec) -> Option<&'static Preset> {
    find(network.preset_name()).filter(|_| network.block.is_empty())
}

/// The settings of a recipe, without those that later ones replace.
pub fn settings(recipe: Recipe) -> Vec<&'static str> {
    let all = recipe.concat();
    let field = |setting: &'static str| setting.split('=').next();
    let is_last = |at: &usize| all[at + 1..].iter().all(|later| field(later) != field(all[*at]));
    (0..all.len()).filter(is_last).map(|at| all[at]).collect()
}

/// The preset of a name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

fn conv(channels: usize) -> LayerSpec {
    LayerSpec::conv(channels, 3, 1)
}

fn residual(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::residual(channels, stride)
}

fn block(layers: Vec<LayerSpec>) -> BlockSpec {
    BlockSpec { layers }
}

fn small(w: usize) -> (Vec<BlockSpec>, HeadSpec) {
    let strided = |channels| LayerSpec::conv(channels, 3, 2);
    let blocks = vec![
        block(vec![strided(w), conv(w)]),
        block(vec![strided(2 * w), conv(2 * w)]),
        block(vec![conv(4 * w), strided(4 * w)]),
    ];
    (blocks, HeadSpec { pool: 4, hidden: vec![4 * w] })
}

fn resnet9(w: usize) -> (Vec<BlockSpec>, HeadSpec) {
    let blocks = vec![
        block(vec![conv(w), LayerSpec::avg_pool(2), residual(2 * w, 1)]),
        block(vec![residual(4 * w, 2)]),
        block(vec![residual(8 * w, 2)]),
    ];
    (blocks, HeadSpec { pool: 4, hidden: vec![16 * w] })
}

fn resnet11(w: usize) -> (Vec<BlockSpec>, HeadSpec) {
    let (mut blocks, head) = resnet9(w);
    blocks.push(block(vec![residual(8 * w, 1)]));
    (blocks, head)
}

/// He et al. 2016 with the stem for 32x32 images: no stride and no pooling before the first pairs.
fn resnet18(w: usize) -> (Vec<BlockSpec>, HeadSpec) {
    let stage = |channels: usize, stride: usize| vec![residual(channels, stride), residual(channels, 1)];
    let first = [vec![conv(w)], stage(w, 1)].concat();
    let blocks = [first, stage(2 * w, 2), stage(4 * w, 2), stage(8 * w, 2)];
    (blocks.map(block).to_vec(), HeadSpec { pool: 1, hidden: Vec::new() })
}

fn vgg16(w: usize) -> (Vec<BlockSpec>, HeadSpec) {
    let stage = |channels: usize, convolutions: usize| {
        let mut layers = vec![conv(channels); convolutions];
        layers.push(LayerSpec::max_pool(2));
        block(layers)
    };
    let blocks = vec![stage(w, 2), stage(2 * w, 2), stage(4 * w, 3), stage(8 * w, 3), stage(8 * w, 3)];
    (blocks, HeadSpec { pool: 1, hidden: vec![8 * w] })
}
