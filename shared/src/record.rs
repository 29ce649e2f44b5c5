//! What the whole network said about every evaluated sample: the input of calibration and of every reported figure.

use crate::compute::Operations;
use crate::label::LabelMap;
use serde::{Deserialize, Serialize};

/// One block's answers to all samples of a [`Records`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockRecords {
    /// The block's classes.
    pub classes: LabelMap,
    /// Classifier probabilities over the block's classes, row-major `[samples, classes]`.
    pub probabilities: Vec<f32>,
    /// P(hard) `[samples]`; all 0 for the last block, which has no detector.
    pub hard: Vec<f32>,
    /// Synaptic operations of the block's own layers `[samples]`.
    pub body_synops: Vec<f64>,
    /// Synaptic operations of its classifier and detector `[samples]`.
    pub exit_synops: Vec<f64>,
    /// MACs of the block's own layers for one sample.
    pub body_macs: f64,
    /// MACs of its classifier and detector for one sample.
    pub exit_macs: f64,
}

impl BlockRecords {
    /// Probabilities of one sample over the block's classes.
    pub fn probabilities_of(&self, sample: usize) -> &[f32] {
        let classes = self.classes.len();
        &self.probabilities[sample * classes..(sample + 1) * classes]
    }

    /// Computation of the block's own layers for one sample.
    pub fn body(&self, sample: usize) -> Operations {
        Operations { macs: self.body_macs, synops: self.body_synops[sample] }
    }

    /// Computation of its classifier and detector for one sample.
    pub fn exit(&self, sample: usize) -> Operations {
        Operations { macs: self.exit_macs, synops: self.exit_synops[sample] }
    }

    /// Confidence of the classifier: its largest probability.
    pub fn confidence(&self, sample: usize) -> f32 {
        self.probabilities_of(sample).iter().copied().fold(0.0, f32::max)
    }
}

/// Answers of every block to some samples; each block ran on each of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Records {
    /// Index of each sample in its split of the data set.
    pub ids: Vec<u32>,
    /// True global label of each sample.
    pub labels: Vec<u16>,
    /// One entry per block, first to last.
    pub blocks: Vec<BlockRecords>,
}

/// Records that do not belong together, or not where they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("records that do not belong here: {0}")]
pub struct JoinError(&'static str);

impl Records {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether these are records of some samples by blocks of some classes, and whole: what was read from a store need
    /// not be.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check<'a>(&self, ids: &[u32], blocks: impl ExactSizeIterator<Item = &'a LabelMap>) -> Result<(), JoinError> {
        let samples = ids.len();
        if self.ids != ids || self.labels.len() != samples {
            return Err(JoinError("they are about other samples"));
        }
        if self.blocks.len() != blocks.len()
            || self.blocks.iter().zip(blocks).any(|(own, classes)| own.classes != *classes)
        {
            return Err(JoinError("their blocks know different classes"));
        }
        let is_whole = |block: &BlockRecords| {
            block.probabilities.len() == samples * block.classes.len()
                && [block.hard.len(), block.body_synops.len(), block.exit_synops.len()]
                    .iter()
                    .all(|length| *length == samples)
        };
        self.blocks.iter().all(is_whole).then_some(()).ok_or(JoinError("a block does not answer to every sample"))
    }

    /// Appends the samples of another evaluation of the same network.
    ///
    /// # Errors
    /// When the blocks or their classes differ.
    pub fn join(&mut self, other: Self) -> Result<(), JoinError> {
        if self.blocks.is_empty() && self.labels.is_empty() {
            *self = other;
            return Ok(());
        }
        if self.blocks.len() != other.blocks.len() {
            return Err(JoinError("their numbers of blocks differ"));
        }
        if self.blocks.iter().zip(&other.blocks).any(|(a, b)| a.classes != b.classes) {
            return Err(JoinError("their blocks know different classes"));
        }
        self.ids.extend(other.ids);
        self.labels.extend(other.labels);
        for (mine, theirs) in self.blocks.iter_mut().zip(other.blocks) {
            mine.probabilities.extend(theirs.probabilities);
            mine.hard.extend(theirs.hard);
            mine.body_synops.extend(theirs.body_synops);
            mine.exit_synops.extend(theirs.exit_synops);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_are_not_whole_are_seen() {
        let block = BlockRecords {
            classes: LabelMap::all(2),
            probabilities: vec![0.5; 4],
            hard: vec![0.0; 2],
            body_synops: vec![1.0; 2],
            exit_synops: vec![1.0; 2],
            body_macs: 1.0,
            exit_macs: 1.0,
        };
        let records = Records { ids: vec![4, 7], labels: vec![0, 1], blocks: vec![block] };
        let (two, three) = ([LabelMap::all(2)], [LabelMap::all(3)]);
        assert_eq!(records.check(&[4, 7], two.iter()), Ok(()));
        assert!(records.check(&[4, 8], two.iter()).is_err() && records.check(&[4, 7], three.iter()).is_err());
        assert!(records.check(&[4, 7], [].iter()).is_err());
        let mut cut = records.clone();
        cut.blocks[0].probabilities.pop();
        assert!(cut.check(&[4, 7], two.iter()).is_err());
    }
}
