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

    /// Samples of each true class; `None` when this is no square matrix, or when its counts cannot be added up: then it came
    /// from elsewhere, and nothing else may be asked of it.
    pub fn samples(&self) -> Option<Vec<u64>> {
        let is_square = self.classes > 0 && self.classes.checked_mul(self.classes) == Some(self.counts.len());
        let sum = |row: &[u64]| row.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        if !is_square {
            return None;
        }
        let rows: Vec<u64> = self.counts.chunks(self.classes).map(sum).collect::<Option<_>>()?;
        sum(&rows).map(|_| rows)
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
        assert_eq!(confusion.samples(), Some(vec![2, 2, 0]));
    }

    #[test]
    fn matrices_that_are_none_are_seen() {
        let from = |text: &str| serde_json::from_str::<Confusion>(text).expect("its fields are there").samples();
        assert_eq!(from(r#"{"classes": 2, "counts": [1, 0, 0, 1]}"#), Some(vec![1, 1]));
        let huge = format!(r#"{{"classes": 2, "counts": [{0}, 0, 0, {0}]}}"#, u64::MAX);
        for wrong in [r#"{"classes": 2, "counts": []}"#, r#"{"classes": 0, "counts": []}"#, &huge] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
        assert_eq!(from(&format!(r#"{{"classes": {}, "counts": [1]}}"#, usize::MAX)), None);
    }
}
