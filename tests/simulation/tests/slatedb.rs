//! What the real log on SlateDB costs on the virtual clock, and whether it repeats: the measurement behind ADR 0014.
//! Run it with `cargo test --release -p bloctrain-simulation --test slatedb -- --ignored --nocapture`.

use bloctrain_coordinator::durable::Log;
use bloctrain_coordinator::run::durable::Durable;
use bloctrain_coordinator::run::record::Record;
use bloctrain_store::{Artefacts, Place};
use object_store::memory::InMemory;
use std::sync::Arc;

/// Opens a log, appends 100 records one by one, takes it over and closes it. Gives the real milliseconds, the virtual
/// ones, and the keys that the store has in the end.
#[expect(clippy::disallowed_methods, reason = "this measures real time")]
fn once() -> (f64, f64, Vec<String>) {
    let begun = std::time::Instant::now();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let (passed, keys) = runtime.block_on(async {
        let virtual_begun = tokio::time::Instant::now();
        let store = Artefacts::with_store(Arc::new(InMemory::new()), "memory://x", Place::Memory);
        let (mut log, _) = Box::pin(Log::open(&store)).await.expect("opens");
        let mut durable = Durable::default();
        for at in 0..100 {
            durable.replay(Record::Opened, at);
            log.append(at, Record::Opened, &durable).await.expect("appends");
        }
        let (second, found) = Box::pin(Log::open(&store)).await.expect("takes over");
        assert_eq!(found, durable);
        second.close().await.expect("closes");
        let keys = store.list("").await.expect("lists").into_iter().map(|(key, _)| key).collect();
        (virtual_begun.elapsed().as_secs_f64() * 1e3, keys)
    });
    drop(runtime);
    (begun.elapsed().as_secs_f64() * 1e3, passed, keys)
}

#[test]
#[ignore = "a measurement"]
fn slatedb_on_the_virtual_clock() {
    let runs: Vec<_> = (0..5).map(|_| once()).collect();
    for (real, passed, keys) in &runs {
        println!("{real:.1} ms real, {passed:.3} ms virtual, {} objects", keys.len());
    }
    let same = runs.iter().all(|(_, passed, keys)| *passed == runs[0].1 && *keys == runs[0].2);
    println!("every run gives the same objects at the same virtual time: {same}");
}
