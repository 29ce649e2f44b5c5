//! Stores that are not the coordinator's, and losses that are none.

use super::*;
use crate::run::durable::MAX_NOTES;
use bloctrain_shared::key::NO_STORE;

fn sees(state: &mut State, store: &str) -> Result<u64, Rejected> {
    let newcomer = Newcomer { store: store.into(), instance: store.into(), ..newcomer("w", "cpu") };
    let effects = state.apply(0, Event::Registered(Box::new(newcomer)))?;
    let [Effect::Welcome { worker, .. }] = effects.as_slice() else { panic!("a welcome, not {effects:?}") };
    Ok(*worker)
}

#[test]
fn a_worker_shows_which_store_it_sees_and_is_told_what_is_wrong() {
    let mut state = State::new(Durable::default(), LEASE).on("fleet".into());
    state
        .apply(0, Event::Submitted { submission: Box::new(submission(1, 0)), object: object("spec") })
        .expect("submits");
    let other = sees(&mut state, "other").expect_err("another store").to_string();
    assert!(other.contains("sees the store other") && other.contains("the fleet's store is fleet"), "{other}");
    let none = sees(&mut state, NO_STORE).expect_err("an empty folder").to_string();
    assert!(none.contains("sees no store") && none.contains("mounted"), "{none}");
    let silent = sees(&mut state, "").expect("it learns the address first");
    let effects = state.apply(0, Event::Asked { worker: silent }).expect("known");
    let [Effect::Refuse { why, .. }] = effects.as_slice() else { panic!("a reason, not {effects:?}") };
    assert!(why.contains("has not shown"), "{why}");
    let right = sees(&mut state, "fleet").expect("the same");
    assert!(ask(&mut state, 0, right).is_some());
}

/// Reports an input lost; gives what the coordinator is to look for.
fn says_lost(state: &mut State, now: u64, worker: u64, key: &str) -> Box<Doubt> {
    let (task, lease_epoch) = ask(state, now, worker).expect("a task");
    let failure = Failure::InputLost { key: key.into(), problem: "there is no object".into(), content: false };
    let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result: Err(failure) };
    let event = Event::Reported { worker, run: task.run, report: Box::new(report) };
    doubt_of(&state.apply(now, event).expect("accepted")).expect("it looks for itself")
}

#[test]
fn a_loss_that_is_none_resets_nothing_and_counts_against_the_worker() {
    let (mut state, run, liar) = started(1, 0);
    let honest = named(&mut state, "honest");
    let before = state.durable.clone();
    for time in 1..=3 {
        let doubt = says_lost(&mut state, 0, liar, "spec");
        assert!(ask(&mut state, 0, honest).is_none(), "the task waits for what the coordinator finds");
        state.apply(0, Event::Verified { doubt, found: Ok(Vec::new()) }).expect("never refused");
        assert_eq!(state.durable, before, "after {time} untrue reports");
    }
    let effects = state.apply(0, Event::Asked { worker: liar }).expect("known");
    let why = effects.iter().find_map(|effect| match effect {
        Effect::Refuse { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert!(
        why.as_ref().is_some_and(|why| why.contains("3 untrue reports") && why.contains("another store")),
        "{why:?}"
    );
    let (task, lease) = ask(&mut state, 0, honest).expect("the run goes on");
    report(&mut state, 0, honest, &task, lease, Ok(output(&task, 1))).expect("accepted");
    let later = 10 * LEASE;
    state.apply(later, Event::Waits { worker: liar }).expect("known");
    state.apply(later, Event::Tick).expect("never refused");
    assert!(ask(&mut state, later, liar).is_some(), "its store may be mounted again");
    assert_eq!(state.durable.runs[&run].state, RunState::Running);
}

#[test]
fn where_the_store_does_not_answer_the_task_is_handed_out_again() {
    let (mut state, _, worker) = started(1, 0);
    let before = state.durable.clone();
    let doubt = says_lost(&mut state, 0, worker, "spec");
    state.apply(0, Event::Verified { doubt, found: Err("503".into()) }).expect("never refused");
    assert_eq!(state.durable, before);
    assert!(ask(&mut state, 0, worker).is_some());
}

#[test]
fn what_only_a_worker_can_see_is_believed() {
    let (mut state, run, worker) = started(2, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let failure = Failure::InputLost {
        key: made(&run, "block1/train/0.w"),
        problem: "it has other tensors".into(),
        content: true,
    };
    let effects = report(&mut state, 0, worker, &task, lease, Err(failure)).expect("accepted");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::Failed { .. }))), "{effects:?}");
    assert_eq!(state.durable.runs[&run].blocks[0].rounds.len(), 0);
}

#[test]
fn all_lost_inputs_of_a_task_are_found_at_once() {
    let (mut state, run, worker) = started(1, 0);
    while state.durable.runs[&run].blocks.len() < 2 || state.durable.runs[&run].blocks[0].detector.is_none() {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    }
    let doubt = says_lost(&mut state, 0, worker, &cached("block1/export/0"));
    let shards: Vec<String> = (0..2).map(|shard| cached(&format!("block1/export/{shard}"))).collect();
    assert!(shards.iter().all(|key| doubt.inputs.iter().any(|input| input.key == *key)), "{:?}", doubt.inputs);
    let lost = |key: &String| Lost { key: key.clone(), problem: "there is no object".into() };
    let found = shards.iter().chain([&"cache/of-nobody.arrow".to_owned()]).map(lost).collect();
    let effects = state.apply(0, Event::Verified { doubt, found: Ok(found) }).expect("never refused");
    let records = effects.iter().filter(|effect| matches!(effect, Effect::Persist(Record::Failed { .. }))).count();
    assert_eq!(records, 2, "one for each that the run names");
    let mut open = Vec::new();
    for _ in 0..2 {
        let other = named(&mut state, "x");
        open.push(ask(&mut state, 0, other).expect("a task").0.id.to_string());
    }
    assert_eq!(open, ["block1/export/0", "block1/export/1"]);
}

#[test]
fn notes_are_bounded() {
    let (mut state, run, _) = started(1, 0);
    let task = state.durable.runs[&run].open_tasks()[0].id;
    for number in 0..3 * MAX_NOTES {
        state.durable.runs.get_mut(&run).expect("there").losses.clear();
        let failure = Failure::InputLost { key: "spec".into(), problem: format!("loss {number}"), content: false };
        state.durable.replay(Record::Failed { run: run.clone(), task, worker: "w".into(), failure }, 0);
    }
    let notes = &state.durable.runs[&run].notes;
    assert_eq!(notes.len(), MAX_NOTES);
    assert!(notes[0].contains("loss 0") && notes[MAX_NOTES - 1].contains(&format!("loss {}", 3 * MAX_NOTES - 1)));
}
