//! Coordinators that stand still, and holders that were not heard.

use super::*;
use crate::schedule::worker::Holding;

fn beat(state: &mut State, now: u64, worker: u64, (task, lease_epoch): &(Task, u64)) -> Result<Vec<Effect>, Rejected> {
    let (run, task, lease_epoch) = (task.run.clone(), task.id, *lease_epoch);
    state.apply(now, Event::Heartbeat { worker, run, task, lease_epoch, progress: Progress::default() })
}

#[test]
fn a_coordinator_that_stood_still_gives_the_time_back() {
    for stall in [10, 30, 40, 400] {
        let (mut state, run, worker) = started(1, 0);
        let held = ask(&mut state, 0, worker).expect("a task");
        let woken = LEASE / 2 + stall * LEASE;
        state.apply(woken, Event::Late { by_ms: stall * LEASE }).expect("never refused");
        state.apply(woken, Event::Tick).expect("never refused");
        beat(&mut state, woken, worker, &held).unwrap_or_else(|rejected| panic!("after {stall} leases: {rejected}"));
        assert!(state.durable.runs[&run].lost_on.is_empty());
        state.apply(woken + LEASE, Event::Tick).expect("never refused");
        assert!(beat(&mut state, woken + LEASE, worker, &held).is_err(), "a lease is as long as ever");
    }
}

fn comes_back(state: &mut State, now: u64, task: &Task) -> Option<u64> {
    let holding = Holding { run: task.run.clone(), task: task.id, work: task.work.identity() };
    let newcomer = Newcomer { instance: "i".into(), holding: Some(holding), ..newcomer("w", "cpu") };
    let effects = state.apply(now, Event::Registered(Box::new(newcomer))).expect("registers");
    effects.iter().find_map(|effect| match effect {
        Effect::Welcome { adopted, .. } => *adopted,
        _ => None,
    })
}

#[test]
fn a_holder_whose_lease_just_ended_comes_back_and_goes_on() {
    let (mut state, _, worker) = started(1, 0);
    let held = ask(&mut state, 0, worker).expect("a task");
    state.apply(LEASE, Event::Tick).expect("never refused");
    let rejected = beat(&mut state, LEASE, worker, &held);
    assert_eq!(rejected, Err(Rejected::Expired(held.0.id)), "it is told to come back, not to drop the work");
    let made = output(&held.0, 1);
    assert_eq!(
        report(&mut state, LEASE, worker, &held.0, held.1, Ok(made.clone())),
        Err(Rejected::Expired(held.0.id)),
        "R-3"
    );
    let adopted = comes_back(&mut state, LEASE, &held.0).expect("adopted");
    assert_ne!(adopted, held.1);
    let again = *state.workers.keys().last().expect("registered");
    report(&mut state, LEASE, again, &held.0, adopted, Ok(made)).expect("nothing was lost");
}

#[test]
fn what_was_given_to_another_is_dropped() {
    let (mut state, _, worker) = started(1, 0);
    let held = ask(&mut state, 0, worker).expect("a task");
    state.apply(LEASE, Event::Tick).expect("never refused");
    let other = named(&mut state, "other");
    let (task, lease) = ask(&mut state, LEASE, other).expect("the same task");
    assert_eq!(task.id, held.0.id);
    assert_eq!(comes_back(&mut state, LEASE, &held.0), None);
    report(&mut state, LEASE, other, &task, lease, Ok(output(&task, 1))).expect("accepted");
    assert!(
        matches!(beat(&mut state, LEASE, worker, &held), Err(Rejected::Stale(_))),
        "it is done: nothing to come back for"
    );
}
