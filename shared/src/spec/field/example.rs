//! For every field another value, for tests of what has to hold for every field.

/// A change of one field.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The field.
    pub path: &'static str,
    /// What makes it count, as `--set` has it.
    pub context: &'static [&'static str],
    /// Its default as TOML, if it has one.
    pub default: Option<&'static str>,
    /// Another value as TOML.
    pub other: &'static str,
}

const fn example(path: &'static str, default: &'static str, other: &'static str) -> Example {
    within(&[], path, default, other)
}

const fn optional(path: &'static str, other: &'static str) -> Example {
    Example { path, context: &[], default: None, other }
}

const fn within(
    context: &'static [&'static str],
    path: &'static str,
    default: &'static str,
    other: &'static str,
) -> Example {
    Example { path, context, default: Some(default), other }
}

/// One for every row of [`FIELDS`](super::FIELDS), in their order.
pub const EXAMPLES: &[Example] = &[
    optional("data.name", "\"fashion-mnist-mini\""),
    optional("data.dir", "\"elsewhere\""),
    optional("data.size", "32"),
    example("data.validation_fraction", "0.1", "0.2"),
    example("data.augment", "[]", "[\"flip\"]"),
    within(&["data.augment=[\"cutout\"]"], "data.cutout_size", "0.25", "0.5"),
    within(&["data.augment=[\"flip\"]"], "data.views", "4", "2"),
    example("network.preset", "\"small\"", "\"resnet9\""),
    example("network.width", "16", "8"),
    example("network.norm", "\"batch\"", "\"td\""),
    // Blocks that are written out have the classifier as their head; the preset has its own.
    within(&["network.head={ pool = 4, hidden = [64] }"], "network.block", SMALL, TWO_BLOCKS),
    // A head is one value: what is not written of it is not the preset's.
    within(&["network.head.hidden=[64]"], "network.head.pool", "4", "2"),
    within(&["network.head.pool=4"], "network.head.hidden", "[]", "[8]"),
    example("network.classifier.pool", "4", "2"),
    example("network.classifier.hidden", "[]", "[8]"),
    example("network.auxiliary.kind", "\"none\"", "\"conv\""),
    within(&["network.auxiliary.kind=\"conv\""], "network.auxiliary.depth", "1", "2"),
    within(&["network.auxiliary.kind=\"conv\""], "network.auxiliary.exit_gradient", "1.0", "0.5"),
    example("neuron.model", "\"lif\"", "\"if\""),
    example("neuron.leak", "0.5", "0.75"),
    example("neuron.threshold", "1.0", "0.8"),
    example("neuron.reset", "\"subtract\"", "\"zero\""),
    example("neuron.detach_reset", "true", "false"),
    example("neuron.surrogate", "\"atan\"", "\"triangle\""),
    example("neuron.surrogate_width", "2.0", "1.1"),
    example("encoding.kind", "\"direct\"", "\"latency\""),
    example("encoding.steps", "4", "2"),
    example("train.epochs", "15", "2"),
    example("train.later_fraction", "1.0", "0.5"),
    example("train.start_steps", "0", "1"),
    example("train.batch", "64", "32"),
    example("train.drop_last", "false", "true"),
    example("train.micro_batch", "0", "16"),
    example("train.precision", "\"auto\"", "\"f32\""),
    example("train.optimizer", "\"adamw\"", "\"sgd\""),
    example("train.learning_rate", "4e-3", "2e-3"),
    example("train.schedule", "\"cosine\"", "\"step\""),
    example("train.warmup_epochs", "1", "0"),
    within(&["train.optimizer=\"sgd\""], "train.momentum", "0.9", "0.5"),
    example("train.weight_decay", "5e-4", "0.0"),
    example("train.label_smoothing", "0.0", "0.1"),
    example("train.gradient_clip", "5.0", "1.0"),
    example("train.loss", "\"ce\"", "\"tet\""),
    example("train.patience", "0", "3"),
    example("train.recount", "0", "512"),
    example("train.ema", "0.0", "0.9"),
    example("train.replicas", "1", "2"),
    example("train.round_steps", "0", "5"),
    within(&["train.replicas=2"], "train.outer_learning_rate", "0.7", "1.0"),
    within(&["train.replicas=2"], "train.outer_momentum", "0.8", "0.0"),
    example("hard_classes.policy", "\"threshold\"", "\"all\""),
    example("hard_classes.threshold", "0.93", "0.8"),
    within(&["hard_classes.policy=\"bottom-k\""], "hard_classes.k", "5", "2"),
    within(&["hard_classes.policy=\"bottom-fraction\""], "hard_classes.fraction", "0.5", "0.7"),
    optional("hard_inputs.fraction", "0.6"),
    within(&["hard_inputs.fraction=0.6"], "hard_inputs.floor", "0.1", "0.2"),
    example("detector.policy", "\"learned\"", "\"top1\""),
    example("detector.epochs", "8", "2"),
    example("exit.combine", "\"mixture\"", "\"last\""),
    example("exit.max_accuracy_drop", "0.0", "0.01"),
    optional("exit.compute_budget", "0.5"),
    example("exit.min_share", "0.0", "0.1"),
    optional("run.name", "\"mine\""),
    example("run.seed", "1", "2"),
    example("run.priority", "1", "3"),
    example("run.end_to_end", "false", "true"),
];

/// The preset `small` written out.
const SMALL: &str = "[\
    { layers = [{ type = \"conv\", channels = 16, stride = 2 }, { type = \"conv\", channels = 16 }] }, \
    { layers = [{ type = \"conv\", channels = 32, stride = 2 }, { type = \"conv\", channels = 32, kernel = 3 }] }, \
    { layers = [{ type = \"conv\", channels = 64 }, { type = \"conv\", channels = 64, stride = 2 }] }]";

const TWO_BLOCKS: &str = "[\
    { layers = [{ type = \"conv\", channels = 4, kernel = 5, stride = 2 }, { type = \"max-pool\", size = 2 }] }, \
    { layers = [{ type = \"dropout\", p = 0.1 }, { type = \"avg-pool\", size = 2 }, \
    { type = \"residual\", channels = 8 }, { type = \"linear\", features = 8 }] }]";

#[cfg(test)]
mod tests {
    use super::super::FIELDS;
    use super::*;

    #[test]
    fn every_field_has_one() {
        let paths = |examples: &[Example]| examples.iter().map(|example| example.path).collect::<Vec<_>>();
        assert_eq!(paths(EXAMPLES), FIELDS.iter().map(|field| field.path).collect::<Vec<_>>());
    }
}
