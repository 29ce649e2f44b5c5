//! Whether a store can be used: its format version, and its conditional writes.

use crate::error::StoreError;
use crate::object::{Artefacts, Created};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher};

/// What `format.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Format {
    version: u32,
    /// Which store it is: drawn once, so that two stores at one address can be told apart. Older stores have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    store: String,
}

impl Format {
    /// That of a new store.
    fn new() -> Self {
        let part = || std::collections::hash_map::RandomState::new().build_hasher().finish();
        let drawn = format!("{:016x}{:016x}", part(), part());
        Self { version: key::STORE_VERSION, store: format!("{drawn}-{}", check(&drawn)) }
    }

    fn bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |problem: String| StoreError::Damaged { key: key::FORMAT.into(), problem };
        let found: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        // A newer version may have another form of it.
        let is_whole = found.store.rsplit_once('-').is_some_and(|(drawn, sum)| sum == check(drawn));
        if found.version <= key::STORE_VERSION && !found.store.is_empty() && !is_whole {
            return Err(damaged("the identity of the store is not what was written".into()));
        }
        Ok(found)
    }
}

/// The end of an identity, by which one that arrives damaged is told from another store's.
fn check(drawn: &str) -> String {
    Digest::of(drawn.as_bytes()).short(8)
}

impl Artefacts {
    /// Checks the version of the store's layout; a new store gets the current one. This is the first contact with a
    /// store, so wrong addresses and credentials show here, within seconds.
    ///
    /// # Errors
    /// When the store is of a newer version, cannot be reached or, being new, cannot be written.
    pub async fn check_format(&self) -> Result<(), StoreError> {
        let first = self.clone().with_retry(self.retry().first_contact());
        let new = Format::new();
        let found = match first.read_format().await? {
            Some((found, _)) => found,
            None => match first.create(key::FORMAT, new.bytes()).await? {
                Created::Written | Created::Identical => return Ok(()),
                Created::Different => first.read_format().await?.map_or(new, |(found, _)| found),
            },
        };
        self.check_version(found.version)
    }

    /// As [`check_format`](Self::check_format), for whoever only looks: writes nothing.
    ///
    /// # Errors
    /// [`StoreError::NoStore`] where there is no store, or why it cannot be read.
    pub async fn look_format(&self) -> Result<(), StoreError> {
        let first = self.clone().with_retry(self.retry().first_contact());
        match first.read_format().await? {
            Some((found, _)) => self.check_version(found.version),
            None => Err(StoreError::NoStore { store: self.location().to_owned() }),
        }
    }

    fn check_version(&self, found: u32) -> Result<(), StoreError> {
        if found > key::STORE_VERSION {
            let store = self.location().to_owned();
            return Err(StoreError::NewerFormat { store, found, known: key::STORE_VERSION });
        }
        Ok(())
    }

    async fn read_format(&self) -> Result<Option<(Format, Bytes)>, StoreError> {
        match self.get_unverified(key::FORMAT).await {
            Ok(bytes) => Ok(Some((Format::parse(&bytes)?, bytes))),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Marks a store of an older version as one of the current version, so that older programs refuse it from now on,
    /// and gives it an identity where it has none. For whoever is about to write what they could not read. The mark is
    /// only written over the content that was read: a coordinator that was suspended here takes nothing back.
    ///
    /// # Errors
    /// When the store is of a newer version or cannot be written.
    pub async fn upgrade_format(&self) -> Result<(), StoreError> {
        self.identity().await.map(drop)
    }

    /// Which store this is. A store of an older version is marked as one of the current version and gets its identity
    /// here.
    ///
    /// # Errors
    /// As [`upgrade_format`](Self::upgrade_format).
    pub async fn identity(&self) -> Result<String, StoreError> {
        loop {
            self.check_format().await?;
            let Some((found, bytes)) = self.read_format().await? else { continue };
            self.check_version(found.version)?;
            if found.version == key::STORE_VERSION && !found.store.is_empty() {
                return Ok(found.store);
            }
            let own = Format::new();
            let store = if found.store.is_empty() { own.store } else { found.store };
            let marked = Format { store, ..own };
            if self.replace(key::FORMAT, &bytes, marked.bytes()).await? {
                return Ok(marked.store);
            }
        }
    }

    /// Which store this is, for whoever only looks: `None` where there is no store, or one that has no identity yet.
    /// Writes nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find_identity(&self) -> Result<Option<String>, StoreError> {
        Ok(self.read_format().await?.map(|(found, _)| found.store).filter(|store| !store.is_empty()))
    }

    /// Refuses a store on which put-if-absent does not work: fencing an old coordinator rests on it. Writes the same
    /// key twice, each time on condition that it is absent; the second write has to be refused.
    ///
    /// # Errors
    /// [`StoreError::NoConditionalPut`], or why the store cannot be written.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let first = self.clone().with_retry(self.retry().first_contact());
        let refused =
            |problem: &str| StoreError::NoConditionalPut { store: self.location().into(), problem: problem.into() };
        let attempt = async |content: &'static str| match first
            .create(key::PROBE, Bytes::from_static(content.as_bytes()))
            .await
        {
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
        let version = async || store.read_format().await.expect("readable").expect("there").0.version;
        assert_eq!(version().await, 0, "reading marks nothing");
        assert_eq!(store.find_identity().await, Ok(None), "nor does looking");
        store.upgrade_format().await.expect("marked");
        assert_eq!(version().await, key::STORE_VERSION);
        store.put(key::FORMAT, Bytes::from_static(b"{\"version\":99}")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::NewerFormat { found: 99, .. })));
        assert!(matches!(store.upgrade_format().await, Err(StoreError::NewerFormat { found: 99, .. })));
        store.put(key::FORMAT, Bytes::from_static(b"nonsense")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_store_has_one_identity_that_is_never_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = ["memory://", folder.path().to_str().expect("utf-8")];
        for place in places {
            let store = Artefacts::open(place).expect("opens");
            assert_eq!(store.find_identity().await, Ok(None));
            assert!(store.list("").await.expect("lists").is_empty(), "looking makes nothing");
            // One of before there were identities.
            store.put(key::FORMAT, Bytes::from_static(b"{\"version\":3}")).await.expect("written");
            let both = tokio::join!(store.identity(), store.identity());
            assert_eq!(both.0, both.1, "two coordinators agree");
            assert_eq!(store.find_identity().await, both.0.clone().map(Some));
            assert_eq!(store.identity().await, both.0);
            let stale = Bytes::from_static(b"{\"version\":3}");
            assert_eq!(
                store.replace(key::FORMAT, &stale, Format::new().bytes()).await,
                Ok(false),
                "whoever read it before"
            );
            assert_eq!(store.identity().await, both.0);
        }
        let (one, other) = (Artefacts::open("memory://").expect("opens"), Artefacts::open("memory://").expect("opens"));
        assert_ne!(one.identity().await, other.identity().await);
    }
}
