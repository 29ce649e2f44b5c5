//! Open tasks as they are gathered.

use bloctrain_shared::task::{Stage, Task, TaskId};
use std::collections::BTreeMap;

/// Open tasks that are wanted, up to some number. Asked before a task is made, which may copy thousands of inputs.
pub(crate) struct Open<'a> {
    tasks: Vec<Task>,
    wanted: &'a mut dyn FnMut(TaskId) -> bool,
    most: usize,
}

impl<'a> Open<'a> {
    /// None yet, and at most so many.
    pub(super) fn new(wanted: &'a mut dyn FnMut(TaskId) -> bool, most: usize) -> Self {
        Self { tasks: Vec::new(), wanted, most }
    }

    /// What was found.
    pub(super) fn tasks(self) -> Vec<Task> {
        self.tasks
    }

    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() >= self.most
    }

    pub(super) fn wants(&mut self, id: TaskId) -> bool {
        !self.is_full() && (self.wanted)(id)
    }

    pub(super) fn push(&mut self, task: Task) {
        if !self.is_full() {
            self.tasks.push(task);
        }
    }
}

/// A place in the plan of a run that is not replicated.
pub(super) fn task_id(block: usize, stage: Stage, part: u32) -> TaskId {
    TaskId { block: u32::try_from(block).unwrap_or(u32::MAX), stage, part, replica: 0 }
}

/// Parts of a stage, from 0, that are not there yet.
pub(super) fn missing<T>(parts: u32, there: &BTreeMap<u32, T>) -> impl Iterator<Item = u32> {
    let mut there = there.keys().copied().peekable();
    (0..parts).filter(move |part| there.next_if_eq(part).is_none())
}
