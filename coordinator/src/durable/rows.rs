//! The state as rows: one for each run, and some for its cached shards, of which there may be many.
//!
//! A snapshot writes the rows that changed since the one before, so that neither its bytes nor the memory that it takes
//! grow with what is kept.

use super::error::StateError;
use super::json::{json, parse};
use super::table::Change;
use crate::run::durable::{Durable, Run};
use crate::run::record::Record;
use bloctrain_shared::Digest;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::{Stage, TaskId};
use bloctrain_shared::view::RunState;
use bytes::Bytes;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What all keys of rows begin with.
pub(crate) const PREFIX: &str = "row/";

/// Parts of an export stage whose shards are in one row.
const SHARDS_IN_A_ROW: u32 = 64;

/// Which row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    /// A run without its shards.
    Run(String),
    /// Shards of a block of a run: the index of the block from 0, and the first part over [`SHARDS_IN_A_ROW`].
    Shards(String, usize, u32),
}

impl Row {
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Run(run) => format!("{}run", of_run(run)),
            Self::Shards(run, block, group) => format!("{}shards/{block:06}/{group:010}", of_run(run)),
        }
        .into_bytes()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let parts: Vec<&str> = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.split('/').collect();
        match parts[..] {
            [run, "run"] => Some(Self::Run(run.to_owned())),
            [run, "shards", block, group] => {
                Some(Self::Shards(run.to_owned(), block.parse().ok()?, group.parse().ok()?))
            }
            _ => None,
        }
    }

    fn run(&self) -> &str {
        match self {
            Self::Run(run) | Self::Shards(run, ..) => run,
        }
    }
}

/// What of the rows is written, and what changed since.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Digests of the rows in the table.
    written: BTreeMap<Row, Digest>,
    /// Runs of which anything may have changed.
    runs: BTreeSet<String>,
    /// Other rows that changed.
    rows: BTreeSet<Row>,
}

/// What the keys of all rows of a run begin with.
pub(crate) fn of_run(run: &str) -> String {
    format!("{PREFIX}{run}/")
}

/// Goes on behind the shards of a run that is completed: nothing asks for them but garbage collection, and there may be
/// many.
pub(crate) fn beyond_completed(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let Row::Run(run) = Row::of_key(key)? else { return None };
    // The first key behind all that begin with the run's shards'.
    is_completed(value).then(|| format!("{}shards0", of_run(&run)).into_bytes())
}

/// Whether the row of a run says that it is completed.
fn is_completed(value: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        state: RunState,
    }
    parse::<Head>(value).is_ok_and(|head| head.state == RunState::Completed)
}

impl Rows {
    /// Takes the rows of a table into the state, which has what is not in rows. Of runs that are completed the shards
    /// may have been left out ([`beyond_completed`]), if `is_live` says so.
    ///
    /// # Errors
    /// When a row makes no sense.
    pub(crate) fn restore(
        durable: &mut Durable,
        mut found: Vec<(Bytes, Bytes)>,
        is_live: bool,
    ) -> Result<Self, StateError> {
        // Earlier formats have all runs beside the rows.
        let mut rows = Self { runs: durable.runs.keys().cloned().collect(), ..Self::default() };
        // A run comes before its shards in the order of the keys.
        found.sort();
        for (key, value) in found {
            let damaged = || StateError::Damaged(format!("there is a row {}", String::from_utf8_lossy(&key)));
            let row = Row::of_key(&key).ok_or_else(damaged)?;
            match &row {
                Row::Run(id) => {
                    let mut run: Run = parse(&value)?;
                    run.shards_gone = is_live && run.state == RunState::Completed;
                    durable.runs.insert(id.clone(), run);
                }
                Row::Shards(run, block, _) => {
                    let block =
                        durable.runs.get_mut(run).and_then(|run| run.blocks.get_mut(*block)).ok_or_else(damaged)?;
                    block.exports.extend(parse::<BTreeMap<u32, export::Output>>(&value)?);
                }
            }
            rows.written.insert(row, Digest::of(&value));
        }
        durable.runs.values_mut().for_each(Run::fill);
        Ok(rows)
    }

    /// Runs that something was noted of and that are no more: whatever rows they have are to go, those too that were
    /// not read.
    pub(crate) fn deleted(&self, durable: &Durable) -> Vec<String> {
        self.runs.iter().filter(|run| !durable.runs.contains_key(*run)).cloned().collect()
    }

    /// Takes note of what a record changes.
    pub(crate) fn note(&mut self, record: &Record) {
        match record {
            Record::Committed { run, task: TaskId { stage: Stage::Export, block, part, .. }, .. } if *block > 0 => {
                self.rows.insert(Row::Run(run.clone()));
                self.rows.insert(Row::Shards(run.clone(), *block as usize - 1, part / SHARDS_IN_A_ROW));
            }
            record => self.runs.extend(record.run().map(str::to_owned)),
        }
    }

    /// The changes that bring the table's rows to the state. They count as made: after a failed write the table takes
    /// no more.
    ///
    /// # Errors
    /// When a row cannot be written as JSON.
    pub(crate) fn changes(&mut self, durable: &Durable) -> Result<Vec<Change>, StateError> {
        let (runs, mut rows) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.rows));
        rows.extend(self.written.keys().filter(|row| runs.contains(row.run())).cloned());
        for run in &runs {
            rows.insert(Row::Run(run.clone()));
            let blocks = durable.runs.get(run).into_iter().flat_map(|run| run.blocks.iter().enumerate());
            for (index, block) in blocks {
                rows.extend(block.exports.keys().map(|part| Row::Shards(run.clone(), index, part / SHARDS_IN_A_ROW)));
            }
        }
        let mut changes = Vec::new();
        for row in rows {
            if is_settled(durable, &row) {
                continue;
            }
            match value(durable, &row)? {
                None if self.written.remove(&row).is_some() => changes.push(Change::Delete(row.key())),
                None => {}
                Some(value) => {
                    let (key, digest) = (row.key(), Digest::of(&value));
                    if self.written.insert(row, digest) != Some(digest) {
                        changes.push(Change::Put(key, value));
                    }
                }
            }
        }
        Ok(changes)
    }
}

/// Whether a row stays as it is because what it holds is kept nowhere else.
fn is_settled(durable: &Durable, row: &Row) -> bool {
    matches!(row, Row::Shards(run, ..) if durable.runs.get(run).is_some_and(|run| run.shards_gone))
}

/// What a row has to hold; nothing where there is no such run, or no such shards.
fn value(durable: &Durable, row: &Row) -> Result<Option<Vec<u8>>, StateError> {
    let Some(run) = durable.runs.get(row.run()) else { return Ok(None) };
    let Row::Shards(_, block, group) = row else { return json(run).map(Some) };
    let Some(block) = run.blocks.get(*block) else { return Ok(None) };
    let first = group * SHARDS_IN_A_ROW;
    let shards: BTreeMap<&u32, &export::Output> = block.exports.range(first..first + SHARDS_IN_A_ROW).collect();
    if shards.is_empty() { Ok(None) } else { json(&shards).map(Some) }
}
