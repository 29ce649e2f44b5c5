//! Several runs at once: priority, fair share, and no run that starves.

use super::*;
use proptest::prelude::*;

/// Runs that differ in their seed, the first the oldest.
fn runs(priorities: &[u32]) -> (State, Vec<String>) {
    let mut state = State::new(Durable::default(), LEASE);
    let submit = |(number, priority): (usize, &u32)| {
        let mut submission = submission(3, 0);
        (submission.spec.run.seed, submission.spec.run.priority) = (number as u64, *priority);
        let run = submission.run_id();
        let event = Event::Submitted { submission: Box::new(submission), object: object(format!("spec{number}")) };
        state.apply(number as u64, event).expect("submits");
        run
    };
    let runs = priorities.iter().enumerate().map(submit).collect();
    (state, runs)
}

fn workers(state: &mut State, count: usize) -> Vec<u64> {
    (0..count).map(|number| named(state, &format!("w{number}"))).collect()
}

/// Does training of the first block of the oldest run: its validation shards are open then.
fn trained(state: &mut State, worker: u64) {
    for _ in 0..3 {
        let (task, lease) = ask(state, 10, worker).expect("a round");
        report(state, 10, worker, &task, lease, Ok(output(&task, 3))).expect("accepted");
    }
}

#[test]
fn a_free_worker_goes_to_the_run_with_the_fewest_attempts() {
    let (mut state, runs) = runs(&[1, 1]);
    let workers = workers(&mut state, 3);
    trained(&mut state, workers[0]);
    let first = ask(&mut state, 10, workers[0]).expect("a shard of the older run").0;
    let second = ask(&mut state, 10, workers[1]).expect("a task").0;
    let third = ask(&mut state, 10, workers[2]).expect("a task").0;
    assert_eq!(
        [&first.run, &second.run, &third.run],
        [&runs[0], &runs[1], &runs[0]],
        "not two shards before the other run's round"
    );
    assert_eq!((first.id.stage, second.id.stage), (Stage::Validate, Stage::Train));
    assert_eq!(state.view(&runs[0]).expect("a run").attempts.len(), 2);
}

#[test]
fn priority_comes_before_share() {
    let (mut state, runs) = runs(&[1, 5]);
    let workers = workers(&mut state, 2);
    let first = ask(&mut state, 10, workers[0]).expect("a task").0;
    let second = ask(&mut state, 10, workers[1]).expect("a task").0;
    assert_eq!(
        [&first.run, &second.run],
        [&runs[1], &runs[0]],
        "the important run has one open task, the rest goes to the other"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Whatever order workers finish in: a run with an open task that others may take is never two attempts behind
    /// another of its priority when a task is handed out, the choice depends on nothing else, and all runs complete.
    #[test]
    fn shares_stay_even_and_all_runs_complete(count in 1_usize..5,
        order in prop::collection::vec(0_usize..5, 40..400)) {
        let (mut state, runs) = runs(&[1, 1, 1]);
        let workers = workers(&mut state, count);
        let mut held: BTreeMap<u64, (Task, u64)> = BTreeMap::new();
        let finish: Vec<usize> = (0..count).cycle().take(1000).collect();
        for pick in order.into_iter().chain(finish) {
            let worker = workers[pick % count];
            if let Some((task, lease)) = held.remove(&worker) {
                report(&mut state, 10, worker, &task, lease, Ok(output(&task, 3))).expect("accepted");
            }
            check_choice(&state, 10)?;
            let before = state.clone();
            let granted = ask(&mut state, 10, worker);
            let mut twin = before.clone();
            prop_assert_eq!(&ask(&mut twin, 10, worker), &granted);
            let Some((task, lease)) = granted else { continue };
            let open = |run: &String| before.durable.runs[run].open_tasks().iter().any(|task| {
                task.id.stage != Stage::Train && before.attempts.of_task(run, task.id).next().is_none()
            });
            for other in runs.iter().filter(|other| open(other)) {
                prop_assert!(before.attempts.running(&task.run) <= before.attempts.running(other),
                    "{} was passed over", other);
            }
            held.insert(worker, (task, lease));
        }
        prop_assert!(runs.iter().all(|run| state.durable.runs[run].state == RunState::Completed));
    }
}
