//! Second attempts at tasks that take too long.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn beat(state: &mut State, now: u64, worker: u64, task: &Task, lease_epoch: u64) -> Result<Vec<Effect>, Rejected> {
    let (run, task, progress) = (task.run.clone(), task.id, Progress::default());
    state.apply(now, Event::Heartbeat { worker, run, task, lease_epoch, progress })
}

/// A run whose worker did three rounds of 300 ms each and began a fourth, and a time when that takes too long.
fn straggling() -> (State, u64, (Task, u64), u64) {
    let (mut state, _, slow) = started(6, 0);
    for round in 0..3 {
        let (task, lease) = ask(&mut state, 300 * round, slow).expect("a round");
        report(&mut state, 300 * (round + 1), slow, &task, lease, Ok(output(&task, 6))).expect("accepted");
    }
    let held = ask(&mut state, 900, slow).expect("the fourth round");
    for now in [1400, 1600] {
        beat(&mut state, now, slow, &held.0, held.1).expect("alive");
        state.apply(now, Event::Tick).expect("time passes");
    }
    (state, slow, held, 1600)
}

#[test]
fn an_idle_worker_does_a_late_task_too_and_the_first_to_report_wins() {
    for backup_wins in [true, false] {
        let (mut state, slow, (task, lease), now) = straggling();
        let idle = named(&mut state, "idle");
        let (same, second) = ask(&mut state, now, idle).expect("the same round");
        assert_eq!(same, task);
        assert_eq!(
            state.view(&task.run).expect("a run").attempts.iter().map(|attempt| attempt.backup).collect::<Vec<_>>(),
            [false, true]
        );
        let third = named(&mut state, "third");
        state.apply(now, Event::Tick).expect("time passes");
        assert!(ask(&mut state, now, third).is_none(), "one backup is enough");
        beat(&mut state, now, slow, &task, lease).expect("both live");
        beat(&mut state, now, idle, &task, second).expect("both live");
        let (first, late) = if backup_wins { ((idle, second), (slow, lease)) } else { ((slow, lease), (idle, second)) };
        report(&mut state, now, first.0, &task, first.1, Ok(output(&task, 6))).expect("the first is accepted");
        let before = state.clone();
        assert_eq!(
            report(&mut state, now, late.0, &task, late.1, Ok(output(&task, 6))),
            Err(Rejected::Committed(task.id)),
            "R-1"
        );
        assert_eq!(
            beat(&mut state, now, late.0, &task, late.1),
            Err(Rejected::Stale(task.id)),
            "R-3: it is told to drop it"
        );
        assert_eq!(state, before, "R-5");
        let next = ask(&mut state, now, first.0).expect("the next round");
        assert_eq!(next.0.id.part, 4, "who was first has the block in memory");
    }
}

#[test]
fn a_backup_goes_on_alone_when_the_first_attempt_is_lost_and_the_other_way_round() {
    for lost in [true, false] {
        let (mut state, slow, (task, lease), now) = straggling();
        let idle = named(&mut state, "idle");
        let (_, second) = ask(&mut state, now, idle).expect("the same round");
        let (gone, alone) = if lost { (slow, (idle, second)) } else { (idle, (slow, lease)) };
        state.apply(now, Event::Left { worker: gone }).expect("known");
        report(&mut state, now, alone.0, &task, alone.1, Ok(output(&task, 6))).expect("accepted");
    }
}

#[test]
fn a_task_gets_no_backup_from_those_who_may_not_take_it_nor_while_others_are_open() {
    let (mut state, slow, (task, _), now) = straggling();
    let slow_idle = ask(&mut state, now, slow);
    assert_eq!(
        slow_idle.map(|(again, _)| again.id),
        Some(task.id),
        "who asks again has dropped it: it is an open task"
    );
    let (mut state, _, (task, _), now) = straggling();
    state.apply(now, Event::Registered(Box::new(newcomer("gpu", "cuda")))).expect("known");
    assert!(ask(&mut state, now, 2).is_none(), "another backend");
    let idle = named(&mut state, "idle");
    state.apply(now, Event::Paused { run: task.run.clone() }).expect("paused");
    assert!(ask(&mut state, now, idle).is_none(), "a paused run gives nothing");
}

#[test]
fn a_task_that_takes_as_long_as_others_gets_no_backup() {
    let (mut state, _, slow) = started(6, 0);
    let idle = named(&mut state, "idle");
    for round in 0..4 {
        let (task, lease) = ask(&mut state, 900 * round, slow).expect("a round");
        beat(&mut state, 900 * round + 800, slow, &task, lease).expect("alive");
        state.apply(900 * round + 800, Event::Tick).expect("time passes");
        assert!(ask(&mut state, 900 * round + 800, idle).is_none());
        report(&mut state, 900 * (round + 1), slow, &task, lease, Ok(output(&task, 6))).expect("accepted");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u64),
    Report(u64),
    Fail(u64),
    Old(prop::sample::Index),
    Beat,
    Wait(u64),
    Leave(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 1_u64..5;
    let step = prop_oneof![
        10 => worker().prop_map(Step::Ask),
        6 => worker().prop_map(Step::Report),
        1 => worker().prop_map(Step::Fail),
        2 => any::<prop::sample::Index>().prop_map(Step::Old),
        6 => Just(Step::Beat),
        6 => (50_u64..700).prop_map(Step::Wait),
        1 => worker().prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 0..150)
}

/// Which attempts hold their leases, by what was granted and what ended since: what the state has to agree with.
type Granted = Vec<(u64, Task, u64)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// with two attempts at a task, over any events.
    #[test]
    fn invariants_hold_with_backups(steps in steps()) {
        let (mut state, run, _) = started(5, 0);
        for name in ["x", "y", "z"] {
            named(&mut state, name);
        }
        let (mut now, mut granted, mut committed) = (0, Granted::new(), BTreeSet::new());
        let mut decided: BTreeMap<usize, LabelMap> = BTreeMap::new();
        for step in steps {
            let before = state.clone();
            let held = |worker: u64| before.attempts.of_worker(worker).and_then(|attempt| {
                granted.iter().rev().find(|(_, _, lease)| *lease == attempt.lease_epoch).cloned()
            });
            let reported = |(worker, task, lease_epoch): (u64, Task, u64), right: bool| {
                let result = if right { Ok(output(&task, 5)) } else { Err(Failure::Transient { message: "x".into() }) };
                Event::Reported { worker, run: task.run.clone(),
                    report: Box::new(Report { task: task.id, lease_epoch, seconds: 0.0, inputs: None, result }) }
            };
            let event = match &step {
                Step::Ask(worker) => Event::Asked { worker: *worker },
                Step::Report(worker) => held(*worker).map_or(Event::Tick, |held| reported(held, true)),
                Step::Fail(worker) => held(*worker).map_or(Event::Tick, |held| reported(held, false)),
                Step::Old(index) if !granted.is_empty() => reported(index.get(&granted).clone(), true),
                Step::Leave(worker) => Event::Left { worker: *worker },
                Step::Wait(passed) => {
                    now += passed;
                    Event::Tick
                }
                Step::Beat => {
                    for (worker, task, lease) in granted.clone() {
                        let is_live = state.attempts.get(lease).is_some();
                        prop_assert_eq!(beat(&mut state, now, worker, &task, lease).is_ok(), is_live,
                            "R-3: only a live lease is kept alive");
                    }
                    continue;
                }
                Step::Old(_) => Event::Tick,
            };
            let live = match &event {
                Event::Reported { worker, report, .. } => before.attempts.get(report.lease_epoch)
                    .is_some_and(|attempt| attempt.worker == *worker),
                _ => true,
            };
            match state.apply(now, event) {
                Err(_) => prop_assert_eq!(&state, &before, "R-5"),
                Ok(effects) => {
                    prop_assert!(live, "R-3: a report without a lease was accepted");
                    for effect in effects {
                        match effect {
                            Effect::Persist(Record::Committed { task, .. }) => {
                                prop_assert!(committed.insert(task), "R-1: {} was committed twice", task);
                                prop_assert_eq!(state.attempts.of_task(&run, task).count(), 0,
                                    "R-1: the others have lost");
                            }
                            Effect::Grant { worker, lease_epoch, task } => {
                                prop_assert!(!before.durable.runs[&run].is_committed(task.id), "R-1");
                                prop_assert!(before.durable.runs[&run].open_tasks().contains(&task), "R-4");
                                granted.push((worker, *task, lease_epoch));
                            }
                            _ => {}
                        }
                    }
                }
            }
            check_choice(&state, now)?;
            let workers: Vec<u64> = state.attempts.iter().map(|attempt| attempt.worker).collect();
            prop_assert_eq!(workers.iter().collect::<BTreeSet<_>>().len(), workers.len(), "a worker has one task");
            for attempt in state.attempts.iter() {
                let both = state.attempts.of_task(&run, attempt.task).count();
                prop_assert!(both <= 2 && (both == 1
                    || state.attempts.of_task(&run, attempt.task).filter(|attempt| attempt.backup).count() >= 1));
            }
            for (index, block) in state.durable.runs[&run].blocks.iter().enumerate() {
                if let Some(hard) = &block.hard {
                    prop_assert_eq!(decided.entry(index).or_insert_with(|| hard.clone()), hard, "R-6");
                }
            }
        }
    }
}
