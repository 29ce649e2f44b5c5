//! Values that are made once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that are made once, each when it is first wanted.
#[derive(Debug)]
pub(super) struct Made<Key, Value>(Mutex<BTreeMap<Key, Arc<Value>>>);

impl<Key, Value> Default for Made<Key, Value> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key: Ord, Value> Made<Key, Value> {
    /// The value of a key. Not made under the lock: two threads may make it, and both have the first one's.
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Value) -> Arc<Value> {
        let values = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = values().get(&key) {
            return Arc::clone(found);
        }
        let made = Arc::new(make());
        Arc::clone(values().entry(key).or_insert(made))
    }
}
