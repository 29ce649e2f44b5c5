//! Whether a store can be used: its format version, and its conditional writes.

use crate::error::StoreError;
use crate::object::{Artefacts, Created};
use bloctrain_shared::key;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What `format.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
}

fn current() -> Bytes {
    Bytes::from(format!("{{\"version\":{}}}", key::FORMAT_VERSION))
}

impl Artefacts {
    /// Checks the version of the store's layout; a new store gets the current one. This is the first contact with a store,
    /// so wrong addresses and credentials show here, within seconds.
    ///
    /// # Errors
    /// When the store is of a newer version, cannot be reached or, being new, cannot be written.
    pub async fn check_format(&self) -> Result<(), StoreError> {
        let first = self.clone().with_retry(self.retry().first_contact());
        let found = match first.read_format().await? {
            Some(found) => found,
            None => match first.create(key::FORMAT, current()).await? {
                Created::Written | Created::Identical => return Ok(()),
                Created::Different => first.read_format().await?.unwrap_or(key::FORMAT_VERSION),
            },
        };
        if found > key::FORMAT_VERSION {
            let store = self.location().to_owned();
            return Err(StoreError::NewerFormat { store, found, known: key::FORMAT_VERSION });
        }
        Ok(())
    }

    async fn read_format(&self) -> Result<Option<u32>, StoreError> {
        let bytes = match self.get_unverified(key::FORMAT).await {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = |error: serde_json::Error| StoreError::Damaged { key: key::FORMAT.into(), problem: error.to_string() };
        let format: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Some(format.version))
    }

    /// Marks a store of an older version as one of the current version, so that older programs refuse it from now on. For
    /// whoever is about to write what they could not read.
    ///
    /// # Errors
    /// When the store is of a newer version or cannot be written.
    pub async fn upgrade_format(&self) -> Result<(), StoreError> {
        self.check_format().await?;
        if self.read_format().await?.is_none_or(|found| found < key::FORMAT_VERSION) {
            self.put(key::FORMAT, current()).await?;
        }
        Ok(())
    }

    /// Refuses a store on which put-if-absent does not work: fencing an old coordinator rests on it. Writes the same key
    /// twice, each time on condition that it is absent; the second write has to be refused.
    ///
    /// # Errors
    /// [`StoreError::NoConditionalPut`], or why the store cannot be written.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let first = self.clone().with_retry(self.retry().first_contact());
        let refused = |problem: &str| StoreError::NoConditionalPut { store: self.location().into(), problem: problem.into() };
        let attempt = async |content: &'static str| match first.create(key::PROBE, Bytes::from_static(content.as_bytes())).await {
            Err(StoreError::BadConfiguration { problem, .. }) => Err(refused(&problem)),
            other => other,
        };
        attempt("{\"probe\":1}").await?;
        match attempt("{\"probe\":2}").await? {
            Created::Different => Ok(()),
            Created::Written => Err(refused("an existing object was overwritten by a put-if-absent")),
            // Only a store that ignored the condition earlier can hold the second content.
            Created::Identical => Err(refused("an earlier put-if-absent has overwritten an existing object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_or_damaged_format_is_refused_and_an_older_one_is_marked() {
        let store = Artefacts::open("memory://").expect("opens");
        store.check_format().await.expect("a new store");
        store.check_format().await.expect("the same store");
        store.put(key::FORMAT, Bytes::from_static(b"{\"version\":0}")).await.expect("written");
        store.check_format().await.expect("an older store can be read");
        assert_eq!(store.read_format().await, Ok(Some(0)), "reading marks nothing");
        store.upgrade_format().await.expect("marked");
        assert_eq!(store.read_format().await, Ok(Some(key::FORMAT_VERSION)));
        store.put(key::FORMAT, Bytes::from_static(b"{\"version\":99}")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::NewerFormat { found: 99, .. })));
        assert!(matches!(store.upgrade_format().await, Err(StoreError::NewerFormat { found: 99, .. })));
        store.put(key::FORMAT, Bytes::from_static(b"nonsense")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::Damaged { .. })));
    }
}
