//! What is durable of the coordinators' log.

use bloctrain_coordinator::durable::table::Change;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What survives every process.
#[derive(Default)]
pub(crate) struct Disk {
    cells: BTreeMap<Vec<u8>, Bytes>,
    /// Number of the last opening: only its writes land.
    epoch: u64,
}

/// A cell that was written: its key, its value, and whether there was another before.
pub(crate) struct Landed {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Bytes,
    pub(crate) is_replaced: bool,
}

impl Disk {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Numbers another opening.
    pub(crate) fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.cells.get(key).cloned()
    }

    pub(crate) fn scan(&self, prefix: &str) -> Vec<(Bytes, Bytes)> {
        let from = self.cells.range(prefix.as_bytes().to_vec()..);
        let own = from.take_while(|(key, _)| key.starts_with(prefix.as_bytes()));
        own.map(|(key, value)| (Bytes::from(key.clone()), value.clone())).collect()
    }

    /// Makes changes durable; gives the cells that were written.
    pub(crate) fn land(&mut self, changes: Vec<Change>) -> Vec<Landed> {
        let mut landed = Vec::new();
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    let value = Bytes::from(value);
                    let is_replaced = self.cells.insert(key.clone(), value.clone()).is_some();
                    landed.push(Landed { key, value, is_replaced });
                }
                Change::Delete(key) => {
                    self.cells.remove(&key);
                }
            }
        }
        landed
    }
}
