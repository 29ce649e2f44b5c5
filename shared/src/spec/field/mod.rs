//! One rule for everything about a field: its range, when it counts, and how far it reaches.
//!
//! [`FIELDS`] has a row for every field of the specification. The parser knows keys by it,
//! [`check`](super::check::check) refuses values by its ranges, [`written`](super::written) refuses what nothing reads,
//! [`identity`](super::identity) makes ids and keys from it, and `docs/spec.md` shows it. A test walks the types and
//! fails where a field has no row.

mod example;
mod table;

pub use example::{EXAMPLES, Example};
pub use table::FIELDS;

use super::RunSpec;

/// One field of the specification.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Dotted path, as in a file or after `--set`.
    pub path: &'static str,
    /// What its number counts; empty where it has none.
    pub unit: &'static str,
    /// The values that can work.
    pub range: Range,
    /// When anything reads it: under all of these conditions.
    pub counts: &'static [When],
    /// What it changes.
    pub reach: Reach,
}

/// Values that can work.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// In words that follow "it must".
    pub text: &'static str,
    /// Whether the specification's value is one of them.
    pub holds: fn(&RunSpec) -> bool,
}

/// A condition under which a field is read.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// In words that follow "it counts".
    pub text: &'static str,
    /// Whether it holds.
    pub holds: fn(&RunSpec) -> bool,
}

/// How far a field's value reaches; each step includes those before it. This is the rule of identity: which digests
/// hold the value where it counts and is not the default. Ids of runs hold everything from [`Label`](Self::Label) on,
/// the chains by which runs share blocks everything from [`Training`](Self::Training) on, keys of the spike cache
/// [`Spikes`](Self::Spikes) only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Where data are found: the digest of the data set stands for it.
    Place,
    /// How a run is called and treated: the run's id.
    Label,
    /// What is made of frozen blocks: the run's id. Hard classes are in chains and keys by themselves.
    Answers,
    /// The weights of a block: the run's id and its chains. Keys of the spike cache hold the weights.
    Training,
    /// The spikes that a block with given weights emits: everything.
    Spikes,
}

/// Whether a dotted path is another one, or a part of what that names.
pub fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Field {
    /// The row of a path.
    pub fn of(path: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.path == path)
    }

    /// Whether anything reads the field under this specification.
    pub fn is_read(&self, spec: &RunSpec) -> bool {
        self.unmet(spec).is_none()
    }

    /// The first condition that keeps the field from being read.
    pub fn unmet(&self, spec: &RunSpec) -> Option<&'static When> {
        self.counts.iter().find(|when| !(when.holds)(spec))
    }

    /// All conditions in words; empty where it always counts.
    pub fn when(&self) -> String {
        self.counts.iter().map(|when| when.text).collect::<Vec<_>>().join(", ")
    }
}
