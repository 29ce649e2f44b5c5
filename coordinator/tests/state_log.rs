//! The log on every kind of store: replay, snapshots, fencing, faults, and stores of format 1.

#[path = "../../store/tests/common/mod.rs"]
mod common;
mod fleet;

use bloctrain_coordinator::durable::table::{Change, Table};
use bloctrain_coordinator::durable::{Log, SNAPSHOT_EVERY, StateError, read};
use bloctrain_coordinator::run::durable::Durable;
use bloctrain_coordinator::run::record::Record;
use bloctrain_shared::key;
use bloctrain_shared::view::RunState;
use bloctrain_store::testing::{Faults, FaultyStore, Misbehaviour};
use bloctrain_store::{Artefacts, StoreError};
use bytes::Bytes;
use fleet::Fleet;
use futures::future::BoxFuture;
use std::sync::Arc;

macro_rules! on_every_store {
    ($($backend:ident),+) => { $(
        mod $backend {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn records_survive_and_a_second_writer_fences_the_first() {
                let Some(fresh) = super::common::open(stringify!($backend)) else { return };
                Box::pin(super::survives_and_fences(fresh.store.clone())).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn faults_lose_nothing() {
                let Some(fresh) = super::common::open(stringify!($backend)) else { return };
                Box::pin(super::survives_faults(fresh.store.clone())).await;
            }
        }
    )+ };
}

on_every_store!(memory, folder, minio, moto, azurite);

/// Records of a whole run, and the state after each.
fn history() -> Vec<(Record, Durable)> {
    let mut fleet = Fleet::new(6);
    fleet.submit(1, 0);
    fleet.finish();
    fleet.submit(2, 1);
    fleet.finish();
    let mut durable = Durable::default();
    let after = |record: Record| {
        durable.replay(record.clone(), 7);
        (record, durable.clone())
    };
    fleet.records.into_iter().map(after).collect()
}

/// A state as whoever opens the log has it: without the shards of completed runs.
fn opened(mut durable: Durable) -> Durable {
    durable.let_go();
    durable
}

async fn survives_and_fences(store: Artefacts) {
    store.check_format().await.expect("a new store");
    let history = history();
    assert!(history.len() as u64 > SNAPSHOT_EVERY + 1, "a snapshot comes between: {}", history.len());
    let (mut log, empty) = Log::open(&store).await.expect("opens");
    assert_eq!(empty, Durable::default());
    // Alone and in groups: a group is one write.
    let mut done = 0;
    for group in [1, 1, 5, 40, 1, 30].into_iter().chain(std::iter::repeat(25)) {
        let records: Vec<(u64, Record)> =
            history.iter().skip(done).take(group).map(|(record, _)| (7, record.clone())).collect();
        if records.is_empty() {
            break;
        }
        done += records.len();
        log.append_all(records, &history[done - 1].1).await.expect("appends");
    }
    let expected = &history[history.len() - 1].1;
    assert_eq!(&read(&store).await.expect("reads"), expected, "a reader disturbs nobody");
    let (mut second, replayed) = Log::open(&store).await.expect("takes over");
    assert_eq!(opened(replayed), opened(expected.clone()));
    assert_eq!(log.append(8, Record::Opened, expected).await, Err(StateError::Fenced), "R-3");
    assert_eq!(log.append(8, Record::Opened, expected).await, Err(StateError::Fenced), "and stays so");
    let mut after = expected.clone();
    after.replay(Record::Opened, 8);
    second.append(8, Record::Opened, &after).await.expect("the new writer goes on");
    second.close().await.expect("closes");
    let (third, replayed) = Log::open(&store).await.expect("opens");
    assert_eq!(opened(replayed), opened(after), "nothing of the fenced writer is there");
    third.close().await.expect("closes");
}

async fn survives_faults(store: Artefacts) {
    let faults = Faults::default();
    let inner = Arc::new(FaultyStore::new(store.object_store(), faults.clone()));
    let shaky = Artefacts::with_store(inner, store.location(), store.place()).with_retry(common::impatient());
    // Without attributes SlateDB cannot tell its own write from another's, so answers are lost only where stores keep
    // them.
    let lose_answer = if store.place() == bloctrain_store::Place::Folder { 0.0 } else { 0.1 };
    faults.set(Misbehaviour { seed: 3, refuse: 0.1, lose_answer, ..Misbehaviour::default() });
    let (mut log, mut durable) = Log::open(&shaky).await.expect("opens");
    for number in 0..24 {
        durable.replay(Record::Opened, number);
        log.append(number, Record::Opened, &durable).await.expect("outlasts the faults");
    }
    assert!(faults.injected().refused > 0, "{:?}", faults.injected());
    assert!(lose_answer == 0.0 || faults.injected().lost_answers > 0, "{:?}", faults.injected());
    let (healthy, replayed) = Log::open(&store).await.expect("takes over");
    assert_eq!(replayed, durable);
    healthy.close().await.expect("closes");
}

/// The clock was set back between two runs, or a standby's is behind that of the coordinator that died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "that nothing waits is measured")]
async fn a_clock_that_is_behind_stops_nobody() {
    let history = history();
    for place in ["memory://", "folder"] {
        let folder = tempfile::tempdir().expect("a folder");
        let place = if place == "folder" { folder.path().to_str().expect("utf-8") } else { place };
        let store = Artefacts::open(place).expect("opens");
        store.check_format().await.expect("a new store");
        let (mut ahead, mut durable) = Log::open_ahead(&store, 60_000).await.expect("opens");
        for (record, after) in history.iter().take(SNAPSHOT_EVERY as usize + 3) {
            ahead.append(7, record.clone(), after).await.expect("appends");
            durable = after.clone();
        }
        // Killed, and closed in order, which writes tables named by the clock that is ahead.
        if place != "memory://" {
            ahead.close().await.expect("closes");
        }
        let begun = std::time::Instant::now();
        let (mut behind, replayed) = Log::open(&store).await.expect("opens");
        assert_eq!(opened(replayed), opened(durable.clone()));
        let mut after = durable.clone();
        for number in 0..SNAPSHOT_EVERY + 3 {
            after.replay(Record::Opened, number);
            behind
                .append(number, Record::Opened, &after)
                .await
                .expect("a clock that is behind keeps nobody from writing");
        }
        behind.close().await.expect("closes");
        assert!(begun.elapsed() < std::time::Duration::from_secs(9), "{:?}", begun.elapsed());
        let (last, replayed) = Log::open(&store).await.expect("opens");
        assert_eq!(opened(replayed), opened(after));
        last.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_state_that_lost_its_manifests_is_incomplete() {
    let store = Artefacts::open("memory://").expect("opens");
    let (mut log, mut durable) = Log::open(&store).await.expect("opens");
    durable.replay(Record::Opened, 1);
    log.append(1, Record::Opened, &durable).await.expect("appends");
    log.close().await.expect("closes");
    for (key, _) in store.list("state/manifest").await.expect("lists") {
        store.delete(&key).await.expect("deleted");
    }
    let said = "the coordinator's state in the store is incomplete: there is nothing in its folder `manifest`";
    assert!(read(&store).await.expect_err("incomplete").to_string().starts_with(said));
    let error = Log::open(&store).await.map(drop).expect_err("incomplete");
    assert!(error.to_string().starts_with(said), "{error}");
}

#[tokio::test]
async fn replay_from_a_snapshot_is_replay_from_the_start() {
    let history = history();
    let store = Artefacts::open("memory://").expect("opens");
    let (mut log, _) = Log::open(&store).await.expect("opens");
    for (number, (record, after)) in history.iter().enumerate() {
        log.append(7, record.clone(), after).await.expect("appends");
        let near = (number as u64 + 1) % SNAPSHOT_EVERY;
        if near <= 1 || near == SNAPSHOT_EVERY - 1 || number + 1 == history.len() {
            // What the snapshot and the records after it give is what all records give.
            assert_eq!(&read(&store).await.expect("reads"), after, "after {} records", number + 1);
        }
    }
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused_before_anything_is_written() {
    let faults = Faults::default();
    faults.set(Misbehaviour { ignore_conditions: true, ..Misbehaviour::default() });
    let memory = Artefacts::open("memory://").expect("opens");
    let inner = Arc::new(FaultyStore::new(memory.object_store(), faults));
    let store = Artefacts::with_store(inner, "memory://", memory.place());
    let refused = Log::open(&store).await.err();
    assert!(matches!(&refused, Some(StateError::Store(StoreError::NoConditionalPut { .. }))), "{refused:?}");
    assert_eq!(memory.list("state").await.expect("lists"), []);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn fixture(format: u32) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// Each fixture has two completed runs, a snapshot, and records after it, as the program wrote them at that format.
#[tokio::test]
async fn stores_of_earlier_formats_open_and_go_on() {
    for format in 1..key::STORE_VERSION {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&fixture(format), folder.path());
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        store.check_format().await.expect("the format is known");
        let whole = read(&store).await.expect("reads");
        assert_eq!(whole.runs.len(), 2, "format {format}");
        assert!(whole.runs.values().all(|run| run.state == RunState::Completed && run.blocks.len() > 1));
        assert!(whole.runs.values().all(|run| !run.blocks[0].exports.is_empty()), "format {format}");
        let (mut log, mut durable) = Log::open(&store).await.expect("opens");
        assert_eq!(opened(durable.clone()), opened(whole.clone()), "format {format}");
        // Enough for a snapshot in the present format.
        for number in 0..3 * SNAPSHOT_EVERY {
            durable.replay(Record::Opened, number);
            log.append(number, Record::Opened, &durable).await.expect("goes on");
        }
        log.close().await.expect("closes");
        let found = read(&store).await.expect("reads");
        assert_eq!(found.runs, whole.runs, "format {format}: shards of completed runs are still there");
        assert_eq!(opened(found), opened(durable), "format {format}");
    }
}

/// A take-over reads what may go on; what is completed stays where garbage collection finds it.
#[tokio::test]
async fn shards_of_completed_runs_are_not_read() {
    let store = Artefacts::open("memory://").expect("opens");
    let (mut log, _) = Log::open(&store).await.expect("opens");
    let mut durable = Durable::default();
    for (record, after) in history() {
        durable = after;
        log.append(7, record, &durable).await.expect("appends");
    }
    // More bytes of records than a snapshot takes.
    for _ in 0..8 {
        (0..500).for_each(|number| drop(durable.replay(Record::Opened, number)));
        let records = (0..500).map(|number| (number, Record::Opened)).collect();
        log.append_all(records, &durable).await.expect("appends");
    }
    log.close().await.expect("closes");
    let (_, found) = Log::open(&store).await.expect("takes over");
    assert!(found.runs.values().all(|run| run.shards_gone && run.blocks.iter().all(|block| block.exports.is_empty())));
    let read = read(&store).await.expect("reads");
    assert_eq!(read, durable);
    assert!(read.runs.values().all(|run| !run.blocks[0].exports.is_empty()));
}

/// What a newer program wrote is neither damaged nor to be moved away, and whoever looks at it disturbs nobody.
#[tokio::test]
async fn what_a_newer_program_wrote_is_left_alone() {
    let store = Artefacts::open("memory://").expect("opens");
    let (mut newer, mut durable) = Log::open(&store).await.expect("opens");
    let mut append = async |newer: &mut Log| {
        durable.replay(Record::Opened, 1);
        newer.append(1, Record::Opened, &durable).await
    };
    append(&mut newer).await.expect("appends");
    let newer_format = format!("{{\"version\":{},\"store\":\"s\"}}", key::STORE_VERSION + 1);
    store.put(key::FORMAT, newer_format.into()).await.expect("written");
    let refused = Log::open(&store).await.err().expect("a newer format").to_string();
    assert!(refused.contains("newer bloctrain") && !refused.contains("move"), "{refused}");
    append(&mut newer).await.expect("an older standby does not fence a newer coordinator");
}

#[tokio::test]
async fn a_newer_state_is_its_own_message() {
    let cell = |key: &[u8]| (key == b"version").then(|| Bytes::from((key::STORE_VERSION + 1).to_string()));
    let table = Fixed(Box::new(cell));
    let error = Log::over(Box::new(table)).await.err().expect("newer");
    assert_eq!(error, StateError::Newer { found: key::STORE_VERSION + 1, known: key::STORE_VERSION });
    assert!(error.to_string().contains("newer bloctrain") && !error.to_string().contains("move"), "{error}");
}

/// A table with some cells.
struct Fixed(Lookup);

type Lookup = Box<dyn Fn(&[u8]) -> Option<Bytes> + Send + Sync>;

impl Table for Fixed {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>> {
        Box::pin(async move { Ok((self.0)(key)) })
    }

    fn scan<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn write(&self, _: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Writes the fixture of the present format; run it before the format changes: `cargo test -- --ignored
/// write_the_fixture`.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_fixture() {
    let store = Artefacts::open(fixture(key::STORE_VERSION).to_str().expect("utf-8")).expect("opens");
    store.check_format().await.expect("a new store");
    let (mut log, _) = Log::open(&store).await.expect("opens");
    let history = history();
    for group in history.chunks(16) {
        let records = group.iter().map(|(record, _)| (7, record.clone())).collect();
        log.append_all(records, &group[group.len() - 1].1).await.expect("appends");
    }
    log.close().await.expect("closes");
}
