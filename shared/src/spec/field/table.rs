//! The rows, in the order of the types.

use super::Reach::{Answers, Label, Place, Spikes, Training};
use super::{Field, Range, Reach, When};
use crate::norm::Norm;
use crate::spec::network::AuxiliaryKind;
use crate::spec::train::MAX_REPLICAS;
use crate::spec::{Augment, DetectorPolicy, HardClassPolicy, LayerSpec, NeuronModel, OptimizerKind, RunSpec};

const fn field(path: &'static str, unit: &'static str, range: Range, counts: &'static [When], reach: Reach) -> Field {
    Field { path, unit, range, counts, reach }
}

const fn range(text: &'static str, holds: fn(&RunSpec) -> bool) -> Range {
    Range { text, holds }
}

const fn when(text: &'static str, holds: fn(&RunSpec) -> bool) -> When {
    When { text, holds }
}

const ANY: Range = range("", |_| true);
const ALWAYS: &[When] = &[];

const SEVERAL_BLOCKS: When = when("in a network of several blocks that is not trained end to end", several_blocks);
const AUXILIARY: When =
    when("with another `network.auxiliary.kind` than `none`", |s| s.network.auxiliary.kind != AuxiliaryKind::None);
const MORE_STEPS: When = when("with `encoding.steps` above 1", |s| s.encoding.steps > 1);
const REPLICAS: When = when("with `train.replicas` above 1", |s| s.train.replicas > 1);
const HARD_CLASSES: When = when("without `hard_inputs.fraction`", |s| !s.hard_inputs.is_on());
const PRESET: When =
    when("without `[[network.block]]`, whose layers say it themselves", |s| s.network.block.is_empty());

/// Rows of all fields.
pub const FIELDS: &[Field] = &[
    field("data.name", "", ANY, ALWAYS, Place),
    field("data.dir", "", range("not be given together with data.name", one_place), ALWAYS, Place),
    // The digest of the data set stands for the scaled images.
    field(
        "data.size",
        "pixels",
        range("lie in 1..=4096", |s| s.data.size.is_none_or(|size| (1..=4096).contains(&size))),
        ALWAYS,
        Place,
    ),
    field(
        "data.validation_fraction",
        "share of each class",
        range("lie in (0, 0.5]", |s| s.data.validation_fraction > 0.0 && s.data.validation_fraction <= 0.5),
        ALWAYS,
        Training,
    ),
    field("data.augment", "", ANY, ALWAYS, Spikes),
    field(
        "data.cutout_size",
        "share of the image's height",
        range("lie in (0, 1]", |s| s.data.cutout_size > 0.0 && s.data.cutout_size <= 1.0),
        &[when("with `data.augment` `cutout`", |s| s.data.augment.contains(&Augment::Cutout))],
        Spikes,
    ),
    field(
        "data.views",
        "views",
        range("be at most 1024", |s| s.data.views <= 1024),
        &[when("with `data.augment`", |s| !s.data.augment.is_empty()), SEVERAL_BLOCKS],
        Training,
    ),
    field("network.preset", "", ANY, &[PRESET], Spikes),
    field("network.width", "channels", range("be at least 1", |s| s.network.width != Some(0)), &[PRESET], Spikes),
    field("network.norm", "", ANY, &[when("in a network with a layer `conv` or `residual`", convolves)], Spikes),
    field("network.block", "", ANY, ALWAYS, Spikes),
    field("network.head.pool", "positions", ANY, ALWAYS, Training),
    field("network.head.hidden", "features", ANY, ALWAYS, Training),
    field("network.classifier.pool", "positions", ANY, &[CLASSIFIER], Training),
    field("network.classifier.hidden", "features", ANY, &[CLASSIFIER], Training),
    field("network.auxiliary.kind", "", ANY, &[SEVERAL_BLOCKS], Training),
    field(
        "network.auxiliary.depth",
        "layers or blocks",
        range("lie in 1..=8", |s| (1..=8).contains(&s.network.auxiliary.depth)),
        &[AUXILIARY, SEVERAL_BLOCKS],
        Training,
    ),
    field(
        "network.auxiliary.exit_gradient",
        "",
        range("be a number of at least 0", |s| not_negative(s.network.auxiliary.exit_gradient)),
        &[AUXILIARY, SEVERAL_BLOCKS],
        Training,
    ),
    field("neuron.model", "", ANY, ALWAYS, Spikes),
    field(
        "neuron.leak",
        "",
        range("lie in [0, 1]", |s| (0.0..=1.0).contains(&s.neuron.leak)),
        &[when("with `neuron.model` `lif` or `plif`", |s| s.neuron.model != NeuronModel::If), MORE_STEPS_OR_LEARNED],
        Spikes,
    ),
    field(
        "neuron.threshold",
        "membrane",
        range("be a number above 0", |s| positive(s.neuron.threshold.into())),
        ALWAYS,
        Spikes,
    ),
    field("neuron.reset", "", ANY, &[MORE_STEPS], Spikes),
    field("neuron.detach_reset", "", ANY, &[MORE_STEPS], Training),
    field("neuron.surrogate", "", ANY, ALWAYS, Training),
    field(
        "neuron.surrogate_width",
        "",
        range("be a number above 0", |s| positive(s.neuron.surrogate_width.into())),
        ALWAYS,
        Training,
    ),
    field("encoding.kind", "", ANY, ALWAYS, Spikes),
    field(
        "encoding.steps",
        "time steps",
        range("lie in 1..=4096", |s| (1..=4096).contains(&s.encoding.steps)),
        ALWAYS,
        Spikes,
    ),
    field("train.epochs", "epochs", range("be at least 1", |s| s.train.epochs >= 1), ALWAYS, Training),
    // In chains by itself from the second block on: runs have the first one in common.
    field(
        "train.later_fraction",
        "share of `train.epochs`",
        range("lie in (0, 1]", |s| s.train.later_fraction > 0.0 && s.train.later_fraction <= 1.0),
        &[SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "train.start_steps",
        "time steps",
        range("be at most encoding.steps; 0 means encoding.steps", |s| s.train.start_steps <= s.encoding.steps),
        &[MORE_STEPS],
        Training,
    ),
    field("train.batch", "samples", range("be at least 1", |s| s.train.batch >= 1), ALWAYS, Training),
    field("train.drop_last", "", ANY, ALWAYS, Training),
    field(
        "train.micro_batch",
        "samples",
        range("be at most train.batch; 0 means train.batch", |s| s.train.micro_batch <= s.train.batch),
        ALWAYS,
        Training,
    ),
    field("train.precision", "", ANY, ALWAYS, Spikes),
    field("train.optimizer", "", ANY, ALWAYS, Training),
    field(
        "train.learning_rate",
        "",
        range("be a number above 0", |s| positive(s.train.learning_rate)),
        ALWAYS,
        Training,
    ),
    field(
        "train.schedule",
        "",
        ANY,
        &[when("with `train.warmup_epochs` below `train.epochs`", |s| s.train.warmup_epochs < s.train.epochs)],
        Training,
    ),
    field(
        "train.warmup_epochs",
        "epochs",
        range("be at most train.epochs", |s| s.train.warmup_epochs <= s.train.epochs),
        ALWAYS,
        Training,
    ),
    field(
        "train.momentum",
        "",
        range("lie in [0, 1)", |s| (0.0..1.0).contains(&s.train.momentum)),
        &[when("with `train.optimizer` `sgd`", |s| s.train.optimizer == OptimizerKind::Sgd)],
        Training,
    ),
    field(
        "train.weight_decay",
        "",
        range("be a number of at least 0", |s| not_negative(s.train.weight_decay)),
        ALWAYS,
        Training,
    ),
    field(
        "train.label_smoothing",
        "probability",
        range("lie in [0, 1)", |s| (0.0..1.0).contains(&s.train.label_smoothing)),
        ALWAYS,
        Training,
    ),
    field(
        "train.gradient_clip",
        "norm",
        range("be a number of at least 0; 0 switches clipping off", |s| not_negative(s.train.gradient_clip)),
        ALWAYS,
        Training,
    ),
    field("train.loss", "", ANY, ALWAYS, Training),
    field("train.patience", "epochs", ANY, ALWAYS, Training),
    field(
        "train.recount",
        "samples",
        ANY,
        &[when("with `network.norm` `batch` or `td` and without `train.replicas`", |s| {
            s.network.norm != Norm::None && s.train.replicas == 1
        })],
        Training,
    ),
    field(
        "train.ema",
        "decay",
        range("lie in [0, 1)", |s| (0.0..1.0).contains(&s.train.ema)),
        &[when("without `train.replicas`, which are averaged themselves", |s| s.train.replicas == 1)],
        Training,
    ),
    field(
        "train.replicas",
        "replicas",
        range("lie in 1..=1024", |s| (1..=MAX_REPLICAS).contains(&s.train.replicas)),
        ALWAYS,
        Training,
    ),
    field("train.round_steps", "optimiser steps", ANY, ALWAYS, Training),
    field(
        "train.outer_learning_rate",
        "",
        range("be a number above 0", |s| positive(s.train.outer_learning_rate)),
        &[REPLICAS],
        Training,
    ),
    field(
        "train.outer_momentum",
        "",
        range("lie in [0, 1)", |s| (0.0..1.0).contains(&s.train.outer_momentum)),
        &[REPLICAS],
        Training,
    ),
    field("hard_classes.policy", "", ANY, &[HARD_CLASSES, SEVERAL_BLOCKS], Answers),
    field(
        "hard_classes.threshold",
        "accuracy",
        range("lie in [0, 1]", |s| (0.0..=1.0).contains(&s.hard_classes.threshold)),
        &[
            when("with `hard_classes.policy` `threshold`", |s| s.hard_classes.policy == HardClassPolicy::Threshold),
            HARD_CLASSES,
            SEVERAL_BLOCKS,
        ],
        Answers,
    ),
    field(
        "hard_classes.k",
        "classes",
        // Elsewhere nothing reads it: old runs may have 0.
        range("be at least 1", |s| s.hard_classes.policy != HardClassPolicy::BottomK || s.hard_classes.k >= 1),
        &[
            when("with `hard_classes.policy` `bottom-k`", |s| s.hard_classes.policy == HardClassPolicy::BottomK),
            HARD_CLASSES,
            SEVERAL_BLOCKS,
        ],
        Answers,
    ),
    field(
        "hard_classes.fraction",
        "share of the block's classes",
        range("lie in (0, 1]", |s| s.hard_classes.fraction > 0.0 && s.hard_classes.fraction <= 1.0),
        &[
            when("with `hard_classes.policy` `bottom-fraction`", |s| {
                s.hard_classes.policy == HardClassPolicy::BottomFraction
            }),
            HARD_CLASSES,
            SEVERAL_BLOCKS,
        ],
        Answers,
    ),
    // What they select is in chains and keys by itself, as hard classes are.
    field(
        "hard_inputs.fraction",
        "share of the block's samples",
        range("lie in (0, 1]", |s| s.hard_inputs.fraction.is_none_or(|fraction| fraction > 0.0 && fraction <= 1.0)),
        &[SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "hard_inputs.floor",
        "share of each class",
        range("lie in [0, hard_inputs.fraction]", |s| {
            (0.0..=s.hard_inputs.fraction.unwrap_or(1.0)).contains(&s.hard_inputs.floor)
        }),
        &[when("with `hard_inputs.fraction`", |s| s.hard_inputs.is_on()), SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "detector.policy",
        "",
        range("not be `top1` or `mass` with hard_inputs.fraction, where every class is hard", judges_inputs),
        &[SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "detector.epochs",
        "epochs",
        range("be at least 1", |s| s.detector.epochs >= 1),
        &[when("with `detector.policy` `learned`", |s| s.detector.policy == DetectorPolicy::Learned), SEVERAL_BLOCKS],
        Answers,
    ),
    field("exit.combine", "", ANY, &[SEVERAL_BLOCKS], Answers),
    field(
        "exit.max_accuracy_drop",
        "accuracy",
        range("lie in [0, 1]", |s| (0.0..=1.0).contains(&s.exit.max_accuracy_drop)),
        &[when("without `exit.compute_budget`", |s| s.exit.compute_budget.is_none()), SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "exit.compute_budget",
        "share of the full network's compute",
        range("be a number above 0, as a fraction of the full network's compute", |s| {
            s.exit.compute_budget.is_none_or(positive)
        }),
        &[SEVERAL_BLOCKS],
        Answers,
    ),
    field(
        "exit.min_share",
        "share of the validation samples",
        range("lie in [0, 1]", |s| (0.0..=1.0).contains(&s.exit.min_share)),
        &[SEVERAL_BLOCKS],
        Answers,
    ),
    field("run.name", "", ANY, ALWAYS, Label),
    field("run.seed", "", ANY, ALWAYS, Spikes),
    field("run.priority", "shares", range("be at least 1", |s| s.run.priority >= 1), ALWAYS, Label),
    field("run.end_to_end", "", ANY, &[when("in a network of several blocks", is_cut)], Spikes),
];

const CLASSIFIER: When = when(
    "in a network of several blocks that is not trained end to end, or as the head of blocks written out without \
    `network.head`",
    |s| several_blocks(s) || (!s.network.block.is_empty() && s.network.head.is_none()),
);

const MORE_STEPS_OR_LEARNED: When = when("with `encoding.steps` above 1 or `neuron.model` `plif`", |s| {
    s.encoding.steps > 1 || s.neuron.model == NeuronModel::Plif
});

fn is_cut(spec: &RunSpec) -> bool {
    // Every preset has several blocks.
    spec.network.block.len() != 1
}

fn several_blocks(spec: &RunSpec) -> bool {
    is_cut(spec) && !spec.run.end_to_end
}

fn convolves(spec: &RunSpec) -> bool {
    spec.network.block.is_empty()
        || spec.network.block.iter().flat_map(|block| &block.layers).any(LayerSpec::is_normalised)
}

fn judges_inputs(spec: &RunSpec) -> bool {
    !spec.hard_inputs.is_on() || !matches!(spec.detector.policy, DetectorPolicy::Top1 | DetectorPolicy::Mass)
}

fn one_place(spec: &RunSpec) -> bool {
    spec.data.dir.is_none() || spec.data.name.is_none()
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn not_negative(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::preset::PRESETS;

    #[test]
    fn presets_are_cut_and_convolve() {
        for preset in PRESETS {
            let (blocks, _) = (preset.build)(preset.width);
            let layers = blocks.iter().flat_map(|block| &block.layers);
            assert!(
                blocks.len() > 1 && layers.into_iter().any(|layer| matches!(layer, LayerSpec::Conv(_))),
                "{}",
                preset.name
            );
        }
    }

    #[test]
    fn a_path_has_one_row() {
        for (index, field) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..index].iter().all(|before| before.path != field.path), "{}", field.path);
        }
    }
}
