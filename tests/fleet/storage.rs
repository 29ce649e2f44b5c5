//! Object storage that fails for a while, and commands that read models from it. Skipped, and said so, without a
//! server.

use crate::common::stderr;
use crate::process::{Fleet, wait_until};
use crate::proxy::Proxy;
use std::time::{Duration, Instant};

/// Longer than a lease (2 s): what the store does must not cost one.
const OUTAGE: Duration = Duration::from_secs(6);

#[test]
#[ignore = "one of the longer ones"]
fn a_store_that_answers_503_for_some_seconds() {
    let (proxy, listener) = Proxy::new();
    let Some(mut fleet) = Fleet::behind(&proxy, listener) else { return };
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut worker = fleet.worker("w1", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1"]);
    out_for_a_while(|out| proxy.refuse(out));
    assert!(proxy.refused() > 0, "nothing was refused");
    fleet.finish(&run, "the store answered 503");
    assert!(!coordinator.log().contains("fell silent"), "a lease was lost to the store:\n{}", coordinator.log());
    assert!(
        worker.child.try_wait().expect("a child").is_none() && coordinator.child.try_wait().expect("a child").is_none()
    );
}

#[test]
#[ignore = "one of the longer ones"]
fn a_store_that_does_not_answer_for_some_seconds() {
    let (proxy, listener) = Proxy::new();
    let Some(mut fleet) = Fleet::behind(&proxy, listener) else { return };
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let _worker = fleet.worker("w1", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1"]);
    out_for_a_while(|out| proxy.cut(out));
    assert!(proxy.held() > 0, "nothing was held back");
    fleet.finish(&run, "the store did not answer");
}

#[expect(clippy::disallowed_methods, reason = "an outage takes real time")]
fn out_for_a_while(mut switch: impl FnMut(bool)) {
    switch(true);
    let begun = Instant::now();
    wait_until("the end of the outage", || begun.elapsed() > OUTAGE);
    switch(false);
}

#[test]
fn models_are_read_from_object_storage_and_workers_of_a_machine_share_a_cache() {
    let Some(mut fleet) = Fleet::on_object_storage() else { return };
    let (_coordinator, address) = fleet.coordinator("coordinator", &[]);
    let cache = ["--cache-dir", "cache", "--cache-size", "64MiB"];
    let worker = |name| [&["worker", "--coordinator", &address, "--name", name], cache.as_slice()].concat();
    let _workers = [fleet.start("w1", &worker("w1")), fleet.start("w2", &worker("w2"))];
    let run = fleet.submit(&address);
    fleet.finish(&run, "two workers with one cache");
    let cached = std::fs::read_dir(fleet.path().join("cache")).expect("a cache").count();
    assert!(cached > 3, "{cached} files are cached");
    let model = format!("{}/models/{run}", fleet.store());
    let json = |args: &[&str]| -> serde_json::Value {
        let output = fleet.run(args);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let shown = fleet.show(&run);
    assert_eq!(json(&["eval", &model, "--json"])["accuracy"], shown["summary"]["accuracy"]["test"]);
    assert!(json(&["curve", &model, "--json"])["points"].as_array().is_some_and(|points| !points.is_empty()));
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/ankle-boot.png");
    assert!(json(&["predict", &model, image, "--json"])[0]["class"].is_string());
    let absent = fleet.run(&["eval", &format!("{}/models/none", fleet.store())]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("/models/none/model.json"), "{}", stderr(&absent));
}
