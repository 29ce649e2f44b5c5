//! The table in SlateDB, on a store.

use super::error::StateError;
use super::table::{Beyond, Change, Table};
use super::time::{self, StateClock};
use bloctrain_shared::key;
use bloctrain_store::{Artefacts, Place};
use bytes::Bytes;
use futures::future::BoxFuture;
use slatedb::config::{DbReaderOptions, GarbageCollectorDirectoryOptions, GarbageCollectorOptions, Settings};
use slatedb::{Db, DbReader, DbReaderMode, KeyValue, WriteBatch};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of records that the database gathers in memory before it writes them out as a sorted table. They are durable
/// before that, in its log.
const GATHERED: usize = 4 << 20;

/// Settings of the database for a kind of store.
fn settings(place: Place) -> Settings {
    // The driver has one write under way at a time, which gathers what comes meanwhile; so this only delays. An outage
    // of object storage is outlasted, where on this machine a full disk should show soon.
    let (flush_ms, max_retries) = match place {
        Place::Folder | Place::Memory => (10, 4),
        Place::Remote => (5, 900),
    };
    Settings {
        flush_interval: Some(Duration::from_millis(flush_ms)),
        object_store_max_retries: Some(max_retries),
        l0_sst_size_bytes: GATHERED,
        garbage_collector_options: garbage_collector(place),
        ..Settings::default()
    }
}

/// SlateDB removes its own old files. A folder has no conditional updates, which guard against a writer that was
/// suspended for longer than the age of what is removed; a day stands in for them there.
fn garbage_collector(place: Place) -> Option<GarbageCollectorOptions> {
    let (min_age, guarded) = match place {
        Place::Folder => (Duration::from_secs(24 * 3600), false),
        Place::Memory | Place::Remote => (Duration::from_secs(3600), true),
    };
    let every = Duration::from_secs(600);
    let files = GarbageCollectorDirectoryOptions { interval: Some(every), min_age, dry_run: false };
    Some(GarbageCollectorOptions {
        manifest_options: Some(files),
        wal_options: Some(files),
        wal_fence_options: None,
        compacted_options: Some(files),
        compactions_options: Some(files),
        boundary_files_enabled: guarded,
        ..GarbageCollectorOptions::default()
    })
}

/// The table, open for writing, and the clock that it writes by.
pub(super) struct Slate {
    db: Db,
    clock: Arc<StateClock>,
}

/// Opens the table for writing, by a clock that is ahead of the system's. Fences every earlier writer.
pub(super) async fn open(artefacts: &Artefacts, ahead_ms: i64) -> Result<Slate, StateError> {
    let clock = StateClock::ahead(ahead_ms);
    let files = artefacts.list_objects(key::STATE).await?;
    complete(files.iter().map(|file| file.key.as_str()))?;
    // Nothing that is there may be newer than what is written from now on; what its rows say comes with them.
    for file in files {
        let written = i64::try_from(file.modified_ms).unwrap_or(0);
        clock.reach(time::named_at(&file.key).map_or(written, |named| named.max(written)));
    }
    // It is read once, when it is opened, so nothing is worth keeping in a cache.
    let builder = Db::builder(key::STATE, artefacts.object_store()).with_db_cache_disabled();
    let builder = builder.with_settings(settings(artefacts.place())).with_system_clock(clock.clone());
    Ok(Slate { db: Box::pin(builder.build()).await?, clock })
}

/// Refuses a state of which a folder was lost: what is left would be taken for that of a coordinator that took over.
pub(super) fn complete<'a>(mut files: impl Iterator<Item = &'a str> + Clone) -> Result<(), StateError> {
    let is_manifest = |key: &str| key.split('/').nth(1) == Some("manifest");
    if files.clone().next().is_some() && !files.any(is_manifest) {
        return Err(StateError::Incomplete("there is nothing in its folder `manifest`".into()));
    }
    Ok(())
}

/// Opens the table for reading, which disturbs nobody and writes nothing.
pub(super) async fn reader(artefacts: &Artefacts) -> Result<DbReader, StateError> {
    let options = DbReaderOptions::default();
    Ok(Box::pin(DbReader::open(key::STATE, artefacts.object_store(), DbReaderMode::FollowLatest, options)).await?)
}

impl Slate {
    /// An entry that is there, behind which nothing is written.
    fn seen(&self, entry: KeyValue) -> (Bytes, Bytes) {
        self.clock.reach(entry.create_ts);
        (entry.key, entry.value)
    }
}

impl Table for Slate {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>> {
        Box::pin(async move {
            let found = self.db.get_key_value(key).await?;
            Ok(found.map(|entry| self.seen(entry)).map(|(_, value)| value))
        })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        self.scan_beyond(prefix, &|_, _| None)
    }

    fn scan_beyond<'a>(
        &'a self,
        prefix: &'a str,
        beyond: &'a Beyond,
    ) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut entries = self.db.scan_prefix(prefix, ..).await?;
            while let Some(entry) = entries.next().await? {
                let (key, value) = self.seen(entry);
                if let Some(from) = beyond(&key, &value) {
                    entries.seek(from).await?;
                }
                found.push((key, value));
            }
            Ok(found)
        })
    }

    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>> {
        let mut batch = WriteBatch::new();
        for change in changes {
            match change {
                // Owned, so that a large value is not copied.
                Change::Put(key, value) => batch.put_bytes(key.into(), value.into_boxed_slice().into()),
                Change::Delete(key) => batch.delete(key),
            }
        }
        Box::pin(async move { Ok(self.db.write(batch).await?.await_durable().await?) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move { Ok(self.db.close().await?) })
    }
}
