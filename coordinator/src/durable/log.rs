//! Durable state: a log of records in SlateDB, and snapshots that shorten replay.
//!
//! SlateDB writes are durable only when `await_durable` has returned, so nothing is acted upon before; a second
//! coordinator on the same store fences the first, whose next append fails with [`StateError::Fenced`].

use super::error::StateError;
use super::json::{json, parse};
use super::rows::{self, Rows};
use super::slate;
use super::table::{Change, Table};
use crate::run::durable::Durable;
use crate::run::record::Record;
use bloctrain_shared::key;
use bloctrain_store::Artefacts;
use serde::{Deserialize, Serialize};

pub(super) const SNAPSHOT: &[u8] = b"snapshot";
pub(super) const PREFIX: &str = "record/";

/// Fewest records between two snapshots. They also have at least as many bytes as what the snapshot before wrote, so
/// that snapshots never cost more than records.
pub const SNAPSHOT_EVERY: u64 = 64;

/// Where the table says which version wrote it.
pub(super) const VERSION: &[u8] = b"version";

/// Refuses what a newer program wrote, before anything of it is taken for damaged.
pub(super) fn check_version(version: Option<&[u8]>) -> Result<u32, StateError> {
    let found = version.map_or(Ok(0), parse::<u32>)?;
    if found > key::STORE_VERSION {
        return Err(StateError::Newer { found, known: key::STORE_VERSION });
    }
    Ok(found)
}

/// What a snapshot holds beside the rows: the state without its runs, and the first record that is not in it.
#[derive(Serialize, Deserialize)]
struct Snapshot<D> {
    next: u64,
    durable: D,
}

/// A record as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) at_ms: u64,
    pub(super) record: Record,
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
    /// Whether the table says that this version wrote it.
    is_current: bool,
}

fn record_key(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

impl Log {
    /// Opens the log and replays it. Fences every earlier writer. Refuses a store without working conditional writes,
    /// on which that rests, and marks a store of an older format, because this program writes what older ones cannot
    /// read.
    ///
    /// # Errors
    /// When the store fails or holds something else.
    pub async fn open(artefacts: &Artefacts) -> Result<(Self, Durable), StateError> {
        Self::open_ahead(artefacts, 0).await
    }

    /// As [`open`](Self::open), on a machine whose clock is so many milliseconds ahead: for tests of clocks that
    /// differ.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_ahead(artefacts: &Artefacts, ahead_ms: i64) -> Result<(Self, Durable), StateError> {
        artefacts.probe().await?;
        // Before it opens the table, which fences whoever writes it: a newer coordinator is not to be disturbed.
        artefacts.check_format().await?;
        let db = slate::open(artefacts, ahead_ms).await?;
        artefacts.upgrade_format().await?;
        Box::pin(Self::over(Box::new(db))).await
    }

    /// Replays the log in a table that was opened for writing. Cached shards of completed runs are not read
    /// ([`Durable::let_go`]).
    ///
    /// # Errors
    /// When the table fails or holds something else.
    pub async fn over(table: Box<dyn Table>) -> Result<(Self, Durable), StateError> {
        let is_current = check_version(table.get(VERSION).await?.as_deref())? == key::STORE_VERSION;
        let snapshot = table.get(SNAPSHOT).await?;
        let (mut durable, mut next) = start(snapshot.as_deref())?;
        let mut rows =
            Rows::restore(&mut durable, table.scan_beyond(rows::PREFIX, &rows::beyond_completed).await?, true)?;
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
                is_current,
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

    /// Appends records, each with its time, as one write: all of them are durable when this returns, or none counts. A
    /// thousand cost as much time as one. `after` is the state with all of them. Tells whether all of it is in rows
    /// now.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_all(&mut self, records: Vec<(u64, Record)>, after: &Durable) -> Result<bool, StateError> {
        if records.is_empty() {
            return Ok(false);
        }
        let mut entries = Vec::with_capacity(records.len() + 1);
        if !self.is_current {
            entries.push(Change::Put(VERSION.to_vec(), json(&key::STORE_VERSION)?));
        }
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
            self.is_current = true;
            return Ok(true);
        }
        self.table.write(entries).await?;
        self.is_current = true;
        (self.next, self.since_snapshot, self.bytes_since) = (next, since_snapshot, bytes);
        Ok(false)
    }

    /// Writes what changed since the last snapshot together with the last records, up to `next`; the ones before them
    /// go.
    async fn snapshot(&mut self, entries: Vec<Change>, next: u64, durable: &Durable) -> Result<(), StateError> {
        let mut changes = Vec::new();
        for run in self.rows.deleted(durable) {
            let rows = self.table.scan(&rows::of_run(&run)).await?;
            changes.extend(rows.into_iter().map(|(key, _)| Change::Delete(key.into())));
        }
        changes.extend(self.rows.changes(durable)?);
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

    /// Makes sure that this is still the writer, by a write that changes nothing.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when another coordinator took over.
    pub async fn confirm(&mut self) -> Result<(), StateError> {
        self.table.write(vec![Change::Put(VERSION.to_vec(), json(&key::STORE_VERSION)?)]).await?;
        self.is_current = true;
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

/// The state in a snapshot, and the first record that is not in it.
pub(super) fn start(snapshot: Option<&[u8]>) -> Result<(Durable, u64), StateError> {
    match snapshot {
        Some(bytes) => parse::<Snapshot<Durable>>(bytes).map(|snapshot| (snapshot.durable, snapshot.next)),
        None => Ok((Durable::default(), 0)),
    }
}

fn number(key: &[u8]) -> Result<u64, StateError> {
    let number = std::str::from_utf8(key)
        .ok()
        .and_then(|key| key.strip_prefix(PREFIX))
        .and_then(|number| number.parse::<u64>().ok());
    number.ok_or_else(|| StateError::Damaged("a record has no number".into()))
}

/// An entry of the log, unless the snapshot has it; moves the next number on.
pub(super) fn entry(next: &mut u64, key: &[u8], value: &[u8]) -> Result<Option<Entry>, StateError> {
    let number = number(key)?;
    if number < *next {
        return Ok(None);
    }
    *next = number + 1;
    parse(value).map(Some)
}
