//! Which tasks of a run can be worked on now. Derived from the state every time, so nothing can be forgotten or left
//! over.

use super::durable::Run;
use super::open::Open;
use super::stage::{self, Scope};
use bloctrain_shared::task::{Stage, Task, TaskId};

/// Stages of a block or a network in order of preference. It has as many as there are: shards are exported before the
/// detector is trained, because the next block waits for them.
const PREFERENCE: [Stage; Stage::ALL.len()] = [
    Stage::Train,
    Stage::Merge,
    Stage::Validate,
    Stage::Score,
    Stage::Select,
    Stage::Export,
    Stage::Detect,
    Stage::Evaluate,
    Stage::Finish,
];

impl Run {
    /// Every task of a run that has not ended whose inputs are committed and whose output is not, in order
    /// of preference.
    pub fn open_tasks(&self) -> Vec<Task> {
        self.wanted_tasks(|_| true)
    }

    /// The open tasks that are wanted, in order of preference. Makes no other ones.
    pub fn wanted_tasks(&self, mut wanted: impl FnMut(TaskId) -> bool) -> Vec<Task> {
        self.open(&mut wanted, usize::MAX)
    }

    /// The first open task that is wanted. Makes no other one, and looks no further.
    pub fn open_task(&self, mut wanted: impl FnMut(TaskId) -> bool) -> Option<Task> {
        self.open(&mut wanted, 1).pop()
    }

    fn open(&self, wanted: &mut dyn FnMut(TaskId) -> bool, most: usize) -> Vec<Task> {
        if !self.is_live() {
            return Vec::new();
        }
        let mut open = Open::new(wanted, most);
        for scope in Scope::all(self) {
            for stage in PREFERENCE {
                stage::of(stage).open(self, scope, &mut open);
            }
        }
        open.tasks()
    }

    /// Whether a task's output is already there.
    pub fn is_committed(&self, task: TaskId) -> bool {
        stage::of(task.stage).is_committed(self, task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_stage_has_its_place() {
        assert_eq!(BTreeSet::from(PREFERENCE), BTreeSet::from(Stage::ALL));
    }
}
