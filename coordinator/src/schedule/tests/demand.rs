//! How much work there is.

use super::*;
use bloctrain_shared::plan::ANY_BACKEND;

/// Waiting and running tasks of each run.
fn counts_of(state: &State) -> Vec<(usize, usize)> {
    state.overview().demand.iter().map(|demand| (demand.waiting, demand.running)).collect()
}

#[test]
fn a_task_is_waiting_then_running_then_gone() {
    let (mut state, run, worker) = started(2, 0);
    assert_eq!(counts_of(&state), [(1, 0)], "the first round");
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    assert_eq!(counts_of(&state), [(0, 1)]);
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    assert_eq!(counts_of(&state), [(1, 0)], "the second round");
    state.apply(0, Event::Paused { run: run.clone() }).expect("pauses");
    assert!(counts_of(&state).is_empty(), "nobody is wanted for a paused run");
    assert_eq!(state.overview().runs, BTreeMap::from([("paused", 1)]));
    assert_eq!(state.overview().workers, BTreeMap::from([("cpu".to_owned(), 1)]));
}

#[test]
fn all_open_tasks_count_and_what_the_overview_counts_is_what_could_be_handed_out() {
    let (mut state, run, worker) = started(2, 0);
    let mut most = 0;
    while let Some((task, lease)) = ask(&mut state, 0, worker) {
        let open = state.durable.runs[&run].open_tasks().len();
        let [(waiting, running)] = counts_of(&state)[..] else { panic!("one run") };
        assert_eq!((waiting + running, running), (open, 1), "at {}", task.id);
        most = most.max(open);
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    }
    assert!(most > 2, "several shards were open at once");
    assert!(counts_of(&state).is_empty());
}

#[test]
fn a_block_that_another_run_trains_first_is_no_further_demand() {
    let (mut state, _, _) = started(2, 0);
    let mut other = submission(2, 0);
    other.spec.exit.max_accuracy_drop += 0.001;
    assert_ne!(other.run_id(), submission(2, 0).run_id(), "another run with the same first block");
    state.apply(0, Event::Submitted { submission: Box::new(other), object: object("other") }).expect("submits");
    let waiting: usize = counts_of(&state).iter().map(|(waiting, _)| waiting).sum();
    assert_eq!(waiting, 1);
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let mut state = State::new(Durable::default(), LEASE);
    let cuda = Submission { backend: "cuda".into(), ..submission(2, 0) };
    let run = cuda.run_id();
    state.apply(0, Event::Submitted { submission: Box::new(cuda), object: object("spec") }).expect("submits");
    register(&mut state);
    let missing = state.overview().demand[0].missing.clone().expect("only a CPU is there");
    assert!(missing.contains("backend cuda") && missing.contains("--device cuda:0"), "{missing}");
    assert_eq!(state.view(&run).expect("a run").missing, Some(missing));
    state.apply(0, Event::Registered(Box::new(newcomer("gpu", "cuda")))).expect("registers");
    assert_eq!((state.overview().demand[0].missing.clone(), state.view(&run).expect("a run").missing), (None, None));
}

#[test]
fn a_run_that_takes_anybody_has_no_backend_until_the_first_worker() {
    let any = Submission { backend: ANY_BACKEND.into(), ..submission(2, 0) };
    let (mut state, _, worker) = begun(any);
    assert_eq!(state.overview().demand[0].backend, None);
    ask(&mut state, 0, worker).expect("a task");
    assert_eq!(state.overview().demand[0].backend.as_deref(), Some("cpu"));
}
