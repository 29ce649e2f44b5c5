//! Tasks that take their workers down with them, or that no worker has the memory for.

use super::*;
use crate::run::replay::{MAX_LOST_LEASES, MAX_LOST_WORKERS};

/// A worker takes a task and is never heard of again.
fn dies(state: &mut State, now: &mut u64, name: &str) -> Option<String> {
    let worker = named(state, name);
    let task = ask(state, *now, worker).map(|(task, _)| task.id.to_string());
    *now += 4 * LEASE;
    state.apply(*now, Event::Tick).expect("never refused");
    task
}

#[test]
fn a_task_that_ends_its_workers_fails_the_run_with_what_is_known_of_them() {
    let (mut state, run, _) = started(1, 0);
    let mut now = 0;
    for number in 1..=MAX_LOST_WORKERS {
        assert_eq!(state.durable.runs[&run].state, RunState::Running, "before worker {number}");
        assert_eq!(dies(&mut state, &mut now, &format!("worker{number}")).as_deref(), Some("block1/train/0"));
        let shown = state.view(&run).expect("a run").lost;
        assert_eq!((shown.len(), shown[0].workers.len()), (1, number), "it is shown");
    }
    let RunState::Failed { message } = &state.durable.runs[&run].state else { panic!("failed") };
    let known = ["block1/train/0 was lost 5 times", "worker1 (cpu", "worker5", "a training step takes about", "submit"];
    assert!(known.iter().all(|part| message.contains(part)), "{message}");
    state
        .apply(now, Event::Submitted { submission: Box::new(submission(1, 0)), object: object("spec") })
        .expect("again");
    assert!(state.durable.runs[&run].lost_on.is_empty(), "it may be mended");
}

#[test]
fn one_worker_that_is_started_again_each_time_fails_it_too() {
    let (mut state, run, _) = started(1, 0);
    let mut now = 0;
    let dead = (0..20).take_while(|_| dies(&mut state, &mut now, "pod").is_some()).count();
    assert_eq!(dead, MAX_LOST_LEASES);
    assert!(matches!(state.durable.runs[&run].state, RunState::Failed { .. }));
}

#[test]
fn who_says_good_bye_counts_for_nothing_and_a_commit_forgets() {
    let (mut state, run, first) = started(2, 0);
    for number in 0..2 * MAX_LOST_LEASES {
        let worker = named(&mut state, &format!("spot{number}"));
        ask(&mut state, 0, worker).expect("a task");
        state.apply(0, Event::Left { worker }).expect("known");
    }
    assert!(state.durable.runs[&run].lost_on.is_empty(), "a preemption that was announced");
    let mut now = 0;
    for number in 1..MAX_LOST_WORKERS {
        dies(&mut state, &mut now, &format!("spot{number}"));
    }
    assert!(state.apply(now, Event::Waits { worker: first }).is_err(), "it was silent");
    let worker = named(&mut state, "steady");
    let (task, lease) = ask(&mut state, now, worker).expect("a task");
    report(&mut state, now, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    assert!(state.durable.runs[&run].lost_on.is_empty(), "it can be done");
}

#[test]
fn a_worker_without_the_memory_gets_none_of_the_tasks_and_is_told_why() {
    let (mut state, run, _) = started(1, 0);
    let need = state.durable.runs[&run].need_bytes;
    assert!(need > 1 << 20, "{need}");
    let mut of = |memory_bytes: u64, backend: &str| {
        let newcomer = Newcomer { memory_bytes, ..newcomer("sized", backend) };
        let effects = state.apply(0, Event::Registered(Box::new(newcomer))).expect("registers");
        let Some(Effect::Welcome { worker, .. }) = effects.last() else { panic!("a welcome, not {effects:?}") };
        let effects = state.apply(0, Event::Asked { worker: *worker }).expect("known");
        state.apply(0, Event::Left { worker: *worker }).expect("known");
        effects.iter().find_map(|effect| match effect {
            Effect::Refuse { why, .. } => Some(why.clone()),
            _ => None,
        })
    };
    let why = of(need - 1, "cpu").expect("refused");
    assert!(why.contains("a training step takes about") && why.contains("of memory"), "{why}");
    assert_eq!(of(need, "cpu"), None);
    assert_eq!(of(0, "cpu"), None, "where nothing is known");
}

/// A sign of life of an attempt.
fn beat(
    state: &mut State,
    now: u64,
    worker: u64,
    (task, lease_epoch): &(Task, u64),
    ticks: u64,
) -> Result<Vec<Effect>, Rejected> {
    let (run, task, lease_epoch) = (task.run.clone(), task.id, *lease_epoch);
    let progress = Progress { ticks, ..Progress::default() };
    state.apply(now, Event::Heartbeat { worker, run, task, lease_epoch, progress })
}

#[test]
fn a_task_that_does_not_get_on_is_taken_back_though_its_worker_is_heard_of() {
    let (state, run, hung) = started(1, 0);
    let mut state = state.watch(10 * LEASE);
    let held = ask(&mut state, 0, hung).expect("a task");
    let mut now = 0;
    let mut heard = |state: &mut State, ticks: u64| {
        now += LEASE / 2;
        let answer = beat(state, now, hung, &held, ticks);
        state.apply(now, Event::Tick).expect("never refused");
        (now, answer.is_ok())
    };
    for ticks in 0..60 {
        assert!(heard(&mut state, ticks).1, "what gets on may take as long as it likes");
    }
    let (mut now, mut goes_on) = heard(&mut state, 59);
    let begun = now;
    while goes_on {
        (now, goes_on) = heard(&mut state, 59);
        assert!(now < begun + 12 * LEASE, "it is held for ever");
    }
    assert!(now >= begun + 9 * LEASE, "too early: {now}");
    let lost = &state.durable.runs[&run].lost_on;
    assert_eq!((lost.len(), lost[0].worker.as_str()), (1, "w"), "it is counted");
    let other = named(&mut state, "other");
    assert!(ask(&mut state, now, other).is_some(), "another worker takes it");
}

#[test]
fn how_long_that_is_follows_from_the_stage() {
    let (state, _, worker) = started(1, 0);
    let mut state = state.watch(10 * LEASE);
    let worker = work_to(&mut state, worker, "block1/detect/0");
    let held = ask(&mut state, 0, worker).expect("a task");
    for now in (0..20).map(|turn| turn * LEASE) {
        beat(&mut state, now, worker, &held, 1).expect("it has twice as long as a step of training");
        state.apply(now, Event::Tick).expect("never refused");
    }
    state.apply(20 * LEASE - LEASE / 2, Event::Tick).expect("never refused");
    beat(&mut state, 20 * LEASE - LEASE / 2, worker, &held, 1).expect("still");
    state.apply(20 * LEASE, Event::Tick).expect("never refused");
    assert!(beat(&mut state, 20 * LEASE, worker, &held, 1).is_err());
}

/// Works until a task would be next.
fn work_to(state: &mut State, worker: u64, wanted: &str) -> u64 {
    loop {
        let (task, lease) = ask(state, 0, worker).expect("a task");
        if task.id.to_string() == wanted {
            state.apply(0, Event::Left { worker }).expect("known");
            return named(state, "w");
        }
        report(state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    }
}
