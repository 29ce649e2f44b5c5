//! Confusion matrices and what is read from them.

use crate::label::LabelMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts of (true class, answered class) over a block's classes, dense labels, row = truth. Only counts above zero are
/// kept: of many classes most pairs never occur.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Confusion {
    classes: usize,
    /// By `truth * classes + answer`.
    counts: BTreeMap<u64, u64>,
    /// Whether it is a square matrix over a number of classes that there can be; one from elsewhere may be anything.
    is_matrix: bool,
}

/// Classes up to which a matrix is written with all its zeros.
const WRITTEN_DENSE: usize = 100;

/// A matrix as it is written.
#[derive(Serialize, Deserialize)]
struct Form {
    classes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Vec<u64>>,
    /// Pairs of place and count, where there are many classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sparse: Option<Vec<(u64, u64)>>,
}

/// Places of a matrix over some classes; `None` when there cannot be so many.
fn places(classes: usize) -> Option<u64> {
    let classes = u16::try_from(classes).ok().map(u64::from)?;
    (classes > 0).then_some(classes * classes)
}

impl From<Form> for Confusion {
    fn from(form: Form) -> Self {
        let Form { classes, counts, sparse } = form;
        let places = places(classes);
        let (pairs, is_matrix): (Vec<(u64, u64)>, bool) = match (counts, sparse) {
            (Some(counts), None) => {
                let is_matrix = places == Some(counts.len() as u64);
                ((0..).zip(counts).collect(), is_matrix)
            }
            (None, Some(pairs)) => {
                let is_matrix = places.is_some_and(|places| pairs.iter().all(|(place, _)| *place < places));
                (pairs, is_matrix)
            }
            _ => (Vec::new(), false),
        };
        let (before, counts) = (pairs.len(), pairs.into_iter().collect::<BTreeMap<u64, u64>>());
        // A place that is named twice says two things.
        let is_matrix = is_matrix && counts.len() == before;
        Self { classes, counts: counts.into_iter().filter(|(_, count)| *count > 0).collect(), is_matrix }
    }
}

impl From<Confusion> for Form {
    fn from(confusion: Confusion) -> Self {
        let Confusion { classes, counts, is_matrix } = confusion;
        if !is_matrix || classes > WRITTEN_DENSE {
            return Self { classes, counts: None, sparse: Some(counts.into_iter().collect()) };
        }
        let places = (classes * classes) as u64;
        let counts = (0..places).map(|place| counts.get(&place).copied().unwrap_or(0)).collect();
        Self { classes, counts: Some(counts), sparse: None }
    }
}

impl Confusion {
    /// An empty matrix over `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: BTreeMap::new(), is_matrix: places(classes).is_some() }
    }

    /// Counts one answer. Labels outside the matrix are a programming error and panic.
    pub fn add(&mut self, truth: usize, answer: usize) {
        assert!(truth < self.classes && answer < self.classes, "label outside the confusion matrix");
        *self.counts.entry((truth * self.classes + answer) as u64).or_default() += 1;
    }

    /// Adds another matrix over the same classes; `false` (and no change) when the sizes differ.
    pub fn merge(&mut self, other: &Self) -> bool {
        let fits = self.classes == other.classes && self.is_matrix == other.is_matrix;
        if fits {
            other.counts.iter().for_each(|(place, count)| *self.counts.entry(*place).or_default() += count);
        }
        fits
    }

    /// Answers `answer` to samples of the class `truth`.
    pub fn count(&self, truth: usize, answer: usize) -> u64 {
        let place =
            truth.checked_mul(self.classes).and_then(|row| row.checked_add(answer)).filter(|_| answer < self.classes);
        place.and_then(|place| self.counts.get(&(place as u64))).copied().unwrap_or(0)
    }

    /// True class, answer and count of all pairs that occur.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        let classes = self.classes.max(1) as u64;
        self.counts.iter().map(move |(place, count)| ((place / classes) as usize, (place % classes) as usize, *count))
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of counted answers.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Samples of each true class; `None` when this is no square matrix, or when its counts cannot be added up: then it
    /// came from elsewhere, and nothing else may be asked of it.
    pub fn samples(&self) -> Option<Vec<u64>> {
        if !self.is_matrix {
            return None;
        }
        self.counts.values().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
        Some(self.rows())
    }

    /// Sums of the rows.
    fn rows(&self) -> Vec<u64> {
        let mut rows = vec![0; self.classes];
        for (place, count) in &self.counts {
            rows[*place as usize / self.classes] += count;
        }
        rows
    }

    /// Right answers of a class.
    fn right(&self, class: usize) -> u64 {
        self.counts.get(&((class * self.classes + class) as u64)).copied().unwrap_or(0)
    }

    /// Fraction of right answers in [0, 1]; 0 for an empty matrix.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.right(class)).sum();
        ratio(right, self.total()).unwrap_or(0.0)
    }

    /// Fraction of right answers of each class (recall) in [0, 1]; `None` for a class without samples.
    pub fn class_accuracy(&self) -> Vec<Option<f64>> {
        self.rows().into_iter().enumerate().map(|(class, samples)| ratio(self.right(class), samples)).collect()
    }

    /// All counts, row by row, zeros too: square in the number of classes.
    pub fn counts(&self) -> Vec<Vec<u64>> {
        (0..self.classes).map(|truth| (0..self.classes).map(|answer| self.count(truth, answer)).collect()).collect()
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
        assert_eq!(confusion.counts(), [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
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
        assert_eq!(from(r#"{"classes": 2, "sparse": [[3, 5]]}"#), Some(vec![0, 5]));
        let huge = format!(r#"{{"classes": {}, "sparse": []}}"#, usize::MAX);
        let wrong = [
            r#"{"classes": 2, "sparse": [[4, 1]]}"#,
            r#"{"classes": 2, "sparse": [[1, 1], [1, 2]]}"#,
            r#"{"classes": 2}"#,
        ];
        for wrong in wrong.into_iter().chain([huge.as_str()]) {
            assert_eq!(from(wrong), None, "{wrong}");
        }
    }

    /// A shard of 1,680 classes took 5.6 MB as JSON, and a report or a grant may have 16 MiB.
    #[test]
    fn many_classes_take_no_more_than_their_samples() {
        for classes in [3, WRITTEN_DENSE, WRITTEN_DENSE + 1, 1_680] {
            let mut confusion = Confusion::new(classes);
            (0..1_024).for_each(|sample| confusion.add(sample % classes, (sample * 7) % classes));
            let text = serde_json::to_string(&confusion).expect("plain data");
            assert!(text.len() < 1 << 15, "{classes} classes take {} bytes", text.len());
            assert_eq!(serde_json::from_str::<Confusion>(&text).expect("the same"), confusion);
        }
    }
}
