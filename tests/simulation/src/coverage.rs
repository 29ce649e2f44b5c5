//! Which samples every round covered, and whether a chain of rounds covers each sample of each epoch once.

use bloctrain_shared::Digest;
use std::collections::BTreeMap;

/// What one round covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Weights that the round started from.
    pub(crate) before: Option<Digest>,
    /// Samples as (epoch, shard, index within shard).
    pub(crate) samples: Vec<(u32, usize, usize)>,
}

/// Rounds by the weights that they made.
#[derive(Default)]
pub(crate) struct Coverage(BTreeMap<Digest, Covered>);

impl Coverage {
    pub(crate) fn trained(&mut self, weights: Digest, covered: Covered) {
        // A replica without a batch in a round leaves the weights as they are.
        if covered.before != Some(weights) {
            self.0.insert(weights, covered);
        }
    }

    /// Replicas that started from some weights were merged: the samples of all of them count.
    pub(crate) fn merged(&mut self, weights: Digest, from: Option<Digest>, replicas: &[Digest]) -> Result<(), String> {
        let mut samples = Vec::new();
        for replica in replicas {
            let mut next = Some(*replica);
            while let Some(digest) = next.filter(|_| next != from) {
                let covered = self.0.get(&digest).ok_or("weights that no replica made are merged")?;
                samples.extend_from_slice(&covered.samples);
                next = covered.before;
            }
        }
        self.0.insert(weights, Covered { before: from, samples });
        Ok(())
    }

    /// Follows the chain that ends in some weights, after `epochs` complete epochs over shards of some sizes.
    pub(crate) fn check(&self, weights: Digest, epochs: u32, sizes: &[usize]) -> Result<(), String> {
        let total: usize = sizes.iter().sum();
        let mut starts = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for size in sizes {
            starts.push(start);
            start += size;
        }
        // The last epoch may be in the middle.
        let mut seen = vec![vec![false; total]; epochs as usize + 1];
        let mut next = Some(weights);
        while let Some(digest) = next {
            let covered = self.0.get(&digest).ok_or("weights that no round made are in the chain")?;
            for (epoch, shard, index) in &covered.samples {
                let place = starts.get(*shard).map(|start| start + index);
                let cell = place.and_then(|place| seen.get_mut(*epoch as usize)?.get_mut(place));
                let cell = cell.ok_or_else(|| format!("sample {index} of shard {shard} is not of epoch {epoch}"))?;
                if std::mem::replace(cell, true) {
                    return Err(format!("sample {index} of shard {shard} was trained on twice in epoch {epoch}"));
                }
            }
            next = covered.before;
        }
        for (epoch, seen) in seen.iter().take(epochs as usize).enumerate() {
            let skipped = seen.iter().filter(|seen| !**seen).count();
            if skipped > 0 {
                return Err(format!("{skipped} samples were skipped in epoch {epoch}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rounds: &[&[(u32, usize, usize)]]) -> (Coverage, Digest) {
        let mut coverage = Coverage::default();
        let mut before = None;
        for (number, samples) in rounds.iter().enumerate() {
            let weights = Digest::of(&[number as u8]);
            coverage.trained(weights, Covered { before, samples: samples.to_vec() });
            before = Some(weights);
        }
        (coverage, before.expect("a round"))
    }

    #[test]
    fn every_sample_counts_once() {
        let (whole, last) = chain(&[&[(0, 0, 1), (0, 1, 0)], &[(0, 0, 0)], &[(1, 1, 0)]]);
        assert_eq!(whole.check(last, 1, &[2, 1]), Ok(()));
        assert!(
            whole
                .check(last, 2, &[2, 1])
                .expect_err("epoch 1 is not over")
                .contains("2 samples were skipped in epoch 1")
        );
        let (twice, last) = chain(&[&[(0, 0, 1), (0, 1, 0)], &[(0, 0, 1)]]);
        assert!(twice.check(last, 0, &[2, 1]).expect_err("twice").contains("twice"));
    }
}
