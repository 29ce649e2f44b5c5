//! What many workers and coordinators add: adoption, refusals, workers that fail, orders, foreign keys.

use super::*;
use crate::schedule::worker::Holding;
use bloctrain_shared::Digest;
use bloctrain_shared::plan::ANY_BACKEND;
use bloctrain_shared::stage::train;
use bloctrain_shared::task::Output;

fn holding(task: &Task) -> Holding {
    Holding { run: task.run.clone(), task: task.id, work: Digest::of_json(&task.work) }
}

fn rejoin(state: &mut State, holding: Holding) -> Option<u64> {
    let newcomer = Newcomer { holding: Some(holding), ..newcomer("w", "cpu") };
    let effects = state.apply(0, Event::Registered(Box::new(newcomer))).expect("registers");
    effects.into_iter().find_map(|effect| match effect {
        Effect::Welcome { adopted, .. } => adopted,
        _ => None,
    })
}

#[test]
fn a_new_coordinator_adopts_what_a_worker_holds_but_only_once_and_only_the_same_work() {
    let (mut state, _, worker) = started(2, 0);
    let (task, old) = ask(&mut state, 0, worker).expect("a task");
    let mut durable = state.durable.clone();
    durable.replay(Record::Opened, 0);
    let mut next = State::new(durable, LEASE).settle(500);
    let idle = named(&mut next, "idle");
    assert!(ask(&mut next, 0, idle).is_none(), "nothing is given away while workers come back");
    let other = Holding { work: Digest::of(b"other inputs"), ..holding(&task) };
    assert_eq!(rejoin(&mut next, other), None);
    let adopted = rejoin(&mut next, holding(&task)).expect("adopted");
    assert!(adopted > old, "R-3: the old lease is older");
    assert_eq!(rejoin(&mut next, holding(&task)), None, "it is held by now");
    let worker = (1 << 32) + 3;
    let late = report(&mut next, 0, worker, &task, old, Ok(output(&task, 2)));
    assert_eq!(late, Err(Rejected::Stale(task.id)), "R-3: the lease of the coordinator before");
    report(&mut next, 0, worker, &task, adopted, Ok(output(&task, 2))).expect("accepted");
    assert!(ask(&mut next, 600, idle).is_none(), "the next round is for the worker that has the block in memory");
}

#[test]
fn a_worker_of_an_earlier_coordinator_is_not_mistaken_for_one_of_this_one() {
    let (mut state, _, first) = started(2, 0);
    let (task, lease) = ask(&mut state, 0, first).expect("a task");
    let mut durable = state.durable.clone();
    durable.replay(Record::Opened, 0);
    let mut next = State::new(durable, LEASE);
    let other = named(&mut next, "other");
    let (granted, _) = ask(&mut next, 0, other).expect("the task is free");
    assert_eq!(granted.id, task.id);
    let before = next.clone();
    let beat = Event::Heartbeat {
        worker: first,
        run: task.run.clone(),
        task: task.id,
        lease_epoch: lease,
        progress: Progress::default(),
    };
    assert_eq!(next.apply(0, beat), Err(Rejected::UnknownWorker(first)), "it has to register");
    assert_eq!(next.apply(0, Event::Asked { worker: first }), Err(Rejected::UnknownWorker(first)));
    assert_eq!(next, before, "the other one keeps its task");
}

#[test]
fn a_process_that_registers_again_replaces_itself() {
    let (mut state, _, _) = started(1, 0);
    let newcomer = Newcomer { instance: "i".into(), ..newcomer("x", "cpu") };
    for _ in 0..3 {
        state.apply(0, Event::Registered(Box::new(newcomer.clone()))).expect("registers");
    }
    assert_eq!(state.workers.len(), 2);
}

#[test]
fn a_worker_without_the_data_is_told_why_and_others_work() {
    let (mut state, run, worker) = started(1, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let before = state.durable.clone();
    let unable = Failure::Unable { message: "the data are not there".into() };
    report(&mut state, 0, worker, &task, lease, Err(unable)).expect("accepted");
    assert_eq!(state.durable, before, "it is no failure of the task");
    let effects = state.apply(0, Event::Asked { worker }).expect("known");
    assert!(matches!(effects.as_slice(), [Effect::Refuse { why, .. }] if why.contains("the data are not there")));
    assert_eq!(state.view(&run).expect("a run").refused[0].why, "the data are not there");
    let other = named(&mut state, "other");
    assert!(ask(&mut state, 0, other).is_some());
}

#[test]
fn a_task_that_failed_goes_to_another_worker_and_three_of_them_fail_the_run() {
    let (mut state, run, first) = started(1, 0);
    let others = [named(&mut state, "x"), named(&mut state, "y")];
    for (worker, name) in [(first, "w"), (others[0], "x"), (others[1], "y")] {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let failure = Failure::Transient { message: format!("no luck on {name}") };
        report(&mut state, 0, worker, &task, lease, Err(failure)).expect("accepted");
        assert!(ask(&mut state, 0, worker).is_none(), "{name} failed at it; others did not");
    }
    let RunState::Failed { message } = &state.durable.runs[&run].state else { panic!("failed") };
    assert!(message.contains("on 3 workers") && message.contains("no luck on x"), "{message}");
}

#[test]
fn a_fatal_failure_of_one_worker_is_tried_by_another_before_it_ends_the_run() {
    let (mut state, run, first) = started(1, 0);
    let second = named(&mut state, "second");
    for (worker, ended) in [(first, false), (second, true)] {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let failure = Failure::Fatal { message: "the store cannot be written".into() };
        report(&mut state, 0, worker, &task, lease, Err(failure)).expect("accepted");
        assert_eq!(matches!(state.durable.runs[&run].state, RunState::Failed { .. }), ended);
    }
}

#[test]
fn a_worker_that_keeps_failing_is_set_aside_with_the_reason() {
    let (mut state, run, worker) = started(1, 0);
    let fail = |state: &mut State| {
        let (task, lease) = ask(state, 0, worker).expect("a task");
        let failure = Failure::Transient { message: "the disk is broken".into() };
        report(state, 0, worker, &task, lease, Err(failure)).expect("accepted");
    };
    (0..3).for_each(|_| fail(&mut state));
    fail(&mut state); // alone, it goes on
    let healthy = named(&mut state, "healthy");
    assert!(ask(&mut state, 0, worker).is_none());
    assert!(state.worker_views(0)[0].refused[0].contains("the disk is broken"));
    assert!(state.view(&run).expect("a run").refused[0].why.contains("set aside after 4 failures"));
    assert!(ask(&mut state, 0, healthy).is_some());
}

#[test]
fn a_specification_that_one_worker_cannot_read_is_read_again_before_the_run_fails() {
    let (mut state, run, worker) = started(1, 0);
    for time in 1..=4 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let lost = Failure::InputLost {
            key: task.submission.key.clone(),
            problem: "its checksum is wrong".into(),
            content: false,
        };
        report(&mut state, 0, worker, &task, lease, Err(lost)).expect("accepted");
        assert_eq!(matches!(state.durable.runs[&run].state, RunState::Failed { .. }), time == 4);
    }
    let RunState::Failed { message } = &state.durable.runs[&run].state else { panic!("failed") };
    assert!(message.contains("submit` command again"), "{message}");
}

#[test]
fn a_lost_trainer_is_not_waited_for() {
    let (mut state, _, trainer) = started(3, 0);
    let other = named(&mut state, "other");
    let (task, lease) = ask(&mut state, 0, trainer).expect("a task");
    report(&mut state, 0, trainer, &task, lease, Ok(output(&task, 3))).expect("accepted");
    ask(&mut state, 0, trainer).expect("the next round");
    state.apply(LEASE, Event::Tick).expect("time passes");
    assert!(ask(&mut state, LEASE, other).is_some(), "its lease ended, so its round is open to all");
}

#[test]
fn objects_outside_the_run_are_refused() {
    let (mut state, _, worker) = started(1, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let Output::Train(train::Output { mut checkpoint, finished, metrics }) = output(&task, 1) else {
        panic!("training comes first")
    };
    checkpoint.weights = object("runs/another/block1/weights-0.safetensors");
    let before = state.clone();
    let result =
        report(&mut state, 0, worker, &task, lease, Ok(Output::Train(train::Output { checkpoint, finished, metrics })));
    assert!(matches!(result, Err(Rejected::ForeignKey { .. })));
    assert_eq!(state, before, "R-5");
}

#[test]
fn a_paused_run_takes_reports_but_gives_no_tasks() {
    let (mut state, run, worker) = started(2, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    state.apply(0, Event::Paused { run: run.clone() }).expect("paused");
    let beat =
        Event::Heartbeat { worker, run: run.clone(), task: task.id, lease_epoch: lease, progress: Progress::default() };
    assert!(state.apply(0, beat).expect("a lease").contains(&Effect::HandBack { worker }));
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
    assert!(ask(&mut state, 0, worker).is_none());
    state.apply(0, Event::Resumed { run: run.clone() }).expect("resumed");
    assert!(ask(&mut state, 0, worker).is_some());
    state.apply(0, Event::Cancelled { run: run.clone() }).expect("cancelled");
    assert_eq!(state.apply(0, Event::Resumed { run: run.clone() }), Err(Rejected::Ended(run)));
}

#[test]
fn the_first_worker_decides_an_open_backend() {
    let mut state = State::new(Durable::default(), LEASE);
    let submission = Submission { backend: ANY_BACKEND.into(), ..submission(1, 0) };
    let run = submission.run_id();
    state.apply(0, Event::Submitted { submission: Box::new(submission), object: object("spec") }).expect("submits");
    let first = named(&mut state, "first");
    let effects = state.apply(0, Event::Asked { worker: first }).expect("known");
    assert!(
        matches!(&effects[0], Effect::Persist(Record::Backend { backend, .. }) if backend == "cpu"),
        "durable first"
    );
    assert_eq!(state.durable.runs[&run].backend(), Some("cpu"));
    state.apply(0, Event::Registered(Box::new(newcomer("gpu", "cuda")))).expect("known");
    assert!(state.view(&run).expect("a run").refused[0].why.contains("has cuda"));
}

#[test]
fn workers_that_are_alike_are_told_the_same_reasons_and_others_their_own() {
    let (mut state, run, worker) = started(1, 0);
    ask(&mut state, 0, worker).expect("it decides the backend");
    let mut cuda = submission(2, 0);
    cuda.backend = "cuda".into();
    let object = object("other");
    state.apply(0, Event::Submitted { submission: Box::new(cuda), object }).expect("submitted");
    let newcomers = [
        newcomer("alike", "cpu"),
        newcomer("alike too", "cpu"),
        newcomer("other backend", "cuda"),
        Newcomer { memory_bytes: 1, ..newcomer("small", "cpu") },
        Newcomer { only_run: run, ..newcomer("of one run", "cpu") },
        Newcomer { precision: "bf16".into(), ..newcomer("other precision", "cuda") },
    ];
    for newcomer in newcomers {
        state.apply(0, Event::Registered(Box::new(newcomer))).expect("registers");
    }
    let failing = named(&mut state, "failing");
    state.workers.get_mut(&failing).expect("there").failures = 9;
    let unable = named(&mut state, "unable");
    let own: String = state.durable.runs.keys().next().expect("a run").clone();
    state.workers.get_mut(&unable).expect("there").unable.insert(own, "no data".into());
    let views = state.worker_views(0);
    let told: Vec<&Vec<String>> = views.iter().map(|view| &view.refused).collect();
    let found: Vec<Vec<String>> = state.workers.keys().map(|id| state.refusals(*id)).collect();
    assert_eq!(told, found.iter().collect::<Vec<_>>());
    assert!(found.iter().filter(|reasons| reasons.is_empty()).count() < found.len() - 2, "{found:?}");
}
