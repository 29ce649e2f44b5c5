//! Where the active coordinator says who it is: an object per coordinator that it writes again and again.
//!
//! Readers never compare clocks: a coordinator that stops counting is one that stopped. The number of an opening of the
//! state is in the key, so an older coordinator cannot write over a newer one's address; the highest number is the
//! active one.

use crate::{Artefacts, Created, StoreError};
use bloctrain_shared::key;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The published address of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Number of its opening of the state.
    pub opening: u64,
    /// Addresses at which it serves.
    pub addresses: Vec<String>,
    /// Times that it has written this.
    pub beat: u64,
    /// Whether it has stopped in order.
    pub released: bool,
    /// Identity of the state that it opened: what was left behind of another state says nothing. Empty in older stores.
    #[serde(default)]
    pub state: String,
}

/// More openings than any state comes to: a number above it was written by nobody that counts.
const MAX_OPENINGS: u64 = 1 << 30;

/// The newest published address; `None` when there never was one.
///
/// # Errors
/// When the store fails, or what it holds makes no sense.
pub async fn read(artefacts: &Artefacts) -> Result<Option<Leader>, StoreError> {
    let Some((newest, _)) = artefacts.list(key::LEADERS).await?.pop() else { return Ok(None) };
    let bytes = artefacts.get_unverified(&newest).await?;
    let damaged = |error: serde_json::Error| StoreError::Damaged { key: newest.clone(), problem: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// The highest number under which any coordinator ever published, of whatever state.
///
/// # Errors
/// When the store fails.
pub async fn last_opening(artefacts: &Artefacts) -> Result<u64, StoreError> {
    let listed = artefacts.list(key::LEADERS).await?;
    let openings = listed.iter().filter_map(|(key, _)| key::opening_of(key));
    Ok(openings.filter(|opening| *opening < MAX_OPENINGS).max().unwrap_or(0))
}

/// Publishes an address, or the same once more.
///
/// # Errors
/// When the store cannot be written.
pub async fn publish(artefacts: &Artefacts, leader: &Leader) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(leader).unwrap_or_default();
    artefacts.put(&key::leader(leader.opening), Bytes::from(bytes)).await.map(|_| ())
}

/// Whether it is this coordinator's turn to follow that of an opening (0: nobody). Of several that stand by, the first
/// to ask is told so; were it up to each of them, one would take over from the other. `who` is nobody else's: by it a
/// coordinator knows its own claim when an answer was lost.
///
/// # Errors
/// When the store cannot be written, or knows no conditions.
pub async fn claim(artefacts: &Artefacts, opening: u64, who: &str) -> Result<bool, StoreError> {
    let bytes = serde_json::to_vec(&serde_json::json!({ "who": who })).unwrap_or_default();
    Ok(artefacts.create(&key::turn(opening), Bytes::from(bytes)).await? != Created::Different)
}

/// Removes the addresses of coordinators before this one, and who was to follow them.
///
/// # Errors
/// When the store fails.
pub async fn remove_older(artefacts: &Artefacts, opening: u64) -> Result<(), StoreError> {
    for (root, own) in [(key::LEADERS, key::leader(opening)), (key::TURNS, key::turn(opening))] {
        for (older, _) in artefacts.list(root).await?.into_iter().filter(|(key, _)| *key < own) {
            artefacts.delete(&older).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_is_found_and_an_older_one_cannot_hide_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        assert_eq!((read(&store).await, last_opening(&store).await), (Ok(None), Ok(0)));
        let leader = |opening, beat| Leader {
            opening,
            addresses: vec!["http://a:1".into()],
            beat,
            released: false,
            state: "s".into(),
        };
        publish(&store, &leader(9, 1)).await.expect("published");
        assert_eq!((claim(&store, 9, "a").await, claim(&store, 9, "b").await), (Ok(true), Ok(false)));
        assert_eq!(claim(&store, 9, "a").await, Ok(true), "an answer may have been lost");
        publish(&store, &leader(10, 1)).await.expect("published");
        publish(&store, &leader(9, 2)).await.expect("a zombie writes its own");
        assert_eq!(read(&store).await, Ok(Some(leader(10, 1))));
        assert_eq!(last_opening(&store).await, Ok(10));
        remove_older(&store, 10).await.expect("removed");
        assert_eq!(store.list(key::LEADERS).await.expect("lists").len(), 1);
        assert!(store.list(key::TURNS).await.expect("lists").is_empty());
        store.put(&key::leader(11), Bytes::from_static(b"{")).await.expect("written");
        assert!(matches!(read(&store).await, Err(StoreError::Damaged { .. })));
    }
}
