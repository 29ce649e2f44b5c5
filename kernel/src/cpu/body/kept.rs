//! Weights in the orders of the kernels, kept from call to call by whoever runs a body with the same parameters again.

use super::layer::Weights;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a branch's weights begin, and an output tile.
type Key = (usize, usize);

/// What calls with the same parameters share. It is made anew with other parameters.
#[derive(Debug, Default)]
pub(super) struct Kept {
    weights: Mutex<BTreeMap<Key, Arc<Weights>>>,
}

impl Kept {
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Weights) -> Arc<Weights> {
        let weights = || self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = weights().get(&key) {
            return Arc::clone(found);
        }
        let made = Arc::new(make());
        Arc::clone(weights().entry(key).or_insert(made))
    }
}
