//! Dense labels of a block's classes, and back.

use serde::{Deserialize, Serialize};

/// The classes that one block tells apart, in ascending order of their global labels.
///
/// A block that learns the hard classes {2, 5, 9} has outputs 0, 1, 2: *dense* labels. The map and its inverse keep
/// answers of different blocks comparable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelMap(Vec<u16>);

impl LabelMap {
    /// The identity on `classes` classes.
    pub fn all(classes: usize) -> Self {
        Self((0..u16::try_from(classes).unwrap_or(u16::MAX)).collect())
    }

    /// A map onto some global labels, sorted and without repetition.
    pub fn new(mut globals: Vec<u16>) -> Self {
        globals.sort_unstable();
        globals.dedup();
        Self(globals)
    }

    /// Number of dense labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The global labels in dense order.
    pub fn globals(&self) -> &[u16] {
        &self.0
    }

    /// The dense label of a global one; `None` when the block does not know the class.
    pub fn dense(&self, global: u16) -> Option<u16> {
        self.0.binary_search(&global).ok().and_then(|index| u16::try_from(index).ok())
    }

    /// The global label of a dense one.
    pub fn global(&self, dense: usize) -> Option<u16> {
        self.0.get(dense).copied()
    }

    /// Whether the block knows a global label.
    pub fn contains(&self, global: u16) -> bool {
        self.dense(global).is_some()
    }

    /// Spreads probabilities over the block's classes `[len]` into all `classes` classes; the others get 0.
    pub fn spread(&self, dense: &[f32], classes: usize) -> Vec<f32> {
        let mut all = vec![0.0; classes];
        for (&global, &p) in self.0.iter().zip(dense) {
            if let Some(slot) = all.get_mut(usize::from(global)) {
                *slot = p;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remapping_and_its_inverse() {
        let map = LabelMap::new(vec![9, 2, 5, 5]);
        assert_eq!(map.globals(), [2, 5, 9]);
        assert_eq!([2, 5, 9, 3].map(|global| map.dense(global)), [Some(0), Some(1), Some(2), None]);
        for dense in 0..map.len() {
            let global = map.global(dense).expect("in range");
            assert_eq!(map.dense(global).map(usize::from), Some(dense));
        }
        assert_eq!(map.spread(&[0.2, 0.3, 0.5], 10), [0.0, 0.0, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.5]);
    }
}
