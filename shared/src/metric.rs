//! Confusion matrices and what is read from them.

use crate::label::LabelMap;
use serde::{Deserialize, Serialize};

/// Counts of (true class, answered class) over a block's classes, dense labels, row = truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// An empty matrix over `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one answer. Labels outside the matrix are a programming error and panic.
    pub fn add(&mut self, truth: usize, answer: usize) {
        assert!(truth < self.classes && answer < self.classes, "label outside the confusion matrix");
        self.counts[truth * self.classes + answer] += 1;
    }

    /// Adds another matrix over the same classes; `false` (and no change) when the sizes differ.
    pub fn merge(&mut self, other: &Self) -> bool {
        let fits = self.classes == other.classes && self.counts.len() == other.counts.len();
        if fits {
            self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        }
        fits
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of counted answers.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Fraction of right answers in [0, 1]; 0 for an empty matrix.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.counts[class * self.classes + class]).sum();
        ratio(right, self.total()).unwrap_or(0.0)
    }

    /// Fraction of right answers of each class (recall) in [0, 1]; `None` for a class without samples.
    pub fn class_accuracy(&self) -> Vec<Option<f64>> {
        let row = |class: usize| &self.counts[class * self.classes..(class + 1) * self.classes];
        (0..self.classes).map(|class| ratio(row(class)[class], row(class).iter().sum())).collect()
    }

    /// Class-wise accuracy by global label.
    pub fn by_class(&self, map: &LabelMap) -> Vec<(u16, Option<f64>)> {
        map.globals().iter().copied().zip(self.class_accuracy()).collect()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_by_hand() {
        let mut confusion = Confusion::new(3);
        for (truth, answer) in [(0, 0), (0, 1), (1, 1), (1, 1)] {
            confusion.add(truth, answer);
        }
        assert_eq!(confusion.accuracy(), 0.75);
        assert_eq!(confusion.class_accuracy(), [Some(0.5), Some(1.0), None]);
        let mut twice = confusion.clone();
        assert!(twice.merge(&confusion));
        assert_eq!((twice.total(), twice.accuracy()), (8, 0.75));
        assert!(!twice.merge(&Confusion::new(2)));
    }
}
