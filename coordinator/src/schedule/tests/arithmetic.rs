//! One arithmetic per run.

use super::*;
use bloctrain_shared::plan::ANY_BACKEND;
use bloctrain_shared::spec::Precision;

fn why(state: &mut State, worker: u64) -> Option<String> {
    let effects = state.apply(0, Event::Asked { worker }).expect("known");
    effects.iter().find_map(|effect| match effect {
        Effect::Refuse { why, .. } => Some(why.clone()),
        _ => None,
    })
}

fn of(state: &mut State, backend: &str, precision: &str) -> u64 {
    let newcomer = Newcomer { precision: precision.into(), ..newcomer(precision, backend) };
    match state.apply(0, Event::Registered(Box::new(newcomer))).expect("registers").as_slice() {
        [Effect::Welcome { worker, .. }] => *worker,
        other => panic!("a welcome, not {other:?}"),
    }
}

/// After an upgrade: what the program before began is not gone on with in other numbers.
#[test]
fn a_run_of_another_arithmetic_version_gets_no_worker_and_says_why() {
    let (state, run, _) = started(1, 0);
    let mut durable = state.durable.clone();
    durable.runs.get_mut(&run).expect("there").submission.arithmetic = ARITHMETIC_VERSION - 1;
    let mut state = State::new(durable, LEASE);
    let worker = register(&mut state);
    let told = why(&mut state, worker).expect("no task");
    assert!(told.contains(&format!("version {}", ARITHMETIC_VERSION - 1)) && told.contains("submit it anew"), "{told}");
    let shown = state.view(&run).expect("a run").refused;
    assert!(shown.iter().any(|refused| told.contains(&refused.why)), "{shown:?}");
}

#[test]
fn the_first_worker_decides_the_precision_and_others_are_told() {
    for backend in ["cuda", ANY_BACKEND] {
        let mut submission = submission(1, 0);
        submission.backend = backend.into();
        let (mut state, run, _) = begun(submission);
        let (hopper, turing) = (of(&mut state, "cuda", "bf16"), of(&mut state, "cuda", "f32"));
        assert!(ask(&mut state, 0, hopper).is_some());
        let decided = &state.durable.runs[&run];
        assert_eq!((decided.backend(), decided.precision()), (Some("cuda"), Some("bf16")));
        state.apply(0, Event::Left { worker: hopper }).expect("known");
        let told = why(&mut state, turing).expect("no task");
        assert!(told.contains("computed in bf16") && told.contains("has f32"), "{told}");
        let silent = of(&mut state, "cuda", "");
        assert!(why(&mut state, silent).expect("no task").contains("older bloctrain"));
        let again = of(&mut state, "cuda", "bf16");
        assert!(ask(&mut state, 0, again).is_some());
    }
}

#[test]
fn where_nothing_is_open_nothing_is_decided() {
    let (mut state, run, worker) = started(1, 0);
    assert!(ask(&mut state, 0, worker).is_some());
    assert_eq!(state.durable.runs[&run].precision, None, "processors have f32 only");
    let mut submission = submission(2, 0);
    (submission.backend, submission.spec.train.precision) = ("cuda".into(), Precision::F32);
    let (mut state, run, _) = begun(submission);
    for precision in ["bf16", "f32"] {
        let worker = of(&mut state, "cuda", precision);
        assert!(ask(&mut state, 0, worker).is_some(), "the specification says what all compute in");
        state.apply(0, Event::Left { worker }).expect("known");
    }
    assert_eq!(state.durable.runs[&run].precision(), Some("f32"));
}
