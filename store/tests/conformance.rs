//! One suite for every kind of store: what the rest of the program relies on, whatever keeps the objects.

mod common;

use bloctrain_shared::spike::SpikeDims;
use bloctrain_shared::task::{ObjectRef, Split};
use bloctrain_shared::{Digest, key};
use bloctrain_store::cache::{self, CacheMeta, SpikeShard};
use bloctrain_store::testing::{Faults, FaultyStore, Misbehaviour};
use bloctrain_store::{Artefacts, Created, ErrorKind, LARGE_BYTES, PART_BYTES, RetryPolicy, StoreError};
use bytes::Bytes;
use common::impatient;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use std::sync::Arc;
use std::time::Duration;

macro_rules! suite {
    ($backend:ident: $($property:ident),+ $(,)?) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $property() {
                    let Some(fresh) = super::common::open(stringify!($backend)) else { return };
                    Box::pin(super::$property(fresh.store.clone())).await;
                }
            )+
        }
    };
}

macro_rules! on_every_store {
    ($($backend:ident),+ => $properties:tt) => { $( on_every_store!(@one $backend $properties); )+ };
    (@one $backend:ident [$($property:ident),+ $(,)?]) => { suite!($backend: $($property),+); };
}

on_every_store!(memory, folder, minio, moto, azurite => [
    objects_come_back_as_they_were_written,
    damage_is_never_returned,
    put_if_absent_has_one_winner,
    the_probe_passes_and_the_format_is_kept,
    large_objects_travel_in_parts_and_appear_at_once,
    ranges_are_the_bytes_asked_for,
    listings_are_complete_sorted_and_within_their_prefix,
    a_cached_shard_survives,
    every_operation_survives_faults,
    a_lost_answer_is_recognised,
    an_outage_is_outlasted,
]);

/// Content that no part of repeats.
fn content(bytes: usize, salt: u64) -> Bytes {
    let mut content = Vec::with_capacity(bytes + 32);
    let mut block = 0_u64;
    while content.len() < bytes {
        content.extend_from_slice(Digest::of_parts(&[&salt.to_le_bytes(), &block.to_le_bytes()]).as_bytes());
        block += 1;
    }
    content.truncate(bytes);
    Bytes::from(content)
}

fn faulty(store: &Artefacts, misbehaviour: Misbehaviour) -> (Artefacts, Faults) {
    let faults = Faults::default();
    faults.set(misbehaviour);
    let inner = Arc::new(FaultyStore::new(store.object_store(), faults.clone()));
    (Artefacts::with_store(inner, store.location(), store.place()).with_retry(impatient()), faults)
}

async fn objects_come_back_as_they_were_written(store: Artefacts) {
    for (key, bytes) in [("a", 0), ("runs/x y/block1/ä-weights.safetensors", 1), ("runs/a/b/c/d", 70_000)] {
        let bytes = content(bytes, 1);
        assert!(!store.exists(key).await.expect("asks"));
        let object = store.put(key, bytes.clone()).await.expect("writes");
        assert_eq!(object, ObjectRef { key: key.into(), digest: Digest::of(&bytes), bytes: bytes.len() as u64 });
        assert_eq!(store.get(&object).await.expect("reads"), bytes);
        assert_eq!(store.get_unverified(key).await.expect("reads"), bytes);
        let second = store.put(key, Bytes::from_static(b"other")).await.expect("replaces");
        assert_eq!(store.get(&second).await.expect("reads"), Bytes::from_static(b"other"));
        assert!(store.exists(key).await.expect("asks"));
        store.delete(key).await.expect("removes");
        store.delete(key).await.expect("removing twice is fine");
        assert!(!store.exists(key).await.expect("asks"));
        assert_eq!(store.get(&object).await, Err(StoreError::Missing { key: key.into() }));
    }
}

async fn damage_is_never_returned(store: Artefacts) {
    let object = store.put("a/b", content(1000, 2)).await.expect("writes");
    for damaged in [content(1000, 3), content(999, 2), Bytes::new()] {
        store.put("a/b", damaged).await.expect("writes");
        let error = store.get(&object).await.expect_err("it is damaged");
        assert!(matches!(&error, StoreError::Damaged { key, .. } if key == "a/b"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InputLost);
    }
}

async fn put_if_absent_has_one_winner(store: Artefacts) {
    let first = content(100, 4);
    assert_eq!(store.create("once", first.clone()).await, Ok(Created::Written));
    assert_eq!(store.create("once", first.clone()).await, Ok(Created::Identical));
    assert_eq!(store.create("once", content(100, 5)).await, Ok(Created::Different));
    assert_eq!(store.get_unverified("once").await, Ok(first));
    let contenders = (0..8_u64).map(|number| {
        let store = store.clone();
        async move { (number, store.create("race", content(50, number)).await.expect("answers")) }
    });
    let answers: Vec<(u64, Created)> = futures::future::join_all(contenders).await;
    let winners: Vec<u64> =
        answers.iter().filter(|(_, created)| *created == Created::Written).map(|(number, _)| *number).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert_eq!(store.get_unverified("race").await, Ok(content(50, winners[0])));
}

async fn the_probe_passes_and_the_format_is_kept(store: Artefacts) {
    for _ in 0..2 {
        store.check_format().await.expect("current");
        store.probe().await.expect("conditional writes work");
        store.upgrade_format().await.expect("nothing to do");
    }
    store.put(key::FORMAT, Bytes::from_static(b"{\"version\":99}")).await.expect("writes");
    let error = store.check_format().await.expect_err("newer");
    assert!(
        error.to_string().contains("format version 99") && error.to_string().contains("newer bloctrain"),
        "{error}"
    );
    let (broken, _) = faulty(&store, Misbehaviour { ignore_conditions: true, ..Misbehaviour::default() });
    let error = broken.probe().await.expect_err("conditions are ignored");
    assert!(matches!(&error, StoreError::NoConditionalPut { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Fatal);
}

async fn large_objects_travel_in_parts_and_appear_at_once(store: Artefacts) {
    let bytes = content(LARGE_BYTES + PART_BYTES / 2 + 7, 6);
    let object = store.put("large", bytes.clone()).await.expect("writes");
    assert!(store.get(&object).await.expect("reads") == bytes);
    store.put("large", content(LARGE_BYTES + 1, 6)).await.expect("writes");
    assert!(matches!(store.get(&object).await, Err(StoreError::Damaged { .. })), "another size");
    let raw = store.object_store();
    let path = Path::from("half");
    let mut upload = raw.put_multipart(&path).await.expect("begins");
    upload.put_part(PutPayload::from(content(PART_BYTES, 7))).await.expect("sends");
    assert!(!store.exists("half").await.expect("asks"), "half an upload is not visible");
    assert_eq!(store.list("half").await.expect("lists"), []);
    upload.abort().await.expect("stops");
    assert!(!store.exists("half").await.expect("asks"));
    // Memory has no parts to lose; elsewhere a failed part must leave nothing.
    let (refusing, faults) = faulty(&store, Misbehaviour { seed: 1, refuse: 0.5, ..Misbehaviour::default() });
    let refusing = refusing.with_retry(RetryPolicy { patience: Duration::ZERO, ..impatient() });
    let mut failed = 0;
    for number in 0..4 {
        let key = format!("refused{number}");
        if refusing.put(&key, bytes.clone()).await.is_err() {
            failed += 1;
            assert!(!store.exists(&key).await.expect("asks"), "a failed upload is not visible");
        }
    }
    assert!(failed > 0 && faults.injected().refused > 0);
}

async fn ranges_are_the_bytes_asked_for(store: Artefacts) {
    let bytes = content(1000, 8);
    store.put("ranged", bytes.clone()).await.expect("writes");
    let (raw, path) = (store.object_store(), Path::from("ranged"));
    for range in [0..1, 0..1000, 37..512, 999..1000] {
        let read = raw.get_range(&path, range.clone()).await.expect("reads");
        assert_eq!(read, bytes.slice(range.start as usize..range.end as usize));
    }
}

async fn listings_are_complete_sorted_and_within_their_prefix(store: Artefacts) {
    // Servers answer a thousand keys at a time.
    let keys: Vec<String> = (0..1_050).map(|number| format!("cache/{:04}.arrow", number * 7919 % 1_050)).collect();
    let write = |key: String| {
        let store = store.clone();
        async move { store.put(&key, Bytes::from_static(b"12")).await.expect("writes") }
    };
    futures::stream::iter(keys.clone()).map(write).buffer_unordered(16).collect::<Vec<_>>().await;
    store.put("cache2/other", Bytes::from_static(b"1")).await.expect("writes");
    let mut sorted: Vec<(String, u64)> = keys.into_iter().map(|key| (key, 2)).collect();
    sorted.sort();
    assert_eq!(store.list("cache").await.expect("lists"), sorted);
    assert_eq!(store.list("nothing/here").await.expect("lists"), []);
    assert_eq!(store.list("").await.expect("lists").len(), 1_051);
    assert!(store.list_objects("cache2").await.expect("lists")[0].modified_ms > 1_600_000_000_000);
}

async fn a_cached_shard_survives(store: Artefacts) {
    let dims = SpikeDims { steps: 2, channels: 9, height: 3, width: 2 };
    let meta = CacheMeta {
        dims,
        blocks: vec![Digest::of(b"weights")],
        dataset: Digest::of(b"data"),
        encoding: "{}".into(),
        seed: 7,
        split: Split::Train,
        view: 0,
        arithmetic: 1,
        backend: "cpu".into(),
    };
    let packed = vec![1; 5 * dims.packed_bytes()];
    let shard = SpikeShard { meta, ids: vec![3, 1, 4, 0, 9], labels: vec![0, 1, 0, 1, 0], packed };
    let identity = shard.meta.identity(&shard.ids);
    assert_eq!(cache::lookup(&store, identity).await, Ok(None));
    let manifest = cache::write(&store, &shard).await.expect("writes");
    assert_eq!(cache::lookup(&store, identity).await, Ok(Some(manifest.clone())));
    assert_eq!(cache::read(&store, &manifest.object).await, Ok(shard));
    assert_eq!(cache::list(&store).await, Ok(vec![manifest]));
}

async fn every_operation_survives_faults(store: Artefacts) {
    let mut injected = bloctrain_store::testing::Injected::default();
    for seed in 0..6 {
        let misbehaviour = Misbehaviour {
            seed,
            refuse: 0.2,
            lose_answer: 0.2,
            slow: 0.2,
            delay: Duration::from_millis(2),
            break_off: 0.2,
            damage: 0.05,
            ..Misbehaviour::default()
        };
        let (shaky, faults) = faulty(&store, misbehaviour);
        let mut objects = Vec::new();
        for number in 0..12 {
            let key = format!("faults/{seed}/{number}");
            let bytes = content(200 + number, seed);
            let object = shaky.put(&key, bytes.clone()).await.expect("outlasts the faults");
            objects.push((object, bytes));
        }
        for (object, bytes) in &objects {
            // What arrives damaged twice in a row is reported, never returned.
            match shaky.get(object).await {
                Ok(read) => assert_eq!(read, *bytes),
                Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
            }
            assert_eq!(store.get(object).await.as_ref(), Ok(bytes), "what was written is whole");
        }
        assert_eq!(shaky.list(&format!("faults/{seed}")).await.expect("lists").len(), objects.len());
        for (object, _) in &objects {
            shaky.delete(&object.key).await.expect("outlasts the faults");
        }
        assert_eq!(store.list(&format!("faults/{seed}")).await, Ok(Vec::new()));
        let now = faults.injected();
        injected.refused += now.refused;
        injected.lost_answers += now.lost_answers;
        injected.broken_off += now.broken_off;
        injected.damaged += now.damaged;
        injected.slow += now.slow;
    }
    let all = [injected.refused, injected.lost_answers, injected.broken_off, injected.damaged, injected.slow];
    assert!(all.iter().all(|&count| count > 0), "each fault happened: {injected:?}");
}

async fn a_lost_answer_is_recognised(store: Artefacts) {
    let (shaky, faults) = faulty(&store, Misbehaviour { lose_answer: 1.0, ..Misbehaviour::default() });
    let bytes = content(100, 9);
    assert_eq!(shaky.create("lost", bytes.clone()).await, Ok(Created::Identical), "written, and its answer lost");
    assert_eq!(faults.injected().lost_answers, 1);
    assert_eq!(store.get_unverified("lost").await, Ok(bytes));
    assert_eq!(shaky.create("lost", content(100, 10)).await, Ok(Created::Different));
}

async fn an_outage_is_outlasted(store: Artefacts) {
    let (shaky, faults) = faulty(&store, Misbehaviour { down: true, ..Misbehaviour::default() });
    let task = tokio::spawn({
        let shaky = shaky.clone();
        async move { shaky.put("late", content(10, 11)).await }
    });
    while faults.injected().down < 5 {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished());
    faults.change(|misbehaviour| misbehaviour.down = false);
    assert!(task.await.expect("no panic").is_ok());
    faults.change(|misbehaviour| misbehaviour.down = true);
    let brief = shaky.with_retry(RetryPolicy { patience: Duration::from_millis(20), ..impatient() });
    let error = brief.exists("late").await.expect_err("down for longer than its patience");
    assert_eq!(error.kind(), ErrorKind::Retry);
}
