//! Faults of processes and of the network between them.

use crate::process::Fleet;
use crate::proxy::Proxy;

#[test]
fn two_workers_undisturbed() {
    let mut fleet = Fleet::new();
    let (coordinator, address) = fleet.coordinator("coordinator", &[]);
    let workers = [fleet.worker("w1", &address), fleet.worker("w2", &address)];
    let run = fleet.submit(&address);
    fleet.finish(&run, "two workers");
    let log = coordinator.log();
    for worker in &workers {
        assert!(
            log.lines().any(|line| line.contains("committed") && line.contains(&worker.name)),
            "{} did nothing",
            worker.name
        );
    }
}

#[test]
fn a_worker_is_killed_while_training() {
    let log = Fleet::new().killed_worker("block1/train/1");
    assert!(log.lines().any(|line| line.contains("fell silent") && line.contains("first")), "no lease was lost");
}

#[test]
fn a_standby_takes_over_and_the_work_in_flight_goes_on() {
    let mut fleet = Fleet::new();
    let (mut active, mut standby, address, both) = fleet.pair("active");
    let mut worker = fleet.worker("w1", &both);
    let run = fleet.submit(&address);
    // What was handed out may not have arrived yet.
    worker.wait_for(&["a task begins", "block1/train/1"]);
    active.kill();
    standby.wait_for(&["is active"]);
    fleet.finish(&run, "a coordinator was killed");
    assert!(
        standby.log().contains("goes on after the coordinator changed"),
        "the worker lost what it did:\n{}",
        worker.log()
    );
}

#[test]
fn a_coordinator_and_a_worker_are_killed_on_object_storage() {
    let Some(mut fleet) = Fleet::on_object_storage() else { return };
    let (mut active, mut standby, address, both) = fleet.pair("active");
    let mut workers = [fleet.worker("w1", &both), fleet.worker("w2", &both)];
    let run = fleet.submit(&address);
    active.wait_for(&["handed out", "block1/train/1"]);
    active.kill();
    standby.wait_for(&["is active"]);
    standby.wait_for(&["committed", "block1"]);
    workers[0].kill();
    fleet.finish(&run, "a coordinator and a worker were killed");
}

#[test]
fn everything_is_killed_and_started_again() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut worker = fleet.worker("w1", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block2/train/0"]);
    coordinator.kill();
    worker.kill();
    let (_coordinator, address) = fleet.coordinator("again", &[]);
    let _worker = fleet.worker("w2", &address);
    fleet.finish(&run, "everything was killed");
}

#[test]
fn a_stopped_worker_comes_back_with_an_old_lease() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut zombie = fleet.worker("zombie", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1", "zombie"]);
    zombie.signal("-STOP");
    let _other = fleet.worker("other", &address);
    coordinator.wait_for(&["fell silent", "zombie"]);
    coordinator.wait_for(&["handed out", "block1/train/1", "other"]);
    zombie.signal("-CONT");
    fleet.finish(&run, "a zombie came back");
    assert!(zombie.child.try_wait().expect("a child").is_none(), "the zombie should live on and work again");
    let commits =
        coordinator.log().lines().filter(|line| line.contains("committed") && line.contains("block1/train/1")).count();
    assert_eq!(commits, 1, "R-1");
}

#[test]
fn a_stopped_coordinator_comes_back_after_its_standby_took_over() {
    let mut fleet = Fleet::new();
    let (mut zombie, mut standby, address, both) = fleet.pair("zombie");
    let worker = fleet.worker("w1", &both);
    let run = fleet.submit(&address);
    zombie.wait_for(&["handed out", "block1/train/1"]);
    zombie.signal("-STOP");
    standby.wait_for(&["is active"]);
    standby.wait_for(&["committed", "block1/train/1"]);
    zombie.signal("-CONT");
    fleet.finish(&run, "a stopped coordinator came back");
    assert_eq!(zombie.child.wait().expect("ended").code(), Some(1), "R-3: it has to stop:\n{}", zombie.log());
    assert!(!zombie.log().contains("committed block1/train/1"), "R-3");
    assert!(worker.log().contains("registered"));
}

#[test]
fn a_preempted_worker_writes_a_checkpoint_and_hands_back() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut spot = fleet.worker("spot", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1", "spot"]);
    spot.signal("-TERM");
    assert!(spot.child.wait().expect("ended").success(), "{}", spot.log());
    let _other = fleet.worker("other", &address);
    fleet.finish(&run, "a worker was preempted");
    assert_eq!(fleet.show(&run)["blocks"][0]["rounds"], 3, "the second of two epochs was cut by a checkpoint");
}

#[test]
fn a_worker_is_cut_off_and_comes_back() {
    let mut fleet = Fleet::new();
    let (proxy, listener) = Proxy::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &["--advertise", &proxy.address]);
    proxy.serve(listener, &address);
    let mut far = fleet.worker("far", &proxy.address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1", "far"]);
    proxy.cut(true);
    let _near = fleet.worker("near", &address);
    coordinator.wait_for(&["fell silent", "far"]);
    coordinator.wait_for(&["handed out", "block1/train/1", "near"]);
    assert!(proxy.held() > 0, "nothing was cut");
    proxy.cut(false);
    fleet.finish(&run, "a partition");
    assert!(far.child.try_wait().expect("a child").is_none(), "the worker should live on");
}

#[test]
fn a_paused_run_stands_still_and_a_cancelled_one_ends() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let _worker = fleet.worker("w1", &address);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/0"]);
    let order = |verb: &str| {
        let output = fleet.run(&[verb, &run, "--coordinator", &address]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    order("pause");
    coordinator.wait_for(&["committed", "block1/train/0"]);
    assert_eq!(fleet.show(&run)["state"]["state"], "paused");
    assert!(!coordinator.log().contains("block1/train/1"), "a task was handed out");
    order("resume");
    fleet.finish(&run, "a pause");
    assert!(coordinator.log().contains("block1/train/1"));
    let other = [&["submit", "--coordinator", &address, "--set", "run.seed=2"], crate::process::spec()].concat();
    let second = String::from_utf8(fleet.run(&other).stdout).expect("utf-8").trim().to_owned();
    coordinator.wait_for(&["handed out", &second]);
    let output = fleet.run(&["cancel", &second, "--coordinator", &address]);
    assert!(output.status.success());
    let watched = fleet.run(&["watch", &second, "--coordinator", &address]);
    assert!(String::from_utf8_lossy(&watched.stderr).contains("was cancelled"));
}
