//! What a user wrote, beside the specification that it became: a field that is written and that nothing reads is
//! refused.

use super::RunSpec;
use super::check::{CheckError, check};
use super::field::{FIELDS, Field, is_within};
use super::parse::{Override, ParseError, parse, with_keys};
use super::preset;
use std::collections::BTreeSet;

/// The fields that stood in a file or after `--set`, as dotted paths, even where the value is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written(BTreeSet<String>);

/// A specification as it was given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given {
    /// With defaults filled in.
    pub spec: RunSpec,
    /// What stood there.
    pub written: Written,
}

impl Written {
    /// Fields by their paths.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        Self(paths.into_iter().collect())
    }

    /// The same without what a command wrote by itself.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path);
        self
    }

    fn has(&self, field: &Field) -> bool {
        self.0.iter().any(|written| is_within(field.path, written))
    }

    /// Whether a field, or a part of it, was written.
    fn touches(&self, path: &str) -> bool {
        self.0.iter().any(|written| is_within(written, path))
    }

    /// Whether all that was written counts and is right in `spec` as much as it does in `plain`: `[hard_classes]` says
    /// nothing where a recipe has hard inputs.
    fn agrees(&self, plain: &RunSpec, spec: &RunSpec) -> bool {
        let silenced = |field: &Field| self.has(field) && field.is_read(plain) && !field.is_read(spec);
        !FIELDS.iter().any(silenced) && (check(spec).is_ok() || check(plain).is_err())
    }

    /// Refuses fields that none of these specifications reads: one, or all that a sweep makes of what was written.
    ///
    /// # Errors
    /// Names the first such field, and what would make it count.
    pub fn check<'a>(&self, specs: impl IntoIterator<Item = &'a RunSpec> + Clone) -> Result<(), CheckError> {
        let is_read = |field: &Field| specs.clone().into_iter().any(|spec| field.is_read(spec));
        let Some(field) = FIELDS.iter().find(|field| self.has(field) && !is_read(field)) else { return Ok(()) };
        Err(CheckError::Unread { key: field.path, when: field.when() })
    }
}

/// Reads a spec as [`parse`] does, and keeps what was written. Where its [preset] trains best with something and that
/// was not written, it has that, unless it would make something that was written count for nothing.
///
/// # Errors
/// Names the key that is unknown (with the nearest known one) or has a wrong value.
pub fn read(text: &str, overrides: &[Override]) -> Result<Given, ParseError> {
    let (spec, keys) = with_keys(text, overrides)?;
    let written = Written::new(keys);
    let Some(preset) = preset::of(&spec.network) else { return Ok(Given { spec, written }) };
    let mut given = Given { spec, written };
    let mut settings = overrides.to_vec();
    for chain in preset.recipe(given.spec.run.end_to_end) {
        for setting in *chain {
            let setting = Override::parse(setting)?;
            if given.written.touches(&setting.path) {
                let is_off = given.spec.value(&setting.path) == RunSpec::default().value(&setting.path);
                if is_off { break } else { continue }
            }
            settings.push(setting);
            let spec = parse(text, &settings)?;
            if !given.written.agrees(&given.spec, &spec) {
                settings.pop();
                break;
            }
            given.spec = spec;
        }
    }
    Ok(given)
}

impl Given {
    /// Refuses a written field that nothing reads.
    ///
    /// # Errors
    /// Names the field, and what would make it count.
    pub fn check_read(&self) -> Result<(), CheckError> {
        self.written.check([&self.spec])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{DetectorPolicy, HeadSpec};

    fn given(text: &str, sets: &[&str]) -> Given {
        let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).expect("a pair")).collect();
        read(text, &sets).expect("valid")
    }

    const ONE_BLOCK: &str = "[[network.block]]\nlayers = [{ type = \"conv\", channels = 4 }]\n";
    const NO_CONVOLUTION: &str = "[[network.block]]\nlayers = [{ type = \"linear\", features = 4 }]\n";

    /// What is written, where nothing reads it, and what else makes it count. Every field with a condition is here.
    const CASES: &[(&str, &str, &[&str])] = &[
        ("[data]\naugment = [\"flip\"]", "data.cutout_size=0.5", &["data.augment=[\"cutout\"]"]),
        ("", "data.views=4", &["data.augment=[\"flip\"]"]),
        ("", "network.preset=\"small\"", &[]),
        ("", "network.width=8", &[]),
        (NO_CONVOLUTION, "network.norm=\"td\"", &["network.block=[{ layers = [{ type = \"conv\", channels = 4 }] }]"]),
        ("[run]\nend_to_end = true", "network.classifier.pool=2", &["run.end_to_end=false"]),
        ("[run]\nend_to_end = true", "network.classifier.hidden=[8]", &["run.end_to_end=false"]),
        (ONE_BLOCK, "network.auxiliary.kind=\"conv\"", &["network.block=[]"]),
        ("", "network.auxiliary.depth=2", &["network.auxiliary.kind=\"conv\""]),
        ("", "network.auxiliary.exit_gradient=0.5", &["network.auxiliary.kind=\"conv\""]),
        ("", "neuron.leak=0.5", &["neuron.model=\"plif\"", "encoding.steps=1"]),
        ("[encoding]\nsteps = 1", "neuron.reset=\"zero\"", &["encoding.steps=2"]),
        ("[encoding]\nsteps = 1", "neuron.detach_reset=false", &["encoding.steps=2"]),
        ("[encoding]\nsteps = 1", "train.start_steps=1", &["encoding.steps=2"]),
        ("[train]\nepochs = 1", "train.schedule=\"cosine\"", &["train.warmup_epochs=0"]),
        (ONE_BLOCK, "train.later_fraction=0.5", &["network.block=[]"]),
        ("", "train.recount=512", &[]),
        ("[train]\nreplicas = 2", "train.ema=0.9", &["train.replicas=1"]),
        ("", "train.momentum=0.9", &["train.optimizer=\"sgd\""]),
        ("", "train.outer_learning_rate=0.7", &["train.replicas=2"]),
        ("", "train.outer_momentum=0.8", &["train.replicas=2"]),
        (ONE_BLOCK, "hard_classes.policy=\"threshold\"", &["network.block=[]"]),
        ("[hard_classes]\npolicy = \"all\"", "hard_classes.threshold=0.93", &["hard_classes.policy=\"threshold\""]),
        ("", "hard_classes.k=5", &["hard_classes.policy=\"bottom-k\""]),
        ("", "hard_classes.fraction=0.7", &["hard_classes.policy=\"bottom-fraction\""]),
        (ONE_BLOCK, "hard_inputs.fraction=0.6", &["network.block=[]"]),
        ("[network]\npreset = \"vgg16\"", "hard_inputs.floor=0.1", &["hard_inputs.fraction=0.6"]),
        (ONE_BLOCK, "detector.policy=\"top1\"", &["network.block=[]"]),
        ("[detector]\npolicy = \"top1\"", "detector.epochs=8", &["detector.policy=\"learned\""]),
        ("[run]\nend_to_end = true", "exit.combine=\"last\"", &["run.end_to_end=false"]),
        ("[exit]\ncompute_budget = 0.5", "exit.max_accuracy_drop=0.0", &[]),
        (ONE_BLOCK, "exit.compute_budget=0.5", &["network.block=[]"]),
        (ONE_BLOCK, "exit.min_share=0.1", &["network.block=[]"]),
        (ONE_BLOCK, "run.end_to_end=false", &["network.block=[]"]),
    ];

    #[test]
    fn what_nothing_reads_is_refused_by_name_and_says_what_would_make_it_count() {
        for (text, set, cure) in CASES {
            let path = set.split('=').next().expect("a path");
            let unread = match path {
                "network.preset" | "network.width" => given(ONE_BLOCK, &[set]),
                "neuron.leak" => given(text, &[set, "neuron.model=\"if\""]),
                "train.recount" => given(text, &[set, "network.norm=\"none\""]),
                _ => given(text, &[set]),
            };
            let error = unread.check_read().expect_err(set).to_string();
            let first = Field::of(path).expect("a field").unmet(&unread.spec).expect("a condition").text;
            assert!(error.contains(&format!("`{path}`")) && error.contains(first), "{error}");
            let (text, cured) = match path {
                "exit.max_accuracy_drop" => ("", given("", &[set])),
                _ => (*text, given(text, &[&[*set], *cure].concat())),
            };
            assert_eq!(cured.check_read(), Ok(()), "{text} {set} {cure:?}");
        }
        let conditional = FIELDS.iter().filter(|field| !field.counts.is_empty());
        let covered = |field: &Field| CASES.iter().any(|(_, set, _)| set.starts_with(&format!("{}=", field.path)));
        let missing: Vec<&str> = conditional.filter(|field| !covered(field)).map(|field| field.path).collect();
        assert!(missing.is_empty(), "no case for {missing:?}");
    }

    #[test]
    fn written_means_written_even_as_a_table_or_at_the_default() {
        assert_eq!(Written::default().check([&RunSpec::default()]), Ok(()), "defaults that nobody wrote");
        let table = given("[run]\nend_to_end = true\n[network]\nclassifier = { pool = 4 }", &[]);
        assert!(table.check_read().expect_err("unread").to_string().contains("network.classifier.pool"));
        let both = given("[hard_inputs]\nfraction = 0.6\n[hard_classes]\npolicy = \"all\"", &[]);
        let refused = both.check_read().expect_err("one or the other").to_string();
        assert!(
            refused.contains("`hard_classes.policy`") && refused.contains("without `hard_inputs.fraction`"),
            "{refused}"
        );
        let whole = given("[run]\nend_to_end = true\n[hard_classes]\npolicy = \"all\"", &[]);
        assert!(whole.check_read().expect_err("unread").to_string().contains("hard_classes.policy"));
    }

    #[test]
    fn a_preset_s_blocks_have_its_learning_rate_unless_another_is_written() {
        let rate = |text: &str, sets: &[&str]| given(text, sets).spec.train.learning_rate;
        let plain = RunSpec::default().train.learning_rate;
        for preset in preset::PRESETS {
            let name = format!("network.preset={}", preset.name);
            assert_eq!(rate("", &[&name]) == plain, preset.blocks.is_empty(), "{}", preset.name);
            assert_eq!(rate("", &[&name, "run.end_to_end=true"]), plain, "a deeper network");
            assert_eq!(rate("[train]\nlearning_rate = 0.25", &[&name]), 0.25);
        }
        assert_eq!(rate("", &[]), 0.032, "`small`");
        assert_eq!(rate("train = { learning_rate = 4e-3 }", &[]), plain);
        assert_eq!(rate(ONE_BLOCK, &[]), plain);
    }

    #[test]
    fn a_preset_s_head_and_neurons_are_there_unless_others_are_written() {
        let plain = Some(HeadSpec { pool: 4, hidden: Vec::new() });
        let has = |sets: &[&str]| {
            let spec = given("", sets).spec;
            (spec.network.head, spec.neuron.threshold, spec.neuron.leak)
        };
        assert_eq!(has(&["network.preset=resnet9"]), (plain.clone(), 2.0, 0.75));
        assert_eq!(has(&["network.preset=resnet11", "run.end_to_end=true"]), (plain, 2.0, 0.75));
        let written = ["network.preset=resnet9", "network.head.hidden=[64]", "neuron.threshold=1.0", "neuron.leak=0.5"];
        assert_eq!(has(&written), (Some(HeadSpec { pool: 4, hidden: vec![64] }), 1.0, 0.5));
        assert_eq!(has(&["network.preset=vgg16"]), (None, 1.0, 0.5), "as it is built");
        assert_eq!(given(ONE_BLOCK, &[]).spec.network.head, None);
        let width = |sets: &[&str]| given("", sets).spec.neuron.surrogate_width;
        assert_eq!(width(&["network.preset=resnet9"]), 1.0, "with the next block behind each");
        assert_eq!(width(&["network.preset=resnet9", "network.auxiliary.kind=conv"]), 1.0);
        assert_eq!(width(&["network.preset=resnet9", "network.auxiliary.kind=none"]), 2.0, "what it rested on is off");
        assert_eq!(width(&["network.preset=resnet11"]), 1.0);
        assert_eq!(width(&["network.preset=resnet11", "network.auxiliary.kind=none"]), 2.0);
        assert_eq!(width(&["network.preset=resnet9", "run.end_to_end=true"]), 1.0);
        assert_eq!(width(&["network.preset=resnet9", "run.end_to_end=true", "neuron.surrogate_width=2"]), 2.0);
        let rate = |sets: &[&str]| given("network.preset = \"resnet9\"", sets).spec.train.learning_rate;
        assert_eq!(rate(&[]), 0.008, "of two links of the chain the later one");
        assert_eq!(rate(&["network.auxiliary.kind=none"]), 0.016, "which does not reach so far");
        assert_eq!(rate(&["train.learning_rate=0.004"]), 0.004);
    }

    #[test]
    fn what_a_preset_has_gives_way_to_what_is_written() {
        let has = |text: &str, sets: &[&str]| {
            let given = given(text, sets);
            assert_eq!(given.check_read(), Ok(()), "{text} {sets:?}");
            (given.spec.hard_inputs.fraction, given.spec.detector.policy)
        };
        let own = Some(0.5);
        assert_eq!(has("", &[]), (own, DetectorPolicy::Confidence));
        assert_eq!(has("", &["detector.policy=entropy"]), (own, DetectorPolicy::Entropy));
        assert_eq!(has("", &["detector.policy=learned", "detector.epochs=2"]), (own, DetectorPolicy::Learned));
        assert_eq!(has("", &["hard_inputs.fraction=0.6"]), (Some(0.6), DetectorPolicy::Confidence));
        // Hard classes instead, and what rests on hard inputs goes with them.
        assert_eq!(has("[hard_classes]\npolicy = \"all\"", &[]), (None, DetectorPolicy::Learned));
        assert_eq!(has("", &["hard_classes.threshold=0.9"]), (None, DetectorPolicy::Learned));
        assert_eq!(has("", &["detector.policy=mass"]), (None, DetectorPolicy::Mass), "not with hard inputs");
        assert_eq!(has("", &["detector.epochs=2"]), (own, DetectorPolicy::Learned), "which no other policy reads");
        assert_eq!(has("", &["run.end_to_end=true"]), (None, DetectorPolicy::Learned));
        // What nothing reads is refused as without a recipe.
        let unread = given("", &["hard_classes.policy=all", "hard_classes.k=5"]);
        assert!(unread.check_read().expect_err("unread").to_string().contains("`hard_classes.k`"));
        let wrong = given("", &["hard_classes.policy=all", "train.epochs=0"]);
        assert_eq!((wrong.spec.hard_inputs.fraction, check(&wrong.spec).is_err()), (None, true));
    }

    #[test]
    fn a_recipe_written_out_is_the_same() {
        for (preset, end_to_end) in preset::PRESETS.iter().flat_map(|preset| [(preset, false), (preset, true)]) {
            let named = [format!("network.preset={}", preset.name), format!("run.end_to_end={end_to_end}")];
            let named = named.each_ref().map(String::as_str);
            let settings = [&named[..], &preset.recipe(end_to_end).concat()].concat();
            let unfilled = settings.iter().map(|set| Override::parse(set).expect("a pair")).collect::<Vec<_>>();
            assert_eq!(parse("", &unfilled).expect("valid"), given("", &named).spec, "{settings:?}");
        }
    }

    #[test]
    fn one_of_several_specs_is_enough() {
        let written = Written::new(["hard_classes.k".to_owned()]);
        let mut other = RunSpec::default();
        assert!(written.check([&RunSpec::default(), &other]).is_err());
        other.hard_classes.policy = crate::spec::HardClassPolicy::BottomK;
        assert_eq!(written.check([&RunSpec::default(), &other]), Ok(()));
    }
}
