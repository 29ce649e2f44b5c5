//! Runs that are deleted, and how many there may be.

use super::*;
use crate::collect::named as needed;
use crate::schedule::{MAX_KEPT, MAX_RUNS};

fn delete(state: &mut State, run: &str) -> Result<Vec<Effect>, Rejected> {
    state.apply(9, Event::Deleted { run: run.into() })
}

#[test]
fn a_run_that_has_ended_is_deleted_and_all_of_it_is_garbage() {
    let (mut state, run, worker) = started(1, 0);
    assert_eq!(delete(&mut state, &run), Err(Rejected::GoesOn(run.clone())));
    assert_eq!(delete(&mut state, "another"), Err(Rejected::UnknownRun("another".into())));
    work(&mut state, worker, 1);
    assert!(!needed(&state.durable).keys.is_empty());
    let effects = delete(&mut state, &run).expect("it has ended");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::Deleted { .. }))), "{effects:?}");
    let keep = needed(&state.durable);
    assert!(keep.keys.is_empty() && keep.data.is_empty() && keep.given_up.contains(&run), "{keep:?}");
    assert!(state.view(&run).is_none());
    assert_eq!(delete(&mut state, &run), Err(Rejected::UnknownRun(run.clone())));
    let event = Event::Submitted { submission: Box::new(submission(1, 0)), object: object("spec") };
    state.apply(9, event).expect("submits");
    assert!(needed(&state.durable).given_up.is_empty(), "its model will be there again");
    assert!(!work(&mut state, worker, 1).is_empty(), "from the beginning");
}

#[test]
fn runs_that_have_ended_take_no_place_of_those_that_go_on() {
    let (mut state, run, _) = started(1, 0);
    state.apply(0, Event::Cancelled { run: run.clone() }).expect("known");
    let ended = state.durable.runs[&run].clone();
    for number in 0..MAX_RUNS {
        state.durable.runs.insert(format!("ended{number}"), ended.clone());
    }
    let mut other = submission(2, 0);
    let event =
        |submission: &Submission| Event::Submitted { submission: Box::new(submission.clone()), object: object("spec") };
    state.apply(0, event(&other)).expect("there is room");
    for number in MAX_RUNS..MAX_KEPT {
        state.durable.runs.insert(format!("ended{number}"), ended.clone());
    }
    other.spec.run.seed = 77;
    let full = state.apply(0, event(&other)).expect_err("what is kept has a limit").to_string();
    assert!(full.contains("bloctrain delete"), "{full}");
}
