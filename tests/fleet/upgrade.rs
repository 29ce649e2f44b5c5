//! A fleet of two versions: the program of before, which `BLOCTRAIN_OLD` names (`scripts/rolling-upgrade` builds it),
//! is replaced by this one while a run goes on.

use crate::process::Fleet;
use std::path::PathBuf;

/// The program of before. The test asks for it by name, so that without one it fails.
fn old() -> PathBuf {
    std::env::var_os("BLOCTRAIN_OLD")
        .expect("BLOCTRAIN_OLD names a bloctrain of before: scripts/rolling-upgrade")
        .into()
}

#[test]
#[ignore = "needs a program of before: scripts/rolling-upgrade"]
fn a_run_goes_on_under_a_newer_program() {
    let mut fleet = Fleet::new();
    fleet.program(Some(old()));
    let (mut active, address) = fleet.coordinator("old", &[]);
    active.wait_for(&["is active"]);
    let mut worker = fleet.worker("old-worker", &address);
    let run = fleet.submit(&address);
    active.wait_for(&["handed out", "block1/train/1"]);
    fleet.program(None);
    let (mut standby, newer) = fleet.coordinator("new", &["--standby"]);
    active.kill();
    standby.wait_for(&["is active"]);
    worker.kill();
    let _worker = fleet.worker("new-worker", &newer);
    fleet.finish(&run, "the fleet was upgraded");
}

#[test]
#[ignore = "needs a program of before: scripts/rolling-upgrade"]
fn a_standby_of_before_leaves_a_newer_state_alone() {
    let mut fleet = Fleet::new();
    let (mut active, address) = fleet.coordinator("new", &[]);
    active.wait_for(&["is active"]);
    let _worker = fleet.worker("worker", &address);
    fleet.program(Some(old()));
    // It is started by hand, and takes over at once where it may.
    let mut older =
        fleet.start("old", &["coordinator", "--store", fleet.store().to_owned().as_str(), "--listen", "127.0.0.1:0"]);
    let ended = older.child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(1), "{}", older.log());
    assert!(older.log().contains("newer bloctrain"), "{}", older.log());
    fleet.program(None);
    let run = fleet.submit(&address);
    fleet.finish(&run, "an older coordinator was started beside it");
    assert!(active.child.try_wait().expect("a child").is_none(), "nobody fenced it:\n{}", active.log());
}
