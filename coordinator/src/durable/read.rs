//! The state, read beside whoever writes it.

use super::error::StateError;
use super::log::{Entry, PREFIX, SNAPSHOT, VERSION, check_version, entry, start};
use super::rows::{self, Rows};
use super::slate;
use crate::run::durable::Durable;
use bloctrain_shared::key;
use bloctrain_store::Artefacts;
use bytes::Bytes;
use slatedb::DbReader;

/// Reads the state without disturbing a coordinator that may be at work; empty when there is none yet.
///
/// # Errors
/// When the store fails.
pub async fn read(artefacts: &Artefacts) -> Result<Durable, StateError> {
    let state = artefacts.list(key::STATE).await?;
    if state.is_empty() {
        return Ok(Durable::default());
    }
    slate::complete(state.iter().map(|(key, _)| key.as_str()))?;
    let reader = slate::reader(artefacts).await?;
    check_version(reader.get(VERSION).await?.as_deref())?;
    let durable = loop {
        let snapshot = reader.get(SNAPSHOT).await?;
        let durable = replay(&reader, snapshot.as_deref()).await;
        // Where the coordinator has written a snapshot meanwhile, what was read may be of both.
        if reader.get(SNAPSHOT).await? == snapshot {
            break durable?;
        }
    };
    reader.close().await?;
    Ok(durable)
}

async fn replay(reader: &DbReader, snapshot: Option<&[u8]>) -> Result<Durable, StateError> {
    let (mut durable, mut next) = start(snapshot)?;
    Rows::restore(&mut durable, scan(reader, rows::PREFIX).await?, false)?;
    for (key, value) in scan(reader, PREFIX).await? {
        if let Some(Entry { at_ms, record }) = entry(&mut next, &key, &value)? {
            durable.replay(record, at_ms);
        }
    }
    Ok(durable)
}

async fn scan(reader: &DbReader, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, StateError> {
    let (mut entries, mut found) = (reader.scan_prefix(prefix, ..).await?, Vec::new());
    while let Some(entry) = entries.next().await? {
        found.push((entry.key, entry.value));
    }
    Ok(found)
}
