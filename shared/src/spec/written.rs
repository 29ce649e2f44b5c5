//! What a user wrote, beside the specification that it became: a field that is written and that nothing reads is refused.

use super::RunSpec;
use super::check::CheckError;
use super::field::{FIELDS, Field};
use super::parse::{Override, ParseError, with_keys};
use super::preset::{self, Preset};
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
        let is_in = |path: &String| field.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        self.0.contains(field.path) || self.0.iter().any(is_in)
    }

    /// Fills in what a preset trains best with where nothing was written.
    fn fill(&self, spec: &mut RunSpec, preset: &Preset) {
        let recipe = if spec.run.end_to_end { preset.end_to_end } else { preset.blocks };
        self.put("train.learning_rate", &mut spec.train.learning_rate, recipe.learning_rate);
        self.put("neuron.threshold", &mut spec.neuron.threshold, recipe.threshold);
        self.put("neuron.leak", &mut spec.neuron.leak, recipe.leak);
        self.put("neuron.surrogate_width", &mut spec.neuron.surrogate_width, recipe.surrogate_width);
        spec.network.head = spec.network.head.take().or_else(|| recipe.head.map(|head| head()));
    }

    fn put<T>(&self, path: &str, field: &mut T, better: Option<T>) {
        if let Some(better) = better.filter(|_| !self.0.contains(path)) {
            *field = better;
        }
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

/// Reads a spec as [`parse`](super::parse::parse) does, with what its [preset] trains best with where that was not
/// written, and keeps what was written.
///
/// # Errors
/// Names the key that is unknown (with the nearest known one) or has a wrong value.
pub fn read(text: &str, overrides: &[Override]) -> Result<Given, ParseError> {
    let (mut spec, keys) = with_keys(text, overrides)?;
    let written = Written::new(keys);
    if let Some(preset) = preset::of(&spec.network) {
        written.fill(&mut spec, preset);
    }
    Ok(Given { spec, written })
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
    use super::super::parse::parse;
    use super::*;
    use crate::spec::HeadSpec;

    fn given(text: &str, sets: &[&str]) -> Given {
        let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).expect("a pair")).collect();
        read(text, &sets).expect("valid")
    }

    const ONE_BLOCK: &str = "[[network.block]]\nlayers = [{ type = \"conv\", channels = 4 }]\n";
    const NO_CONVOLUTION: &str = "[[network.block]]\nlayers = [{ type = \"linear\", features = 4 }]\n";

    /// What is written, where nothing reads it, and what else makes it count. Every field with a condition is here.
    const CASES: &[(&str, &str, &[&str])] = &[
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
        ("", "hard_inputs.floor=0.1", &["hard_inputs.fraction=0.6"]),
        (ONE_BLOCK, "detector.policy=\"top1\"", &["network.block=[]"]),
        ("[detector]\npolicy = \"top1\"", "detector.epochs=8", &["detector.policy=\"learned\""]),
        ("[run]\nend_to_end = true", "exit.combine=\"last\"", &["run.end_to_end=false"]),
        ("[exit]\ncompute_budget = 0.5", "exit.max_accuracy_drop=0.0", &[]),
        (ONE_BLOCK, "exit.compute_budget=0.5", &["network.block=[]"]),
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
        assert!(refused.contains("`hard_classes.policy`") && refused.contains("without `hard_inputs.fraction`"), "{refused}");
        let whole = given("[run]\nend_to_end = true\n[hard_classes]\npolicy = \"all\"", &[]);
        assert!(whole.check_read().expect_err("unread").to_string().contains("hard_classes.policy"));
    }

    #[test]
    fn a_preset_s_blocks_have_its_learning_rate_unless_another_is_written() {
        let rate = |text: &str, sets: &[&str]| given(text, sets).spec.train.learning_rate;
        let plain = RunSpec::default().train.learning_rate;
        for preset in preset::PRESETS {
            let name = format!("network.preset={}", preset.name);
            assert_eq!(rate("", &[&name]), preset.blocks.learning_rate.unwrap_or(plain));
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
        for preset in ["small", "resnet18", "vgg16"] {
            assert_eq!(has(&[&format!("network.preset={preset}")]), (None, 1.0, 0.5), "as it is built");
        }
        assert_eq!(given(ONE_BLOCK, &[]).spec.network.head, None);
        let width = |sets: &[&str]| given("", sets).spec.neuron.surrogate_width;
        assert_eq!(width(&["network.preset=resnet9"]), 2.0);
        assert_eq!(width(&["network.preset=resnet9", "run.end_to_end=true"]), 1.0);
        assert_eq!(width(&["network.preset=resnet9", "run.end_to_end=true", "neuron.surrogate_width=2"]), 2.0);
    }

    #[test]
    fn a_recipe_written_out_is_the_same() {
        for (preset, end_to_end) in preset::PRESETS.iter().flat_map(|preset| [(preset, false), (preset, true)]) {
            let settings = if end_to_end { preset.end_to_end } else { preset.blocks }.settings();
            let named = [format!("network.preset={}", preset.name), format!("run.end_to_end={end_to_end}")];
            let sets = named.iter().chain(&settings).map(|set| Override::parse(set).expect("a pair"));
            let unfilled = parse("", &sets.collect::<Vec<_>>()).expect("valid");
            assert_eq!(unfilled, given("", &named.each_ref().map(String::as_str)).spec, "{settings:?}");
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
