//! What a run does with the tasks of each kind, one file each: [`Kind`] for the kind, [`Claim`] for what its tasks
//! make.
//!
//! Garbage collection, admission, losses, resets and views go through all kinds ([`Stage::ALL`]) and ask each; nobody
//! else has a list of them. Neither trait has defaults, so a kind says all of it, and the matches here name every kind:
//! a new one does not compile before they do. The other half of a kind, its work and output with the objects that they
//! name, is the file of the same name in `bloctrain_shared::stage`.

mod detect;
mod evaluate;
mod export;
mod finish;
mod merge;
mod score;
mod select;
mod train;
mod validate;

use super::block::Block;
use super::durable::Run;
use super::open::Open;
use bloctrain_shared::key;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::task::{ObjectRef, Output, Stage, TaskId};
use std::collections::BTreeMap;

/// Where in a run tasks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In a block, by its index from 0.
    Block(usize),
    /// In the whole network.
    Network,
}

impl Scope {
    /// The blocks of a run, first to last, and its network.
    pub(super) fn all(run: &Run) -> impl Iterator<Item = Self> + use<> {
        (0..run.blocks.len()).map(Self::Block).chain([Self::Network])
    }

    /// Where a task is.
    fn of(task: TaskId) -> Self {
        (task.block as usize).checked_sub(1).map_or(Self::Network, Self::Block)
    }

    /// The block, with its index from 0.
    fn block(self, run: &Run) -> Option<(usize, &Block)> {
        match self {
            Self::Block(index) => run.blocks.get(index).map(|block| (index, block)),
            Self::Network => None,
        }
    }

    /// The block, where hard inputs are selected of its samples, once it is validated.
    fn selecting(self, run: &Run) -> Option<(usize, &Block)> {
        self.block(run).filter(|(index, block)| run.selects() && block.hard.is_some() && !run.is_last(*index))
    }

    /// The block, to change it.
    fn block_mut(self, run: &mut Run) -> Option<&mut Block> {
        match self {
            Self::Block(index) => run.blocks.get_mut(index),
            Self::Network => None,
        }
    }
}

/// Takes out of the outputs of some parts what an object is gone of; whether there was any. A report may have named the
/// object of another part.
fn take_lost<T>(parts: &mut BTreeMap<u32, T>, is_lost: impl Fn(&T) -> bool) -> bool {
    let before = parts.len();
    parts.retain(|_, output| !is_lost(output));
    parts.len() < before
}

/// A kind of task.
pub(crate) trait Kind: Sync {
    /// Adds those of its tasks that can be worked on: their inputs are committed and their outputs are not.
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>);

    /// Whether the output of one of its tasks is there already.
    fn is_committed(&self, run: &Run, task: TaskId) -> bool;

    /// The stored objects that the run still needs of those that its tasks made. Whatever no kind names is garbage.
    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef>;

    /// A stored object is gone: takes back what rests on it, so that whatever made it is open again, and says so.
    /// `None` when the object is no output of the kind.
    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String>;

    /// A block's weights came out differently: forgets what its tasks made of the earlier ones.
    fn reset(&self, run: &mut Run, index: usize);

    /// How many of its tasks are done, of how many, for people; `None` where there are none to be expected.
    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)>;
}

/// What is known of a kind.
pub(crate) fn of(stage: Stage) -> &'static dyn Kind {
    match stage {
        Stage::Train => &train::Train,
        Stage::Merge => &merge::Merge,
        Stage::Validate => &validate::Validate,
        Stage::Score => &score::Score,
        Stage::Select => &select::Select,
        Stage::Detect => &detect::Detect,
        Stage::Export => &export::Export,
        Stage::Evaluate => &evaluate::Evaluate,
        Stage::Finish => &finish::Finish,
    }
}

/// What a task made, as somebody claims it.
pub(crate) trait Claim {
    /// Whether the task may name an object of this key: nobody commits what is another's.
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool;

    /// Refuses what cannot be true of the task and its run.
    fn check(&self, run: &Run, task: TaskId) -> Result<(), String>;

    /// The hard classes, where this completes what decides them.
    fn decides(&self, _run: &Run, _task: TaskId) -> Option<LabelMap> {
        None
    }

    /// Makes it part of the run, with the hard classes that were decided by it. Returns keys of objects that nothing
    /// needs any more.
    fn commit(&self, run: &mut Run, task: TaskId, hard: Option<&LabelMap>) -> Vec<String>;
}

/// An output as a claim.
pub(crate) fn claim(output: &Output) -> &dyn Claim {
    match output {
        Output::Train(output) => output,
        Output::Replica(output) => output,
        Output::Validate(output) => output,
        Output::Score(output) => output,
        Output::Select(output) => output,
        Output::Detect(output) => output,
        Output::Export(output) => output,
        Output::Evaluate(output) => output,
        Output::Finish(output) => output,
    }
}

/// All stored objects that a run needs of what its tasks made.
pub(crate) fn names(run: &Run) -> impl Iterator<Item = &ObjectRef> {
    let scopes = Scope::all(run);
    scopes.flat_map(move |scope| Stage::ALL.iter().flat_map(move |stage| of(*stage).names(run, scope)))
}

impl Run {
    /// All stored objects that it needs, as garbage collection sees it.
    pub fn names(&self) -> impl Iterator<Item = &ObjectRef> {
        names(self).chain([&self.object])
    }
}

/// Whether a key lies in the run's own folder, and in its block's for a task of a block.
fn is_own(run: &Run, task: TaskId, key: &str) -> bool {
    key::is_output_of(&run.plan.run, (task.block > 0).then_some(task.block), key)
}

/// What was made of weights that were lost holds for those that are there now, unless they differ.
pub(super) fn froze(run: &mut Run, index: usize) {
    let frozen = run.blocks.get_mut(index).filter(|block| block.frozen.is_some());
    if frozen.is_some_and(Block::froze_differently) {
        run.note(format!("block {} came out differently than before; what follows it is done again", index + 1));
        Stage::ALL.iter().for_each(|stage| of(*stage).reset(run, index));
    }
}
