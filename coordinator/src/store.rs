//! Durable state: a log of records in SlateDB, and snapshots that shorten replay.
//!
//! SlateDB writes are durable only when `await_durable` has returned, so nothing is acted upon before; a second
//! coordinator on the same store fences the first, whose next append fails with [`StateError::Fenced`].

use crate::rows::{self, Rows};
use crate::run::record::{Durable, Record};
use crate::table::{Change, Table};
use bloctrain_shared::key;
use bloctrain_store::{Artefacts, Place, StoreError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use slatedb::config::{GarbageCollectorDirectoryOptions, GarbageCollectorOptions, Settings};
use slatedb::{CloseReason, Db, DbReader, DbReaderMode, ErrorKind};
use std::time::Duration;

const SNAPSHOT: &[u8] = b"snapshot";
const PREFIX: &str = "record/";

/// Fewest records between two snapshots. They also have at least as many bytes as what the snapshot before wrote, so that
/// snapshots never cost more than records.
pub const SNAPSHOT_EVERY: u64 = 64;

/// State that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another coordinator took over.
    #[error("another bloctrain process has taken over this store; let it finish, or use another --store")]
    Fenced,
    /// The store fails.
    #[error(
        "the coordinator's state cannot be kept in the store: {0}; check that it is writable and has space, then run the same command again"
    )]
    Unavailable(String),
    /// What is there makes no sense.
    #[error("the coordinator's state in the store is damaged: {0}; move its folder `state` away to start without it")]
    Damaged(String),
    /// The store cannot be used at all.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<slatedb::Error> for StateError {
    fn from(error: slatedb::Error) -> Self {
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => Self::Fenced,
            ErrorKind::Data => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// What a snapshot holds beside the rows: the state without its runs, and the first record that is not in it.
#[derive(Serialize, Deserialize)]
struct Snapshot<D> {
    next: u64,
    durable: D,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    at_ms: u64,
    record: Record,
}

/// The log, open for writing.
pub struct Log {
    table: Box<dyn Table>,
    rows: Rows,
    next: u64,
    /// The first record that is still there.
    oldest: u64,
    /// Records since the last snapshot, and their bytes.
    since_snapshot: u64,
    bytes_since: usize,
    /// Bytes that the last snapshot wrote.
    snapshot_bytes: usize,
}

fn record_key(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

pub(crate) fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|error| StateError::Damaged(error.to_string()))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|error| StateError::Damaged(error.to_string()))
}

/// Bytes of records that the database gathers in memory before it writes them out as a sorted table. They are durable
/// before that, in its log.
const GATHERED: usize = 4 << 20;

/// Settings of the database for a kind of store.
fn settings(place: Place) -> Settings {
    // The driver has one write under way at a time, which gathers what comes meanwhile; so this only delays. An outage of
    // object storage is outlasted, where on this machine a full disk should show soon.
    let (flush_ms, max_retries) = match place {
        Place::Folder | Place::Memory => (10, 30),
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

/// SlateDB removes its own old files. A folder has no conditional updates, which guard against a writer that was suspended
/// for longer than the age of what is removed; a day stands in for them there.
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

impl Log {
    /// Opens the log and replays it. Fences every earlier writer. Refuses a store without working conditional writes, on
    /// which that rests, and marks a store of an older format, because this program writes what older ones cannot read.
    ///
    /// # Errors
    /// When the store fails or holds something else.
    pub async fn open(artefacts: &Artefacts) -> Result<(Self, Durable), StateError> {
        artefacts.probe().await?;
        // It is read once, when it is opened, so nothing is worth keeping in a cache.
        let builder = Db::builder(key::STATE, artefacts.object_store()).with_db_cache_disabled();
        let builder = builder.with_settings(settings(artefacts.place()));
        let db = Box::pin(builder.build()).await?;
        artefacts.upgrade_format().await?;
        Box::pin(Self::over(Box::new(db))).await
    }

    /// Replays the log in a table that was opened for writing.
    ///
    /// # Errors
    /// When the table fails or holds something else.
    pub async fn over(table: Box<dyn Table>) -> Result<(Self, Durable), StateError> {
        let snapshot = table.get(SNAPSHOT).await?;
        let (mut durable, mut next) = start(snapshot.as_deref())?;
        let mut rows = Rows::restore(&mut durable, table.scan(rows::PREFIX).await?)?;
        let (first, mut bytes_since) = (next, 0);
        let mut oldest = None;
        for (key, value) in table.scan(PREFIX).await? {
            oldest = oldest.or(Some(number(&key)?));
            if let Some(Entry { at_ms, record }) = entry(&mut next, &key, &value)? {
                rows.note(&record);
                durable.replay(record, at_ms);
                bytes_since += value.len();
            }
        }
        Ok((
            Self {
                table,
                rows,
                next,
                oldest: oldest.unwrap_or(next),
                since_snapshot: next - first,
                bytes_since,
                snapshot_bytes: 0,
            },
            durable,
        ))
    }

    /// Appends a record; it is durable when this returns. `after` is the state with it, for a snapshot now and then.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when another coordinator took over; the record does not count then.
    pub async fn append(&mut self, at_ms: u64, record: Record, after: &Durable) -> Result<(), StateError> {
        self.append_all(vec![(at_ms, record)], after).await.map(drop)
    }

    /// Appends records, each with its time, as one write: all of them are durable when this returns, or none counts. A thousand
    /// cost as much time as one. `after` is the state with all of them. Tells whether all of it is in rows now.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_all(&mut self, records: Vec<(u64, Record)>, after: &Durable) -> Result<bool, StateError> {
        if records.is_empty() {
            return Ok(false);
        }
        let mut entries = Vec::with_capacity(records.len());
        let (mut next, mut bytes) = (self.next, self.bytes_since);
        for (at_ms, record) in records {
            self.rows.note(&record);
            let entry = json(&Entry { at_ms, record })?;
            bytes += entry.len();
            entries.push(Change::Put(record_key(next).into_bytes(), entry));
            next += 1;
        }
        let since_snapshot = self.since_snapshot + next - self.next;
        if since_snapshot >= SNAPSHOT_EVERY && bytes >= self.snapshot_bytes {
            self.snapshot(entries, next, after).await?;
            return Ok(true);
        }
        self.table.write(entries).await?;
        (self.next, self.since_snapshot, self.bytes_since) = (next, since_snapshot, bytes);
        Ok(false)
    }

    /// Writes what changed since the last snapshot together with the last records, up to `next`; the ones before them go.
    async fn snapshot(&mut self, entries: Vec<Change>, next: u64, durable: &Durable) -> Result<(), StateError> {
        let mut changes = self.rows.changes(durable)?;
        changes.push(Change::Put(SNAPSHOT.to_vec(), json(&Snapshot { next, durable })?));
        let written = |change: &Change| if let Change::Put(_, value) = change { value.len() } else { 0 };
        let bytes = changes.iter().map(written).sum();
        changes.extend((self.oldest..self.next).map(|number| Change::Delete(record_key(number).into_bytes())));
        changes.extend(entries);
        self.table.write(changes).await?;
        self.oldest = self.next;
        (self.next, self.since_snapshot, self.bytes_since, self.snapshot_bytes) = (next, 0, 0, bytes);
        Ok(())
    }

    /// Closes the log.
    ///
    /// # Errors
    /// When what is pending cannot be written.
    pub async fn close(self) -> Result<(), StateError> {
        self.table.close().await
    }
}

fn start(snapshot: Option<&[u8]>) -> Result<(Durable, u64), StateError> {
    match snapshot {
        Some(bytes) => parse::<Snapshot<Durable>>(bytes).map(|snapshot| (snapshot.durable, snapshot.next)),
        None => Ok((Durable::default(), 0)),
    }
}

fn number(key: &[u8]) -> Result<u64, StateError> {
    let number =
        std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(PREFIX)).and_then(|number| number.parse::<u64>().ok());
    number.ok_or_else(|| StateError::Damaged("a record has no number".into()))
}

/// An entry of the log, unless the snapshot has it; moves the next number on.
fn entry(next: &mut u64, key: &[u8], value: &[u8]) -> Result<Option<Entry>, StateError> {
    let number = number(key)?;
    if number < *next {
        return Ok(None);
    }
    *next = number + 1;
    parse(value).map(Some)
}

/// Reads the state without disturbing a coordinator that may be at work; empty when there is none yet.
///
/// # Errors
/// When the store fails.
pub async fn read(artefacts: &Artefacts) -> Result<Durable, StateError> {
    let state = artefacts.list(key::STATE).await?;
    if state.is_empty() {
        return Ok(Durable::default());
    }
    let options = slatedb::config::DbReaderOptions::default();
    let reader = Box::pin(DbReader::open(key::STATE, artefacts.object_store(), DbReaderMode::default(), options)).await?;
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
    Rows::restore(&mut durable, scan(reader, rows::PREFIX).await?)?;
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
