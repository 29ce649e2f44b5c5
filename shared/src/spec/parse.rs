//! From TOML text and `--set` overrides to a [`RunSpec`], with errors that name the key.

use super::RunSpec;
use super::field::{FIELDS, is_within};
use serde::Deserialize;
use toml::{Table, Value};

/// One `--set key.path=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Dotted path of a field.
    pub path: String,
    /// The value as TOML; a bare word is a string.
    pub value: Value,
}

/// Fields that hold lists; after `--set` one item does without brackets.
const LISTS: [&str; 3] = ["data.augment", "network.head.hidden", "network.classifier.hidden"];

/// A specification that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not TOML at all.
    #[error("the spec is not valid TOML: {0}")]
    Syntax(String),
    /// A key that no field has.
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key's dotted path.
        key: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value of the wrong type or outside an enumeration.
    #[error("`{key}`: {problem}")]
    Value {
        /// The key's dotted path.
        key: String,
        /// What was expected.
        problem: String,
    },
    /// A `--set` without `=`.
    #[error("`--set {0}`: expected KEY=VALUE, such as train.epochs=10")]
    Override(String),
}

impl Override {
    /// Reads `a.b=value`.
    ///
    /// # Errors
    /// When there is no `=` or no key.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (path, raw) = text.split_once('=').ok_or_else(|| ParseError::Override(text.to_owned()))?;
        let path = path.trim().to_owned();
        if path.is_empty() || path.split('.').any(str::is_empty) {
            return Err(ParseError::Override(text.to_owned()));
        }
        let raw = raw.trim();
        if raw.bytes().all(|byte| byte.is_ascii_digit()) && !raw.is_empty() && raw.parse::<i64>().is_err() {
            let problem = format!("{raw} is too large; the largest integer is {}", i64::MAX);
            return Err(ParseError::Value { key: path, problem });
        }
        let value = toml::from_str::<Table>(&format!("v = {raw}"))
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(raw.to_owned()));
        // `data.augment=flip,crop` is a list without brackets.
        let value = match value {
            Value::String(text) if LISTS.contains(&path.as_str()) => {
                Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect())
            }
            Value::Integer(number) if LISTS.contains(&path.as_str()) => Value::Array(vec![Value::Integer(number)]),
            value => value,
        };
        Ok(Self { path, value })
    }
}

/// Reads a spec: defaults, then `text`, then `overrides` in order.
///
/// # Errors
/// Names the key that is unknown (with the nearest known one) or has a wrong value.
pub fn parse(text: &str, overrides: &[Override]) -> Result<RunSpec, ParseError> {
    with_keys(text, overrides).map(|(spec, _)| spec)
}

/// The same, with the paths of the keys that stood there.
pub(super) fn with_keys(text: &str, overrides: &[Override]) -> Result<(RunSpec, Vec<String>), ParseError> {
    let mut table: Table = toml::from_str(text).map_err(|error| ParseError::Syntax(error.to_string()))?;
    for change in overrides {
        set(&mut table, &change.path, change.value.clone())?;
    }
    let keys = keys(&table)?;
    for (section, value) in &table {
        check_section(section, value)?;
    }
    let spec = RunSpec::deserialize(Value::Table(table))
        .map_err(|error| ParseError::Value { key: "spec".into(), problem: one_line(&error.to_string()) })?;
    Ok((spec, keys))
}

fn set(table: &mut Table, path: &str, value: Value) -> Result<(), ParseError> {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = table;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        let entry = at.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        at = entry
            .as_table_mut()
            .ok_or_else(|| ParseError::UnknownKey { key: path.to_owned(), nearest: nearest(path) })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// Every field of the spec, as dotted paths.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|field| field.path)
}

fn collect(prefix: &str, value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, inner)| {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            collect(&path, inner, keys);
        }),
        _ => keys.push(prefix.to_owned()),
    }
}

/// Names that other programs have for fields.
const KNOWN_ELSEWHERE: [(&str, &str); 24] = [
    ("lr", "train.learning_rate"),
    ("learning_rate", "train.learning_rate"),
    ("wd", "train.weight_decay"),
    ("bs", "train.batch"),
    ("batch_size", "train.batch"),
    ("epochs", "train.epochs"),
    ("num_epochs", "train.epochs"),
    ("n_epochs", "train.epochs"),
    ("opt", "train.optimizer"),
    ("grad_clip", "train.gradient_clip"),
    ("amp", "train.precision"),
    ("t", "encoding.steps"),
    ("steps", "encoding.steps"),
    ("timesteps", "encoding.steps"),
    ("time_steps", "encoding.steps"),
    ("num_steps", "encoding.steps"),
    ("tau", "neuron.leak"),
    ("beta", "neuron.leak"),
    ("decay", "neuron.leak"),
    ("v_threshold", "neuron.threshold"),
    ("v_th", "neuron.threshold"),
    ("alpha", "neuron.surrogate_width"),
    ("arch", "network.preset"),
    ("model", "network.preset"),
];

fn nearest(key: &str) -> Option<String> {
    let tail = key.rsplit('.').next().unwrap_or_default().to_lowercase();
    if let Some((_, field)) = KNOWN_ELSEWHERE.iter().find(|(name, _)| *name == tail) {
        return Some((*field).to_owned());
    }
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // A key in the wrong section is as near as a misspelt one.
    let score = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(candidate, key);
        let tail = 0.95 * strsim::normalized_damerau_levenshtein(&last(candidate), &last(key));
        whole.max(tail)
    };
    known_keys()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)))
        .map(|(_, candidate)| candidate.to_owned())
}

/// The keys that a text has, all of which fields or sections have.
fn keys(table: &Table) -> Result<Vec<String>, ParseError> {
    let mut given = Vec::new();
    collect("", &Value::Table(table.clone()), &mut given);
    let is_known = |key: &str| known_keys().any(|known| is_within(known, key));
    match given.iter().find(|key| !key.is_empty() && !is_known(key)) {
        Some(key) => Err(ParseError::UnknownKey { nearest: nearest(key), key: key.clone() }),
        None => Ok(given),
    }
}

/// Deserialises one section with one key at a time, so that an error can name its key.
fn check_section(section: &str, value: &Value) -> Result<(), ParseError> {
    let wrong = |key: String, problem: String| ParseError::Value { key, problem };
    let Value::Table(fields) = value else {
        return Err(wrong(section.to_owned(), format!("expected a section [{section}], found {}", value.type_str())));
    };
    for (key, field) in fields {
        let single =
            Table::from_iter([(section.to_owned(), Value::Table(Table::from_iter([(key.clone(), field.clone())])))]);
        if let Err(error) = RunSpec::deserialize(Value::Table(single)) {
            return Err(wrong(format!("{section}.{key}"), one_line(&error.to_string())));
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    let first: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("in `")).collect();
    first.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Augment, LayerSpec};

    fn with(sets: &[&str]) -> Result<RunSpec, ParseError> {
        let overrides: Result<Vec<_>, _> = sets.iter().map(|set| Override::parse(set)).collect();
        parse("", &overrides?)
    }

    #[test]
    fn an_empty_spec_is_the_default() {
        assert_eq!(parse("", &[]), Ok(RunSpec::default()));
    }

    #[test]
    fn overrides_reach_fields_of_every_type() {
        let spec = with(&[
            "train.epochs=3",
            "network.preset=resnet9",
            "data.augment=[\"flip\"]",
            "exit.compute_budget=0.5",
            "neuron.detach_reset=false",
        ])
        .expect("valid");
        assert_eq!((spec.train.epochs, spec.network.preset.as_deref()), (3, Some("resnet9")));
        assert_eq!((spec.data.augment, spec.exit.compute_budget), (vec![Augment::Flip], Some(0.5)));
        assert!(!spec.neuron.detach_reset);
    }

    #[test]
    fn every_known_key_can_be_set() {
        for key in known_keys() {
            let error = with(&[&format!("{key}={{ nonsense = 1 }}")]).expect_err("a table fits no field");
            assert!(!matches!(error, ParseError::Syntax(_)), "{key}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        for (typo, meant) in [
            ("train.epoch=1", "train.epochs"),
            ("train.lerning_rate=1", "train.learning_rate"),
            ("network.steps=2", "encoding.steps"),
            ("epochs=1", "train.epochs"),
            ("train.lr=1", "train.learning_rate"),
            ("lr=1", "train.learning_rate"),
            ("encoding.T=8", "encoding.steps"),
            ("train.bs=8", "train.batch"),
            ("neuron.tau=2.0", "neuron.leak"),
            ("neuron.v_threshold=1", "neuron.threshold"),
        ] {
            let error = with(&[typo]).expect_err("unknown").to_string();
            assert!(error.contains(meant), "{typo}: {error}");
        }
    }

    #[test]
    fn lists_of_one_do_without_brackets_and_large_seeds_are_named() {
        let spec = with(&["data.augment=flip", "network.head.hidden=64", "network.head.pool=2"]).expect("valid");
        assert_eq!(spec.data.augment, [Augment::Flip]);
        assert_eq!(spec.network.head.map(|head| head.hidden), Some(vec![64]));
        assert_eq!(with(&["data.augment=flip, crop"]).expect("valid").data.augment, [Augment::Flip, Augment::Crop]);
        let error = with(&["run.seed=9223372036854775808"]).expect_err("too large").to_string();
        assert!(error.contains("`run.seed`") && error.contains("9223372036854775807"), "{error}");
        assert_eq!(with(&["run.seed=9223372036854775807"]).expect("the largest").run.seed, i64::MAX as u64);
    }

    #[test]
    fn every_name_of_elsewhere_leads_to_a_field() {
        for (name, field) in KNOWN_ELSEWHERE {
            assert!(known_keys().any(|known| known == field), "{name}: {field}");
        }
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let error = with(&["train.epochs=many"]).expect_err("not a number").to_string();
        assert!(error.contains("`train.epochs`") && error.contains("string"), "{error}");
        let error = with(&["neuron.reset=halve"]).expect_err("not a variant").to_string();
        assert!(error.contains("`neuron.reset`") && error.contains("subtract"), "{error}");
    }

    #[test]
    fn layers_may_be_written_out() {
        let text = "[[network.block]]\nlayers = [{ type = \"conv\", channels = 8 }, { type = \"max-pool\", size = 2 }]";
        let spec = parse(text, &[]).expect("valid");
        assert_eq!(spec.network.block[0].layers[0], LayerSpec::conv(8, 3, 1));
        let error = parse("[[network.block]]\nlayers = [{ type = \"conf\", channels = 8 }]", &[])
            .expect_err("no such layer")
            .to_string();
        assert!(error.contains("conf") && error.contains("network.block"), "{error}");
    }
}
