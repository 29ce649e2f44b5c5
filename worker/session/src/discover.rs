//! Finds the active coordinator by the address that it publishes in the store.

use bloctrain_proto::dial::Discover;
use bloctrain_store::{Artefacts, leader};
use std::sync::Arc;
use std::time::Duration;

/// Longest time to wait for the store.
const LIMIT: Duration = Duration::from_secs(3);

/// Reads the published address from a store at every call.
pub fn in_store(artefacts: Artefacts) -> Discover {
    Arc::new(move || {
        let artefacts = artefacts.clone();
        Box::pin(async move {
            match tokio::time::timeout(LIMIT, leader::read(&artefacts)).await {
                Ok(Ok(Some(leader))) if !leader.released => leader.addresses,
                Ok(Ok(_)) => Vec::new(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the store does not say who is active");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        })
    })
}
