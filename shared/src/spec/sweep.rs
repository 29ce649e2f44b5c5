//! Sweeps: one base spec and a grid over its fields, each point of which is a run.
//!
//! ```toml
//! [sweep]
//! name = "rates"                       # optional
//! "train.learning_rate" = [0.05, 0.1]
//! "hard_classes.threshold" = [0.6, 0.7]
//! ```

use super::field::Reach;
use super::parse::{Override, ParseError};
use super::written::{Given, Written, read};
use super::{RunSpec, check};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Runs of a sweep unless the user allows more.
pub const DEFAULT_MAX_RUNS: usize = 64;

/// A sweep that cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SweepError {
    /// The base spec, or a point of the grid, cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A field without a list of values.
    #[error("`sweep.{key}`: {problem}")]
    Field {
        /// The field.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A point of the grid cannot work.
    #[error("the run {name} of the sweep cannot work: {error}")]
    Point {
        /// Name of the run.
        name: String,
        /// Why.
        error: check::CheckError,
    },
    /// A field that no point of the grid reads.
    #[error("in all runs of the sweep {0}")]
    Unread(check::CheckError),
    /// No field is swept.
    #[error("the section [sweep] names no field; give one such as \"train.learning_rate\" = [0.05, 0.1]")]
    Empty,
    /// Too many runs.
    #[error("the sweep has {runs} runs, more than {limit}; take values away, or allow more with --max-runs {runs}")]
    TooMany {
        /// Points of the grid.
        runs: usize,
        /// How many may be.
        limit: usize,
    },
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its values by field, as TOML.
    pub values: BTreeMap<String, String>,
    /// Its spec; `run.name` is the sweep's name, a slash, and the values.
    pub spec: RunSpec,
}

/// All runs of a sweep, each different from the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Its name.
    pub name: String,
    /// Its runs, the first field's values changing slowest.
    pub points: Vec<Point>,
}

/// Whether a text is a sweep: it has a section `[sweep]`.
pub fn is_sweep(text: &str) -> bool {
    toml::from_str::<Table>(text).is_ok_and(|table| table.contains_key("sweep"))
}

/// Whether a run's name is one of a sweep's.
pub fn is_of(sweep: &str, run_name: &str) -> bool {
    run_name.strip_prefix(sweep).is_some_and(|rest| rest.starts_with('/'))
}

/// The sweep that a run's name says it is of, with its values by short field name; `None` for a name of another form.
pub fn parts(run_name: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let (sweep, words) = run_name.split_once('/')?;
    let values: Option<BTreeMap<&str, &str>> = words.split(',').map(|word| word.split_once('=')).collect();
    values.filter(|values| !sweep.is_empty() && values.keys().all(|key| !key.is_empty())).map(|values| (sweep, values))
}

/// Reads a sweep: the base spec with `overrides`, and its grid. Without a name of its own it has the base spec's, else
/// `fallback`.
///
/// # Errors
/// When the grid is empty or too large, or one of its points is no spec that can work.
pub fn parse_sweep(text: &str, overrides: &[Override], fallback: &str, limit: usize) -> Result<Sweep, SweepError> {
    let mut base: Table = toml::from_str(text).map_err(|error| ParseError::Syntax(error.to_string()))?;
    let mut axes = BTreeMap::new();
    let Some(Value::Table(mut table)) = base.remove("sweep") else { return Err(SweepError::Empty) };
    let name = table.remove("name").map(|value| named(&value)).transpose()?;
    flatten("", table, &mut axes)?;
    if axes.is_empty() {
        return Err(SweepError::Empty);
    }
    if let Some(change) = overrides.iter().find(|change| axes.contains_key(&change.path)) {
        return Err(SweepError::Field { key: change.path.clone(), problem: "it is swept; --set cannot set it too" });
    }
    let runs = axes.values().fold(1_usize, |runs, values| runs.saturating_mul(values.len()));
    if runs > limit {
        return Err(SweepError::TooMany { runs, limit });
    }
    let text = base.to_string();
    let own = read(&text, overrides)?.spec.run.name;
    let name = name.or(own).unwrap_or_else(|| fallback.to_owned());
    let (mut points, mut written): (Vec<Point>, _) = (Vec::new(), Written::default());
    for values in grid(&axes) {
        // All points write the same fields.
        let point;
        (point, written) = self::point(&text, overrides, &name, &axes, &values)?;
        if !points.iter().any(|known| same(&known.spec, &point.spec)) {
            points.push(point);
        }
    }
    written.check(points.iter().map(|point| &point.spec)).map_err(SweepError::Unread)?;
    Ok(Sweep { name, points })
}

fn named(value: &Value) -> Result<String, SweepError> {
    let plain = |name: &&str| !name.is_empty() && !name.contains('/');
    let name = value.as_str().filter(plain).map(str::to_owned);
    name.ok_or(SweepError::Field { key: "name".into(), problem: "expected a text without slashes" })
}

/// Fields with their values, whether written as `"train.batch"`, `train.batch` or `[sweep.train] batch`.
fn flatten(prefix: &str, table: Table, axes: &mut BTreeMap<String, Vec<Value>>) -> Result<(), SweepError> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&path, inner, axes)?,
            _ if path == "run.name" => {
                return Err(SweepError::Field { key: path, problem: "runs of a sweep are named by their values" });
            }
            Value::Array(values) if !values.is_empty() => drop(axes.insert(path, values)),
            _ => {
                return Err(SweepError::Field { key: path, problem: "expected a list of values, such as [0.05, 0.1]" });
            }
        }
    }
    Ok(())
}

/// The cross product, the first field slowest.
fn grid(axes: &BTreeMap<String, Vec<Value>>) -> Vec<Vec<&Value>> {
    let mut points: Vec<Vec<&Value>> = vec![Vec::new()];
    for values in axes.values() {
        points = points
            .iter()
            .flat_map(|point| values.iter().map(move |value| [point.as_slice(), &[value]].concat()))
            .collect();
    }
    points
}

fn point(
    text: &str,
    overrides: &[Override],
    sweep: &str,
    axes: &BTreeMap<String, Vec<Value>>,
    values: &[&Value],
) -> Result<(Point, Written), SweepError> {
    let set = |(path, value): (&String, &&Value)| Override { path: path.clone(), value: (*value).clone() };
    let changes: Vec<Override> = overrides.iter().cloned().chain(axes.keys().zip(values).map(set)).collect();
    let values: BTreeMap<String, String> =
        axes.keys().cloned().zip(values.iter().map(|value| value.to_string())).collect();
    let Given { mut spec, written } = read(text, &changes)?;
    let short = |path: &str| {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let alone = axes.keys().filter(|other| last(other) == last(path)).count() == 1;
        if alone { last(path) } else { path.to_owned() }
    };
    let words: Vec<String> =
        values.iter().map(|(path, value)| format!("{}={}", short(path), value.replace('"', ""))).collect();
    let name = format!("{sweep}/{}", words.join(","));
    check::check(&spec).map_err(|error| SweepError::Point { name: name.clone(), error })?;
    spec.run.name = Some(name);
    Ok((Point { values, spec }, written))
}

/// Whether two specs ask for the same, whatever they are called: fields that nothing reads make no difference.
fn same(a: &RunSpec, b: &RunSpec) -> bool {
    let asked = |spec: &RunSpec| {
        let mut spec = spec.clone();
        spec.run.name = None;
        // Where the data are stands for what they are.
        (spec.identity(Reach::Label), spec.data.dir, spec.data.name)
    };
    asked(a) == asked(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Result<Sweep, SweepError> {
        parse_sweep(text, &[], "file", 8)
    }

    #[test]
    fn a_grid_is_the_cross_product_on_the_base_spec() {
        let text = "[train]\nepochs = 3\n[sweep]\nname = \"rates\"\n\"train.learning_rate\" = [0.05, \
        0.1]\nhard_classes.threshold = [0.6, 0.7, 0.8]";
        let found = sweep(text).expect("valid");
        assert_eq!((found.name.as_str(), found.points.len()), ("rates", 6));
        let (first, last) = (&found.points[0], &found.points[5]);
        let named = last.spec.run.name.as_deref().and_then(parts).expect("made by this");
        assert_eq!(named, ("rates", BTreeMap::from([("learning_rate", "0.1"), ("threshold", "0.8")])));
        assert!(
            parts("mine").is_none() && parts("a/b").is_none() && parts("/a=1").is_none() && parts("a/=1").is_none()
        );
        assert_eq!(first.spec.run.name.as_deref(), Some("rates/threshold=0.6,learning_rate=0.05"));
        assert_eq!(
            (last.spec.train.epochs, last.spec.train.learning_rate, last.spec.hard_classes.threshold),
            (3, 0.1, 0.8)
        );
        assert!(
            is_of("rates", "rates/threshold=0.6") && !is_of("rate", "rates/threshold=0.6") && !is_of("rates", "rates")
        );
    }

    #[test]
    fn the_same_spec_comes_once_and_names_fall_back() {
        let found = sweep("[sweep]\n\"run.seed\" = [1, 2, 1]").expect("valid");
        assert_eq!((found.name.as_str(), found.points.len()), ("file", 2));
        let found = sweep("[run]\nname = \"own\"\n[sweep]\n\"data.augment\" = [[], [\"flip\"]]").expect("valid");
        assert_eq!(found.points[1].spec.run.name.as_deref(), Some("own/augment=[flip]"));
    }

    #[test]
    fn a_field_that_one_run_reads_may_be_swept_and_runs_that_do_not_read_it_are_one() {
        let text = "[sweep]\n\"hard_classes.policy\" = [\"all\", \"bottom-k\"]\n\"hard_classes.k\" = [3, 5]";
        let found = sweep(text).expect("valid");
        let names: Vec<&str> = found.points.iter().filter_map(|point| point.spec.run.name.as_deref()).collect();
        assert_eq!(names, ["file/k=3,policy=all", "file/k=3,policy=bottom-k", "file/k=5,policy=bottom-k"]);
        for text in ["[sweep]\n\"hard_classes.k\" = [3, 5]", "[hard_classes]\nk = 3\n[sweep]\n\"run.seed\" = [1, 2]"] {
            let error = sweep(text).expect_err("no run reads it").to_string();
            assert!(
                error.contains("in all runs of the sweep `hard_classes.k` is set, but nothing reads it"),
                "{error}"
            );
        }
        let places = sweep("[sweep]\n\"data.dir\" = [\"a\", \"b\"]").expect("valid");
        assert_eq!(places.points.len(), 2, "places may hold different data");
    }

    #[test]
    fn what_cannot_be_swept_is_said() {
        for (text, said) in [
            ("[sweep]\nname = \"x\"", "names no field"),
            ("[sweep]\n\"train.epochs\" = 3", "expected a list"),
            ("[sweep]\n\"train.epochs\" = []", "expected a list"),
            ("[sweep]\n\"train.epoch\" = [3]", "did you mean `train.epochs`"),
            ("[sweep]\n\"train.epochs\" = [3, 0]", "epochs=0 of the sweep cannot work"),
            ("[sweep]\n\"train.epochs\" = [\"x\"]", "`train.epochs`"),
            ("[sweep]\n\"run.name\" = [\"x\"]", "named by their values"),
            ("[sweep]\n\"run.seed\" = [1,2,3,4,5,6,7,8,9]", "--max-runs 9"),
            ("[sweep]\nname = \"a/b\"\n\"run.seed\" = [1]", "without slashes"),
        ] {
            let error = sweep(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let set = Override::parse("run.seed=4").expect("valid");
        assert!(parse_sweep("[sweep]\n\"run.seed\" = [1]", &[set], "f", 8).is_err());
    }
}
