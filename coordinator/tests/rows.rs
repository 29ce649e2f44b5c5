//! Snapshots write what changed, and rows give the state back.

mod fleet;

use bloctrain_coordinator::durable::table::{Change, Table};
use bloctrain_coordinator::durable::{Log, SNAPSHOT_EVERY, StateError};
use bloctrain_coordinator::run::durable::Durable;
use bloctrain_coordinator::run::record::Record;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::{CachedShard, Failure, Output, Split, Stage, TaskId};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use fleet::{Fleet, object};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A table in memory that counts what is written.
#[derive(Default)]
struct Contents {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    written: usize,
    largest: usize,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Contents>>);

impl Table for Memory {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>> {
        let found = self.0.lock().expect("no panic").rows.get(key).cloned().map(Bytes::from);
        Box::pin(async { Ok(found) })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        let contents = self.0.lock().expect("no panic");
        let rows = contents.rows.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let found = rows.map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone()))).collect();
        Box::pin(async { Ok(found) })
    }

    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>> {
        let mut contents = self.0.lock().expect("no panic");
        let mut bytes = 0;
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    bytes += value.len();
                    contents.rows.insert(key, value);
                }
                Change::Delete(key) => drop(contents.rows.remove(&key)),
            }
        }
        contents.written += bytes;
        contents.largest = contents.largest.max(bytes);
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A log in memory, with the state that its records give.
struct Kept {
    table: Memory,
    log: Log,
    durable: Durable,
    /// Bytes of records.
    bytes: usize,
}

impl Kept {
    async fn with_a_run() -> (Self, String) {
        let table = Memory::default();
        let (log, durable) = Log::over(Box::new(table.clone())).await.expect("opens");
        let mut kept = Self { table, log, durable, bytes: 0 };
        let mut fleet = Fleet::new(6);
        let run = fleet.submit(1, 0);
        for record in fleet.records {
            kept.append(record).await;
        }
        (kept, run)
    }

    async fn append(&mut self, record: Record) {
        self.bytes += serde_json::to_vec(&record).expect("plain data").len();
        self.durable.replay(record.clone(), 7);
        self.log.append(7, record, &self.durable).await.expect("appends");
    }

    async fn append_until_a_snapshot(&mut self) {
        for _ in 0..100 * SNAPSHOT_EVERY {
            self.append(Record::Opened).await;
            if self.rows("record/") == 1 {
                return;
            }
        }
        panic!("no snapshot came");
    }

    /// What the table gives back is the state.
    async fn check(&self) {
        assert!(self.found().await == self.durable, "other state than the records give");
    }

    /// What whoever takes over finds.
    async fn found(&self) -> Durable {
        Log::over(Box::new(self.table.clone())).await.expect("opens").1
    }

    fn rows(&self, part: &str) -> usize {
        let contents = self.table.0.lock().expect("no panic");
        contents.rows.keys().filter(|key| String::from_utf8_lossy(key).contains(part)).count()
    }
}

fn export(run: &str, part: u32) -> Record {
    let shard = CachedShard {
        split: Split::Train,
        view: 0,
        shard: part,
        object: object(key::cache_data(Digest::of(&part.to_le_bytes()))),
    };
    let output = Box::new(Output::Export(export::Output { shard, uncompressed_bytes: 8, reused: false }));
    Record::Committed {
        run: run.into(),
        task: TaskId { block: 1, stage: Stage::Export, part, replica: 0 },
        seconds: 0.5,
        output,
        hard: None,
    }
}

#[tokio::test]
async fn a_snapshot_writes_what_changed() {
    let (mut kept, run) = Kept::with_a_run().await;
    for part in 0..5000 {
        kept.append(export(&run, part)).await;
    }
    kept.check().await;
    let (written, largest) = {
        let contents = kept.table.0.lock().expect("no panic");
        (contents.written, contents.largest)
    };
    let state = 5000 * serde_json::to_vec(&kept.durable.runs[&run].blocks[0].exports[&0]).expect("plain data").len();
    assert!(largest * 8 < state, "one write had {largest} bytes of a state of {state}");
    assert!(written < 4 * kept.bytes, "{written} bytes were written for records of {}", kept.bytes);
}

#[tokio::test]
async fn rows_follow_what_goes() {
    let (mut kept, run) = Kept::with_a_run().await;
    for part in 0..130 {
        kept.append(export(&run, part)).await;
    }
    kept.append_until_a_snapshot().await;
    assert_eq!(kept.rows("/shards/"), 3);
    let task = TaskId { block: 2, stage: Stage::Train, part: 0, replica: 0 };
    for part in [128, 129, 5] {
        let key = kept.durable.runs[&run].blocks[0].exports[&part].shard.object.key.clone();
        let failure = Failure::InputLost { key, problem: "gone".into(), content: false };
        kept.append(Record::Failed { run: run.clone(), task, worker: "w".into(), failure }).await;
    }
    kept.check().await;
    kept.append_until_a_snapshot().await;
    assert_eq!(kept.rows("/shards/"), 2, "the row of shards that are gone is gone");
    assert_eq!(kept.durable.runs[&run].blocks[0].exports.len(), 127);
    kept.check().await;
}

#[tokio::test]
async fn shards_of_a_completed_run_stay_in_their_rows() {
    let (mut kept, run) = Kept::with_a_run().await;
    let mut fleet = Fleet::new(6);
    fleet.submit(1, 0);
    fleet.finish();
    let records = fleet.records;
    for record in records.iter().skip(1).cloned() {
        kept.append(record).await;
    }
    kept.append_until_a_snapshot().await;
    let whole = kept.durable.clone();
    kept.durable.let_go();
    let known = &kept.durable.runs[&run];
    assert!(
        known.blocks.iter().all(|block| block.exports.is_empty()) && !whole.runs[&run].blocks[0].exports.is_empty()
    );
    assert_eq!(known.view(), whole.runs[&run].view(), "people see no difference");
    let exported = records.iter().find_map(|record| match record {
        Record::Committed { task, .. } if task.stage == Stage::Export => Some(*task),
        _ => None,
    });
    assert!(known.is_committed(exported.expect("shards were exported")), "an answer that was lost is given again");
    // Whoever submits the same again changes the run's row, and looks at those of its shards.
    kept.append(records[0].clone()).await;
    kept.append_until_a_snapshot().await;
    let rows = kept.rows("/shards/");
    assert!(rows > 0, "garbage collection still finds them");
    // Whoever takes over does not read them, and does not lose them with what it writes.
    assert!(kept.found().await == kept.durable, "what is found is what was left");
    (kept.log, kept.durable) = Log::over(Box::new(kept.table.clone())).await.expect("opens");
    kept.append(records[0].clone()).await;
    kept.append_until_a_snapshot().await;
    assert_eq!(kept.rows("/shards/"), rows);
    // Nor do they stay when the run goes.
    kept.append(Record::Deleted { run: run.clone() }).await;
    kept.append_until_a_snapshot().await;
    assert_eq!(kept.rows(&run), 0, "a deleted run leaves no row");
}
