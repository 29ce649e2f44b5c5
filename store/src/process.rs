//! One process at a time that works in a folder by itself: a lock that ends with its process, however that ends.
//!
//! Coordinators of a fleet do without: they publish an address ([`leader`](crate::leader)), and the state fences
//! whoever is replaced.

use crate::error::StoreError;
use crate::location::Place;
use crate::object::Artefacts;
use bloctrain_shared::key;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

/// Who works in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Its process.
    pub process: u32,
    /// What it does, as on the command line.
    pub command: String,
}

/// The right to work in a store; it ends when this is dropped.
#[derive(Debug)]
pub struct Seat {
    _lock: Option<File>,
}

impl Artefacts {
    /// Takes the folder for this process, or says who has it. Other stores have no such lock, and a file system that
    /// knows none keeps nobody out.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn occupy(&self, command: &str) -> Result<Result<Seat, Occupant>, StoreError> {
        if self.place() != Place::Folder {
            return Ok(Ok(Seat { _lock: None }));
        }
        let refuse = |error: std::io::Error| StoreError::NotWritable {
            store: self.location().into(),
            problem: error.to_string(),
        };
        let path = std::path::Path::new(self.location()).join(key::PROCESS);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(refuse)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever has just taken it may not have written yet.
                let known = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str(&text).ok());
                return Ok(Err(known.unwrap_or(Occupant { process: 0, command: "train".into() })));
            }
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "this file system has no locks");
                return Ok(Ok(Seat { _lock: None }));
            }
            Ok(()) => {}
        }
        let own = Occupant { process: std::process::id(), command: command.into() };
        let text = serde_json::to_vec(&own).unwrap_or_default();
        // What it says is for people; on a full disk the lock holds without.
        let _ = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&text));
        Ok(Ok(Seat { _lock: Some(file) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first_until_that_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        let first = open().occupy("train").expect("a folder").expect("it is free");
        let other = open().occupy("cancel").expect("a folder").expect_err("it is taken");
        assert_eq!(other, Occupant { process: std::process::id(), command: "train".into() });
        drop(first);
        assert!(open().occupy("cancel").expect("a folder").is_ok());
        let memory = Artefacts::open("memory://").expect("opens");
        assert!(memory.occupy("train").is_ok_and(|seat| seat.is_ok()));
    }
}
