//! One block of a run: its rounds, its validation, its detector, its cached spikes.

use super::round::{Part, Round};
use bloctrain_shared::Digest;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::ObjectRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Checkpoints that are kept behind the last one, to fall back to.
const KEPT: usize = 2;

/// The result of a detect stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detected {
    /// The detector's parameters; absent for policies that learn nothing.
    pub object: Option<ObjectRef>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Classes that it tells apart.
    pub classes: LabelMap,
    /// When its classes were decided, Unix milliseconds; 0 in states of before this was kept.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub begun_ms: u64,
    /// Committed rounds, in order.
    pub rounds: Vec<Round>,
    /// Parts of the present round by replica.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<u32, Part>,
    /// Index of the round whose weights are final.
    pub frozen: Option<usize>,
    /// Digest of final weights that were lost and are being made again.
    pub lost_weights: Option<Digest>,
    /// Confusion matrices by validation shard.
    pub confusions: BTreeMap<u32, Confusion>,
    /// The complete validation.
    pub confusion: Option<Confusion>,
    /// Classes that stayed hard, once decided.
    pub hard: Option<LabelMap>,
    /// How sure the block is of its training samples, by shard, until hard inputs are selected.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<u32, ObjectRef>,
    /// The training samples of the next block, where hard inputs are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<ObjectRef>,
    /// Digest of a selection that was lost and is being made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_selection: Option<Digest>,
    /// The detector, once its stage is done.
    pub detector: Option<Detected>,
    /// Cached shards by part of the export stage. They are stored in rows of their own.
    #[serde(default, skip_serializing)]
    pub exports: BTreeMap<u32, export::Output>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_unknown(begun_ms: &u64) -> bool {
    *begun_ms == 0
}

impl Block {
    /// A block whose training may begin from a time on.
    pub fn new(classes: LabelMap, begun_ms: u64) -> Self {
        Self {
            classes,
            begun_ms,
            rounds: Vec::new(),
            parts: BTreeMap::new(),
            frozen: None,
            lost_weights: None,
            confusions: BTreeMap::new(),
            confusion: None,
            hard: None,
            scores: BTreeMap::new(),
            selection: None,
            lost_selection: None,
            detector: None,
            exports: BTreeMap::new(),
        }
    }

    /// The final weights.
    pub fn weights(&self) -> Option<&ObjectRef> {
        self.frozen.and_then(|round| self.rounds.get(round)).map(|round| &round.checkpoint.weights)
    }

    /// Epochs that are done.
    pub fn epochs(&self) -> u32 {
        self.rounds.last().map_or(0, |round| round.metrics.epochs)
    }

    /// Adds a round; freezes the block when training is over. Returns keys of checkpoints that nothing needs any more.
    pub(super) fn add_round(&mut self, round: Round, finished: bool, patience: u32) -> Vec<String> {
        self.rounds.push(round);
        let last = self.rounds.len() - 1;
        let best = if patience > 0 { self.best_round() } else { last };
        let epochs_since_best = self.epochs() - self.rounds[best].metrics.epochs;
        if finished || (patience > 0 && epochs_since_best >= patience) {
            self.frozen = Some(best);
        }
        let needed = |index: usize| index == best || index + KEPT >= last || (index < best && index + KEPT >= best);
        let mut unneeded = Vec::new();
        for (index, round) in self.rounds.iter_mut().enumerate() {
            if round.kept && !needed(index) {
                round.kept = false;
                unneeded.extend(round.objects().map(|object| object.key.clone()));
            }
        }
        self.unnamed(unneeded)
    }

    /// The first round of best validation accuracy whose weights are there: where a better one was lost and came out
    /// worse, those of rounds between are gone. A round that was handed back has no accuracy, which is less than any.
    fn best_round(&self) -> usize {
        let accuracy = |index: usize| self.rounds[index].metrics.validation_accuracy;
        let kept = (0..self.rounds.len()).filter(|&index| self.rounds[index].kept);
        kept.reduce(|best, index| if accuracy(index) > accuracy(best) { index } else { best }).unwrap_or_default()
    }

    /// Whether weights that were made again differ from the lost ones. Asked once, when the block freezes.
    pub(super) fn froze_differently(&mut self) -> bool {
        let lost = self.lost_weights.take();
        lost.is_some_and(|lost| self.weights().is_some_and(|weights| weights.digest != lost))
    }

    /// Goes back to before a round that was lost, and says so.
    pub(super) fn lose_round(&mut self, index: usize) -> String {
        if let Some(weights) = self.weights() {
            self.lost_weights = Some(weights.digest);
        }
        self.frozen = None;
        self.parts.clear();
        self.rounds.truncate(index);
        while self.rounds.last().is_some_and(|round| !round.kept) {
            self.rounds.pop();
        }
        match self.rounds.len() {
            0 => "training starts again".into(),
            round => format!("training goes on from the checkpoint before, round {round}"),
        }
    }

    /// Stored objects of rounds and parts that training may still go on from.
    pub fn resumable(&self) -> impl Iterator<Item = &ObjectRef> {
        let kept = self.rounds.iter().filter(|round| round.kept).flat_map(Round::objects);
        kept.chain(self.parts.values().flat_map(|part| [&part.checkpoint.weights, &part.checkpoint.optimizer]))
    }

    /// Those of some keys that no round and no part names: objects are named by their content, so two may share one.
    pub(super) fn unnamed(&self, mut keys: Vec<String>) -> Vec<String> {
        keys.retain(|key| self.resumable().all(|object| object.key != *key));
        keys
    }
}
