//! A process that works by itself: its workers are for one run, and what that run promises is made again where it is
//! gone.

use super::*;
use bloctrain_shared::key;

fn only(state: &mut State, run: &str) -> u64 {
    let newcomer = Newcomer { only_run: run.into(), ..newcomer("own", "cpu") };
    match state.apply(0, Event::Registered(Box::new(newcomer))).expect("registers").as_slice() {
        [Effect::Welcome { worker, .. }] => *worker,
        other => panic!("a welcome, not {other:?}"),
    }
}

fn submit(state: &mut State, seed: u64, combine: &str) -> String {
    let mut submission = submission(1, 0);
    submission.spec.run.seed = seed;
    submission.spec.run.priority = if combine == "first" { 9 } else { 1 };
    let run = submission.run_id();
    state.apply(0, Event::Submitted { submission: Box::new(submission), object: object("spec") }).expect("submits");
    run
}

#[test]
fn a_worker_for_one_run_gets_tasks_of_no_other() {
    let mut state = State::new(Durable::default(), LEASE);
    let (first, second) = (submit(&mut state, 1, "first"), submit(&mut state, 2, "second"));
    let worker = only(&mut state, &second);
    while let Some((task, lease)) = ask(&mut state, 1, worker) {
        assert_eq!(task.run, second, "the other has more priority, and is left");
        let output = output(&task, 1);
        report(&mut state, 1, worker, &task, lease, Ok(output)).expect("counts");
    }
    assert_eq!(state.view(&second).expect("known").state, RunState::Completed);
    let left = state.view(&first).expect("known");
    assert!(left.state == RunState::Running && left.blocks[0].rounds == 0 && left.refused.is_empty(), "{left:?}");
    assert_eq!(
        state.apply(1, Event::Asked { worker }),
        Ok(Vec::new()),
        "that it is not for others is no reason to be told"
    );
}

#[test]
fn it_does_not_wait_for_a_run_that_trains_the_same_blocks() {
    let mut state = State::new(Durable::default(), LEASE);
    let leader = submit(&mut state, 1, "first");
    let mut other = submission(1, 0);
    (other.spec.run.seed, other.spec.exit.max_accuracy_drop) = (1, 0.5);
    let run = other.run_id();
    assert_ne!(run, leader);
    state.apply(0, Event::Submitted { submission: Box::new(other), object: object("spec") }).expect("submits");
    let worker = only(&mut state, &run);
    assert_eq!(ask(&mut state, 1, worker).expect("a task").0.run, run);
}

#[test]
fn a_lost_package_is_made_again_and_nothing_else() {
    let (mut state, run, worker) = started(1, 0);
    work(&mut state, worker, 1);
    let before = state.view(&run).expect("known").summary;
    assert!(before.is_some());
    // As after a take-over, which does not read the shards of completed runs.
    state.durable.let_go();
    let lost = |key: String| Event::PackageLost { run: run.clone(), key, problem: "it is gone".into() };
    for _ in 0..6 {
        let effects = state.apply(5, lost(key::model(&run, key::MODEL_MANIFEST))).expect("known");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::Failed { .. }))), "{effects:?}");
        let view = state.view(&run).expect("known");
        assert_eq!((&view.state, &view.summary), (&RunState::Running, &before), "its figures stay");
        let (task, lease) = ask(&mut state, 6, worker).expect("a task");
        assert_eq!(task.id.stage, Stage::Finish);
        let output = output(&task, 1);
        report(&mut state, 6, worker, &task, lease, Ok(output)).expect("counts");
        assert_eq!(state.view(&run).expect("known").state, RunState::Completed);
    }
    let (other, _, _) = started(1, 0);
    assert_eq!(state.apply(7, lost("models/another/model.json".into())).map(|effects| effects.len() > 1), Ok(true));
    assert_eq!(state.view(&run).expect("known").state, RunState::Completed, "another run's package is none of its");
    assert_eq!(
        state.apply(7, Event::PackageLost { run: "x".into(), key: String::new(), problem: String::new() }),
        Err(Rejected::UnknownRun("x".into()))
    );
    let mut running = other;
    assert_eq!(
        running.apply(7, lost(key::model(&run, key::MODEL_MANIFEST))),
        Ok(Vec::new()),
        "of a run that goes on nothing is promised"
    );
}
