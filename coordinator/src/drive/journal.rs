//! What happened, for people: the last lines of every run's log. In memory only; nothing is decided from it.

use crate::schedule::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines kept of a run.
const LINES: usize = 1_000;

/// Runs whose lines are kept: those that were written to last.
const RUNS: usize = 64;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the run's log, from 0.
    pub number: u64,
    /// Its number among the lines of all runs, from 1.
    pub sequence: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub text: String,
}

#[derive(Debug, Default)]
struct Logs {
    /// Lines written so far.
    written: u64,
    /// By run, with the time of the last line.
    runs: BTreeMap<String, (u64, Lines)>,
}

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    kept: VecDeque<Line>,
}

/// The logs of all runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    logs: Arc<Mutex<Logs>>,
}

impl Journal {
    /// Writes a line, here and to the process's own log.
    pub fn write(&self, at_ms: u64, entry: &Entry) {
        let Entry { run, task, worker, attempt, text } = entry;
        let (block, stage) = (task.map(|task| task.block), task.map(|task| task.stage.name()));
        let part = task.map(|task| task.part);
        let replica = task.map(|task| task.replica).filter(|replica| *replica > 0);
        tracing::info!(
            run,
            block,
            stage,
            round = part,
            replica,
            task = task.map(tracing::field::display),
            attempt,
            worker,
            "{text}"
        );
        let place = [task.map(|task| task.to_string()), worker.as_ref().map(|worker| format!("on {worker}"))];
        let line = place.into_iter().flatten().chain([text.clone()]).collect::<Vec<_>>().join(" ");
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.written += 1;
        let Logs { written, runs } = &mut *logs;
        if !runs.contains_key(run) && runs.len() >= RUNS {
            let oldest = runs.iter().min_by_key(|(_, (at, _))| *at).map(|(run, _)| run.clone());
            oldest.map(|oldest| runs.remove(&oldest));
        }
        let (at, lines) = runs.entry(run.clone()).or_default();
        *at = at_ms;
        lines.kept.push_back(Line { number: lines.next, sequence: *written, at_ms, text: line });
        lines.next += 1;
        if lines.kept.len() > LINES {
            lines.kept.pop_front();
        }
    }

    /// Lines of a run from a number on.
    pub fn since(&self, run: &str, number: u64) -> Vec<Line> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = logs.runs.get(run).into_iter().flat_map(|(_, lines)| &lines.kept);
        lines.filter(|line| line.number >= number).cloned().collect()
    }

    /// The last lines of all runs that came after a sequence number, oldest first, at most so many; each with its run.
    pub fn latest(&self, after: u64, most: usize) -> Vec<(String, Line)> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = |lines: &Lines| {
            lines.kept.iter().rev().take_while(|line| line.sequence > after).take(most).cloned().collect()
        };
        let of_run = |(run, (_, lines)): (&String, &(u64, Lines))| {
            let newest: Vec<Line> = newest(lines);
            newest.into_iter().map(|line| (run.clone(), line)).collect::<Vec<_>>()
        };
        let mut found: Vec<(String, Line)> = logs.runs.iter().flat_map(of_run).collect();
        found.sort_by_key(|(_, line)| line.sequence);
        found.split_off(found.len().saturating_sub(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_and_old_runs_make_room() {
        let journal = Journal::default();
        let entry =
            |run: usize, text: usize| Entry { run: format!("r{run}"), text: text.to_string(), ..Entry::default() };
        (0..LINES + 5).for_each(|text| journal.write(1, &entry(0, text)));
        let lines = journal.since("r0", 0);
        assert_eq!((lines.len(), lines[0].number, lines[0].text.as_str()), (LINES, 5, "5"));
        assert_eq!(journal.since("r0", LINES as u64 + 4).len(), 1);
        let latest = journal.latest(0, 2);
        assert_eq!(
            latest.iter().map(|(run, line)| (run.as_str(), line.sequence)).collect::<Vec<_>>(),
            [("r0", 1004), ("r0", 1005)]
        );
        (1..=RUNS).for_each(|run| journal.write(2, &entry(run, 0)));
        let latest = journal.latest(1_005, 100);
        assert_eq!((latest.len(), latest[0].0.as_str(), latest[0].1.sequence), (RUNS, "r1", 1_006));
        assert!(journal.since("r0", 0).is_empty() && journal.since("r1", 0).len() == 1);
    }
}
