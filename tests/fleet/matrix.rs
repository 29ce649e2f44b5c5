//! The longer faults: every kind of stage, more processes at once, and the same on object storage.
//!
//! `scripts/fleet-matrix` runs them; where `BLOCTRAIN_TEST_S3` names a server, on that as well.

use crate::process::Fleet;

/// Times that a fault may come too late before the test gives up.
const TRIES: usize = 8;

/// Kills the worker that holds the first task whose name begins so, and says whether it held such a task when it died.
fn killed_in(mut fleet: Fleet, task: &str) -> bool {
    let log = fleet.killed_worker(task);
    // Its lease ends by silence, or by a backup attempt that was faster.
    let mut own = log
        .lines()
        .filter(|line| line.contains("first") && (line.contains("handed out") || line.contains("committed")));
    own.next_back().is_some_and(|line| line.contains("handed out") && line.contains(task))
}

/// Until the worker died within the stage: some take only a few hundredths of a second.
fn killed_while(task: &str) {
    let local = || Some(Fleet::new());
    assert!((0..TRIES).any(|_| killed_in(local().expect("a folder"), task)), "the fault did not fire in {task}");
    if let Some(first) = Fleet::on_object_storage() {
        let rest = std::iter::repeat_with(|| Fleet::on_object_storage().expect("it was there"));
        let fired = std::iter::once(first).chain(rest).take(TRIES).any(|fleet| killed_in(fleet, task));
        assert!(fired, "the fault did not fire in {task} on object storage");
    }
}

macro_rules! killed_while {
    ($($name:ident: $task:literal),+ $(,)?) => { $(
        #[test]
        #[ignore = "one of the longer ones"]
        fn $name() {
            killed_while($task);
        }
    )+ };
}

killed_while! {
    a_worker_is_killed_while_training_a_first_block: "block1/train/1",
    a_worker_is_killed_while_validating: "block1/validate/",
    a_worker_is_killed_while_exporting: "block1/export/",
    a_worker_is_killed_while_detecting: "block1/detect/0",
    a_worker_is_killed_while_training_a_deeper_block: "block2/train/0",
    a_worker_is_killed_while_evaluating: "evaluate/",
    a_worker_is_killed_while_finishing: "finish/0",
}

/// The coordinator and the worker that trains die at the same moment; a standby and a worker that joins late go on.
fn coordinator_and_worker_die(mut fleet: Fleet) {
    let (mut active, mut standby, address, both) = fleet.pair("active");
    let mut first = fleet.worker("first", &both);
    let run = fleet.submit(&address);
    active.wait_for(&["handed out", "block1/train/1"]);
    first.kill();
    active.kill();
    let _late = fleet.worker("late", &both);
    standby.wait_for(&["is active"]);
    standby.wait_for(&["handed out", "block1/train/1", "late"]);
    fleet.finish(&run, "a coordinator and a worker died at once");
}

#[test]
#[ignore = "one of the longer ones"]
fn a_coordinator_and_a_worker_are_killed_at_once() {
    coordinator_and_worker_die(Fleet::new());
    Fleet::on_object_storage().into_iter().for_each(coordinator_and_worker_die);
}

/// Every process dies, in a deep block; the store is all that is left.
fn everything_dies(mut fleet: Fleet) {
    let (mut active, mut standby, address, both) = fleet.pair("active");
    let mut workers = [fleet.worker("w1", &both), fleet.worker("w2", &both)];
    let run = fleet.submit(&address);
    active.wait_for(&["handed out", "block2/train/0"]);
    active.kill();
    standby.kill();
    workers.iter_mut().for_each(crate::process::Process::kill);
    let (mut again, address) = fleet.coordinator("again", &[]);
    let _worker = fleet.worker("w3", &address);
    again.wait_for(&["handed out", "block2/train/0", "w3"]);
    fleet.finish(&run, "everything was killed");
    assert!(!again.log().contains("block1/train"), "R-7: more than the tasks in flight was done again");
}

#[test]
#[ignore = "one of the longer ones"]
fn everything_is_killed_at_once() {
    everything_dies(Fleet::new());
    Fleet::on_object_storage().into_iter().for_each(everything_dies);
}

#[test]
#[ignore = "one of the longer ones"]
fn four_workers_undisturbed_and_two_that_join_late() {
    for (before, late) in [(4, 0), (1, 2)] {
        let mut fleet = Fleet::new();
        let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
        let mut workers: Vec<_> = (0..before).map(|number| fleet.worker(&format!("w{number}"), &address)).collect();
        let run = fleet.submit(&address);
        coordinator.wait_for(&["committed", "block1/train/0"]);
        workers.extend((0..late).map(|number| fleet.worker(&format!("late{number}"), &address)));
        fleet.finish(&run, &format!("{before} workers and {late} late ones"));
        let log = coordinator.log();
        for worker in &workers {
            let worked = log.lines().any(|line| line.contains("committed") && line.contains(&worker.name));
            assert!(worked, "{} did nothing", worker.name);
        }
    }
}

#[test]
#[ignore = "one of the longer ones"]
fn a_preempted_worker_without_grace_hands_back_at_once() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let mut spot = fleet.start("spot", &["worker", "--coordinator", &address, "--name", "spot", "--grace", "0s"]);
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "block1/train/1", "spot"]);
    spot.signal("-TERM");
    assert!(spot.child.wait().expect("ended").success(), "{}", spot.log());
    let _other = fleet.worker("other", &address);
    fleet.finish(&run, "a worker was preempted without grace");
    let handed_back = coordinator.log().lines().any(|line| line.contains("handed back") && line.contains("spot"));
    assert!(handed_back, "the lease was not given back:\n{}", coordinator.log());
}
