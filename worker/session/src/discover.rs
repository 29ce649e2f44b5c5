//! Finds the active coordinator by the address that it publishes in the store.

use bloctrain_proto::dial::Discover;
use bloctrain_store::{Artefacts, leader};
use std::sync::Arc;
use std::time::Duration;

/// Longest time to wait for the store.
const LIMIT: Duration = Duration::from_secs(3);

/// Reads the published address from a store at every call.
pub fn in_store(artefacts: Artefacts) -> Discover {
    Arc::new(move || Box::pin(published(artefacts.clone())))
}

/// As [`in_store`], for a store that its coordinator may still be about to begin.
pub fn at(location: String) -> Discover {
    Arc::new(move || match Artefacts::existing(&location) {
        Ok(artefacts) => Box::pin(published(artefacts)),
        Err(error) => {
            tracing::debug!(%error, "there is no store yet");
            Box::pin(std::future::ready(Vec::new()))
        }
    })
}

async fn published(artefacts: Artefacts) -> Vec<String> {
    match tokio::time::timeout(LIMIT, leader::read(&artefacts)).await {
        Ok(Ok(Some(leader))) if !leader.released => leader.addresses,
        Ok(Ok(_)) => Vec::new(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the store does not say who is active");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
