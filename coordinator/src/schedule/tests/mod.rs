//! Exact effects of single events, and properties of random event sequences.

mod admission;
mod arithmetic;
mod backup;
mod chain;
mod decision;
mod delete;
mod demand;
mod doubt;
mod fleet;
mod hard_input;
mod inherit;
mod late;
mod lost;
mod machine;
mod outdated;
mod replica;
mod share;

use super::worker::Newcomer;
use super::{Doubt, Effect, Event, Lost, Rejected, State};
use crate::run::durable::Durable;
use crate::run::record::Record;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, DatasetInfo, Submission, shard_samples};
use bloctrain_shared::spec::{DetectorPolicy, RunSpec};
use bloctrain_shared::stage::{detect, evaluate, export, finish, merge, score, select, train, validate};
use bloctrain_shared::task::{
    CachedShard, Checkpoint, Failure, ObjectRef, Output, Progress, Report, RoundMetrics, Split, Stage, Task, Work,
};
use bloctrain_shared::view::RunState;
use bloctrain_shared::{Digest, ImageShape};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LEASE: u64 = 1000;

fn object(key: impl Into<String>) -> ObjectRef {
    let key = key.into();
    ObjectRef { digest: Digest::of(key.as_bytes()), key, bytes: 1 }
}

fn submission(epochs: u32, patience: u32) -> Submission {
    let mut spec = RunSpec::default();
    spec.train.epochs = epochs;
    spec.train.warmup_epochs = 0;
    spec.train.patience = patience;
    spec.detector.policy = DetectorPolicy::Learned;
    let classes = (0..4).map(|class| class.to_string()).collect();
    let shape = ImageShape::new(1, 28, 28);
    let dataset = DatasetInfo {
        name: "d".into(),
        digest: Digest::of(b"d"),
        classes,
        shape,
        train: 2000,
        validation: 1500,
        test: 500,
    };
    Submission { spec, dataset, arithmetic: ARITHMETIC_VERSION, backend: "cpu".into() }
}

fn started(epochs: u32, patience: u32) -> (State, String, u64) {
    begun(submission(epochs, patience))
}

/// A run of some replicas.
fn replicated(epochs: u32, replicas: u32) -> Submission {
    let mut submission = submission(epochs, 0);
    submission.spec.train.replicas = replicas;
    submission
}

fn begun(submission: Submission) -> (State, String, u64) {
    let mut state = State::new(Durable::default(), LEASE);
    let run = submission.run_id();
    state.apply(0, Event::Submitted { submission: Box::new(submission), object: object("spec") }).expect("submits");
    let worker = register(&mut state);
    (state, run, worker)
}

fn register(state: &mut State) -> u64 {
    named(state, "w")
}

fn newcomer(name: &str, backend: &str) -> Newcomer {
    Newcomer { name: name.into(), backend: backend.into(), arithmetic: ARITHMETIC_VERSION, ..Newcomer::default() }
}

fn named(state: &mut State, name: &str) -> u64 {
    match state.apply(0, Event::Registered(Box::new(newcomer(name, "cpu")))).expect("registers").as_slice() {
        [Effect::Welcome { worker, adopted: None }] => *worker,
        other => panic!("a welcome, not {other:?}"),
    }
}

fn ask(state: &mut State, now: u64, worker: u64) -> Option<(Task, u64)> {
    let effects = state.apply(now, Event::Asked { worker }).expect("known");
    effects.into_iter().find_map(|effect| match effect {
        Effect::Grant { task, lease_epoch, .. } => Some((*task, lease_epoch)),
        _ => None,
    })
}

/// Key of what a task makes.
fn made(run: &str, task: &str) -> String {
    let (block, rest) = task.split_once('/').unwrap_or(("network", task));
    format!("runs/{run}/{block}/{}", rest.replace('/', "-"))
}

/// Key of what an export task makes.
fn cached(task: &str) -> String {
    format!("cache/{}.arrow", Digest::of(task.as_bytes()))
}

/// What a worker would make: everything follows from the task. Classes 0 and 1 are easy, 2 and 3 hard.
fn output(task: &Task, epochs: u32) -> Output {
    let name = made(&task.run, &task.id.to_string());
    let checkpoint = || Checkpoint { weights: object(format!("{name}.w")), optimizer: object(format!("{name}.o")) };
    match &task.work {
        Work::Train(train::Work { replica: 1.., .. }) => {
            let metrics = RoundMetrics { samples: 9, epoch_samples: 64, ..RoundMetrics::default() };
            Output::Replica(train::Part { checkpoint: checkpoint(), complete: true, metrics })
        }
        Work::Train(train::Work { round, .. }) | Work::Merge(merge::Work { round, .. }) => {
            let metrics = RoundMetrics {
                epochs: round + 1,
                validation_accuracy: Some(if *round == 1 { 0.9 } else { 0.5 }),
                firing_rates: vec![0.1, 0.2],
                ..RoundMetrics::default()
            };
            Output::Train(train::Output { checkpoint: checkpoint(), finished: round + 1 >= epochs, metrics })
        }
        Work::Validate(validate::Work { classes, shard, .. }) => {
            Output::Validate(validate::Output { confusion: counts(classes, *shard, |class| class >= 2) })
        }
        Work::Score(_) => Output::Score(score::Output { scores: object(name) }),
        Work::Select(_) => {
            Output::Select(select::Output { selection: object(name), samples: 9, selected: 5, wrong: Some(1) })
        }
        Work::Detect(_) => Output::Detect(detect::Output { detector: Some(object(name)) }),
        Work::Export(export::Work { split, view, shard, .. }) => {
            let object = object(cached(&task.id.to_string()));
            let shard = CachedShard { split: *split, view: *view, shard: *shard, object };
            Output::Export(export::Output { shard, uncompressed_bytes: 8, reused: false })
        }
        Work::Evaluate(_) => Output::Evaluate(evaluate::Output { records: object(name) }),
        Work::Finish(_) => Output::Finish(finish::Output { summary: Box::new(summary(&task.run)) }),
    }
}

/// Counts of a validation shard, whose samples are spread evenly over four classes: half of a hard class is answered
/// wrongly.
fn counts(classes: &LabelMap, shard: u32, is_hard: impl Fn(u16) -> bool) -> Confusion {
    let mut confusion = Confusion::new(classes.len());
    for (class, &global) in classes.globals().iter().enumerate() {
        let samples = shard_samples(1500, shard) / 4;
        for sample in 0..samples {
            let wrong = is_hard(global) && sample % 2 == 0;
            confusion.add(class, if wrong { (class + 1) % classes.len() } else { class });
        }
    }
    confusion
}

fn summary(run: &str) -> bloctrain_shared::summary::Summary {
    serde_json::from_value(serde_json::json!({
        "run": run, "dataset": "d", "accuracy": {"test": 0.5, "validation": 0.5}, "blocks": [],
        "inference": {"compute_efficiency": 1.0, "synops_per_sample": 0.0, "macs_per_sample": 0.0,
            "parameter_overhead": 1.0},
        "cache": {"bytes": 0, "uncompressed_bytes": 0}, "wall_seconds": 0.0, "model": "", "report": ""
    }))
    .expect("a summary")
}

fn report(
    state: &mut State,
    now: u64,
    worker: u64,
    task: &Task,
    lease_epoch: u64,
    result: Result<Output, Failure>,
) -> Result<Vec<Effect>, Rejected> {
    let report = Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result };
    let mut effects = state.apply(now, Event::Reported { worker, run: task.run.clone(), report: Box::new(report) })?;
    if let Some(doubt) = doubt_of(&effects) {
        effects.extend(state.apply(now, confirmed(doubt))?);
    }
    Ok(effects)
}

/// What the coordinator is to look for.
fn doubt_of(effects: &[Effect]) -> Option<Box<Doubt>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Verify(doubt) => Some(doubt.clone()),
        _ => None,
    })
}

/// The coordinator finds lost what a worker said is lost.
fn confirmed(doubt: Box<Doubt>) -> Event {
    let lost = Lost { key: doubt.key.clone(), problem: doubt.problem.clone() };
    Event::Verified { doubt, found: Ok(vec![lost]) }
}

/// Works until nothing is open; answers the tasks in order.
fn work(state: &mut State, worker: u64, epochs: u32) -> Vec<String> {
    let mut done = Vec::new();
    while let Some((task, lease)) = ask(state, 0, worker) {
        let made = output(&task, epochs);
        report(state, 0, worker, &task, lease, Ok(made)).expect("accepted");
        done.push(task.id.to_string());
        assert!(done.len() < 500, "the run does not end: {done:?}");
    }
    done
}

#[test]
fn a_run_goes_through_its_stages_in_order() {
    let (mut state, run, worker) = started(2, 0);
    let done = work(&mut state, worker, 2);
    let expected = [
        "block1/train/0",
        "block1/train/1",
        "block1/validate/0",
        "block1/validate/1",
        "block1/export/0",
        "block1/export/1",
        "block1/export/2",
        "block1/export/3",
        "block1/detect/0",
        "block2/train/0",
    ];
    assert_eq!(done[..10], expected);
    assert_eq!(done.last().map(String::as_str), Some("finish/0"));
    let run = &state.durable.runs[&run];
    assert_eq!(run.state, RunState::Completed);
    assert_eq!(run.blocks.iter().map(|block| block.classes.len()).collect::<Vec<_>>(), [4, 2, 2]);
    assert_eq!(run.blocks[0].hard.as_ref().map(LabelMap::globals), Some([2, 3].as_slice()));
}

#[test]
fn fewer_than_two_hard_classes_complete_the_network() {
    let (mut state, run, worker) = started(1, 0);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    for _ in 0..2 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let confusion = counts(&LabelMap::all(4), task.id.part, |_| false);
        report(&mut state, 0, worker, &task, lease, Ok(Output::Validate(validate::Output { confusion })))
            .expect("accepted");
    }
    assert_eq!(state.durable.runs[&run].blocks.len(), 1);
    assert_eq!(work(&mut state, worker, 1), ["evaluate/0", "evaluate/1", "evaluate/2", "finish/0"]);
}

#[test]
fn early_stopping_freezes_the_best_round() {
    let (mut state, run, worker) = started(20, 3);
    for _ in 0..5 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 20))).expect("accepted");
    }
    let block = &state.durable.runs[&run].blocks[0];
    assert_eq!(
        (block.frozen, block.rounds.len()),
        (Some(1), 5),
        "round 1 is best, three epochs passed without a better one"
    );
    assert!(block.rounds[1].kept);
}

#[test]
fn a_round_that_was_handed_back_is_never_the_best() {
    let (mut state, run, worker) = started(2, 2);
    for (validation_accuracy, epochs) in [(None, 0), (Some(0.0), 1), (Some(0.0), 2)] {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let Output::Train(train::Output { checkpoint, metrics, .. }) = output(&task, 2) else {
            panic!("training comes first")
        };
        let metrics = RoundMetrics { validation_accuracy, epochs, ..metrics };
        let made = Output::Train(train::Output { checkpoint, finished: epochs == 2, metrics });
        report(&mut state, 0, worker, &task, lease, Ok(made)).expect("accepted");
    }
    assert_eq!(state.durable.runs[&run].blocks[0].frozen, Some(1), "as without the hand-back");
}

#[test]
fn old_checkpoints_are_removed_and_a_damaged_one_falls_back() {
    let (mut state, run, worker) = started(9, 0);
    let mut removed = Vec::new();
    for _ in 0..5 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        for effect in report(&mut state, 0, worker, &task, lease, Ok(output(&task, 9))).expect("accepted") {
            if let Effect::Delete(keys) = effect {
                removed.extend(keys);
            }
        }
    }
    let expected = ["0.w", "0.o", "1.w", "1.o"].map(|part| made(&run, &format!("block1/train/{part}")));
    assert_eq!(removed, expected);
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    let lost =
        Failure::InputLost { key: made(&run, "block1/train/4.w"), problem: "it is damaged".into(), content: false };
    report(&mut state, 0, worker, &task, lease, Err(lost)).expect("accepted");
    assert!(state.durable.runs[&run].notes[0].contains("round 4"), "{:?}", state.durable.runs[&run].notes);
    let (task, _) = ask(&mut state, 0, worker).expect("a task");
    let Work::Train(train::Work { round, from, .. }) = task.work else { panic!("training goes on") };
    assert_eq!((round, from.map(|from| from.weights.key)), (4, Some(made(&run, "block1/train/3.w"))));
}

#[test]
fn a_lost_shard_is_exported_again_and_frozen_weights_are_made_again() {
    let (mut state, run, worker) = started(1, 0);
    while state.durable.runs[&run].blocks.len() < 2 || state.durable.runs[&run].blocks[0].detector.is_none() {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    }
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    assert_eq!(task.id.to_string(), "block2/train/0");
    let lost = |key: String| Err(Failure::InputLost { key, problem: "damaged".into(), content: false });
    report(&mut state, 0, worker, &task, lease, lost(cached("block1/export/1"))).expect("accepted");
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    assert_eq!(task.id.to_string(), "block1/export/1");
    report(&mut state, 0, worker, &task, lease, lost(made(&run, "block1/train/0.w"))).expect("accepted");
    let (task, lease) = ask(&mut state, 0, worker).expect("a task");
    assert_eq!(task.id.to_string(), "block1/train/0");
    report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    assert_eq!(
        state.durable.runs[&run].blocks[0].exports.len(),
        3,
        "the same weights: what was made of them still holds"
    );
    assert_eq!(work(&mut state, worker, 1).last().map(String::as_str), Some("finish/0"));
}

#[test]
fn failures_fail_the_run_with_the_workers_words() {
    let (mut state, run, worker) = started(1, 0);
    for attempt in 1..=6 {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let failure = Failure::Transient { message: format!("attempt {attempt}") };
        report(&mut state, 0, worker, &task, lease, Err(failure)).expect("accepted");
    }
    let RunState::Failed { message } = &state.durable.runs[&run].state else { panic!("failed") };
    assert!(message.contains("attempt 1") && message.contains("attempt 6"), "{message}");
    assert!(ask(&mut state, 0, worker).is_none());
    state.apply(0, Event::Submitted { submission: Box::new(submission(1, 0)), object: object("spec") }).expect("again");
    assert!(ask(&mut state, 0, worker).is_some(), "submitting again takes it up");
}

/// A run whose id was made by another rule keeps it.
#[test]
fn a_run_of_before_is_replayed_under_its_own_id() {
    let submission = submission(2, 0);
    let former = "r0123456789ab".to_owned();
    assert_ne!(former, submission.run_id(), "its specification has another id now");
    let mut durable = Durable::default();
    let record =
        Record::Submitted { run: former.clone(), submission: Box::new(submission), object: object("spec"), plan: None };
    durable.replay(record, 0);
    assert_eq!(durable.runs[&former].plan.run, former);
    let mut state = State::new(durable, LEASE);
    let worker = register(&mut state);
    let (task, _) = ask(&mut state, 1, worker).expect("a task");
    assert_eq!(task.run, former);
}

#[test]
fn other_versions_and_backends_get_nothing() {
    let (mut state, _, _) = started(1, 0);
    let old = Newcomer { arithmetic: 99, ..newcomer("x", "cpu") };
    assert!(matches!(state.apply(0, Event::Registered(Box::new(old))), Err(Rejected::Arithmetic { .. })));
    state.apply(0, Event::Registered(Box::new(newcomer("x", "cuda")))).expect("known");
    let effects = state.apply(0, Event::Asked { worker: 2 }).expect("known");
    let [Effect::Refuse { worker: 2, why }] = effects.as_slice() else { panic!("a reason, not {effects:?}") };
    assert!(why.contains("backend cpu") && why.contains("has cuda"), "{why}");
}

/// What finding one task and serving many waiting workers rest on: the first open task of any kind is found without
/// listing all, and idle workers of one kind all get something or all get nothing.
fn check_choice(state: &State, now: u64) -> Result<(), TestCaseError> {
    for run in state.durable.runs.values() {
        let open = run.open_tasks();
        prop_assert_eq!(run.open_task(|_| true), open.first().cloned());
        for task in &open {
            prop_assert_eq!(run.open_task(|id| id == task.id), Some(task.clone()));
        }
    }
    let apart = state.apart();
    let mut kinds: BTreeMap<&str, bool> = BTreeMap::new();
    for worker in state.workers.keys().filter(|worker| state.attempts.of_worker(**worker).is_none()) {
        if let Some(kind) = state.kind(&apart, *worker) {
            let gets = ask(&mut state.clone(), now, *worker).is_some();
            prop_assert_eq!(*kinds.entry(kind).or_insert(gets), gets, "workers of a kind are alike");
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u64),
    Report(u64, bool),
    Stale(u64),
    Lose(u64),
    Wait(u64),
    Leave(u64),
    Restart,
}

impl Step {
    /// The same by the numbers that an opening gives: they begin anew with every coordinator, its own.
    fn on(self, opening: u64) -> Self {
        let base = opening << 32;
        match self {
            Self::Ask(worker) => Self::Ask(base + worker),
            Self::Report(worker, right) => Self::Report(base + worker, right),
            Self::Stale(worker) => Self::Stale(base + worker),
            Self::Lose(worker) => Self::Lose(base + worker),
            Self::Leave(worker) => Self::Leave(base + worker),
            Self::Wait(_) | Self::Restart => self,
        }
    }
}

/// What a step of a worker tells the coordinator; nothing where the worker holds no task to report on.
fn event(step: &Step, state: &State, run: &str, held: &BTreeMap<u64, (Task, u64)>) -> Event {
    let lost = |key: &str| Failure::InputLost { key: key.into(), problem: "x".into(), content: false };
    let reported = |worker: u64, age: u64, result: &dyn Fn(&Task) -> Option<Result<Output, Failure>>| {
        let Some((task, lease_epoch)) = held.get(&worker) else { return Event::Tick };
        let Some(result) = result(task) else { return Event::Tick };
        let report = Report { task: task.id, lease_epoch: lease_epoch - age, seconds: 0.0, inputs: None, result };
        Event::Reported { worker, run: run.into(), report: Box::new(report) }
    };
    match *step {
        Step::Ask(worker) => Event::Asked { worker },
        Step::Report(worker, true) => reported(worker, 0, &|task| Some(Ok(output(task, 2)))),
        Step::Report(worker, false) => reported(worker, 0, &|_| Some(Err(lost("nothing")))),
        Step::Stale(worker) => reported(worker, 1, &|task| Some(Ok(output(task, 2)))),
        Step::Lose(worker) => reported(worker, 0, &|_| {
            let exported = state.durable.runs[run].blocks[0].exports.get(&0)?;
            Some(Err(lost(&exported.shard.object.key)))
        }),
        Step::Leave(worker) => Event::Left { worker },
        Step::Wait(_) | Step::Restart => Event::Tick,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_u64..4).prop_map(Step::Ask),
        8 => (1_u64..4, prop::bool::weighted(0.9)).prop_map(|(worker, right)| Step::Report(worker, right)),
        2 => (1_u64..4).prop_map(Step::Stale),
        1 => (1_u64..4).prop_map(Step::Lose),
        2 => (1_u64..1500).prop_map(Step::Wait),
        1 => (1_u64..4).prop_map(Step::Leave),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn invariants_hold_after_every_event_and_the_run_completes(steps in steps(), replicas in 1_u32..4) {
        let (mut state, run, _) = begun(replicated(2, replicas));
        let mut log = vec![Record::Submitted { run: run.clone(), submission: Box::new(replicated(2, replicas)),
            object: object("spec"), plan: None }];
        let mut held: BTreeMap<u64, (Task, u64)> = BTreeMap::new();
        let mut decided: BTreeMap<usize, LabelMap> = BTreeMap::new();
        let mut now = 0;
        register(&mut state);
        register(&mut state);
        for step in steps {
            let before = state.clone();
            let step = step.on(state.durable.openings);
            let event = match step {
                Step::Wait(passed) => {
                    now += passed;
                    Event::Tick
                }
                Step::Restart => {
                    state = State::new(state.durable.clone(), LEASE);
                    state.durable.replay(Record::Opened, now);
                    log.push(Record::Opened);
                    let durable = state.durable.clone();
                    state = State::new(durable, LEASE);
                    (0..3).for_each(|_| { register(&mut state); });
                    // What they held before, they report to the new one, too.
                    held = held.into_iter().map(|(worker, task)| (worker + (1 << 32), task)).collect();
                    continue;
                }
                _ => event(&step, &state, &run, &held),
            };
            let is_stale = matches!(step, Step::Stale(_)) && matches!(event, Event::Reported { .. });
            let result = state.apply(now, event);
            prop_assert!(!is_stale || result.is_err(), "R-3: an old lease was accepted");
            match result {
                Err(_) => prop_assert_eq!(&state, &before, "R-5: a rejected event changed the state"),
                Ok(mut effects) => {
                    if let Some(doubt) = doubt_of(&effects) {
                        effects.extend(state.apply(now, confirmed(doubt)).expect("never refused"));
                    }
                    for effect in effects {
                    match effect {
                        Effect::Grant { worker, lease_epoch, task } => {
                            prop_assert!(!before.durable.runs[&run].is_committed(task.id), "R-1: a committed task was \
                            handed out");
                            if let Work::Merge(merge::Work { replicas: merged, .. }) = &task.work {
                                prop_assert_eq!(merged.len(), replicas as usize, "R-2: a round is merged without all \
                                its replicas");
                            }
                            held.insert(worker, (*task, lease_epoch));
                        }
                        Effect::Persist(record) => log.push(record),
                        _ => {}
                    }
                }
                },
            }
            check_choice(&state, now)?;
            for (index, block) in state.durable.runs[&run].blocks.iter().enumerate() {
                if let Some(hard) = &block.hard {
                    prop_assert_eq!(decided.entry(index).or_insert_with(|| hard.clone()), hard, "R-6: decided twice");
                }
            }
        }
        let mut replayed = Durable::default();
        for record in log {
            replayed.replay(record, 0);
        }
        let timeless = |durable: &Durable| {
            let mut durable = durable.clone();
            for run in durable.runs.values_mut() {
                run.updated_ms = 0;
                run.blocks.iter_mut().for_each(|block| block.begun_ms = 0);
            }
            durable
        };
        prop_assert_eq!(timeless(&replayed), timeless(&state.durable), "R-5: replay gives another state");
        if state.durable.runs[&run].state == RunState::Running {
            state.apply(now + 100 * LEASE, Event::Tick).expect("time passes");
            let worker = register(&mut state);
            state.workers.get_mut(&worker).expect("just registered").seen_ms = now + 100 * LEASE;
            work(&mut state, worker, 2);
            prop_assert_eq!(&state.durable.runs[&run].state, &RunState::Completed, "a fair worker completes the run");
        }
    }
}

#[test]
fn the_split_of_evaluation_is_kept_apart() {
    let (mut state, _, worker) = started(1, 0);
    let mut finish = None;
    while let Some((task, lease)) = ask(&mut state, 0, worker) {
        if let Work::Finish(finish::Work { validation, test, .. }) = &task.work {
            finish = Some((validation.len(), test.len()));
        }
        if let Work::Evaluate(evaluate::Work { split, .. }) = &task.work {
            assert_ne!(*split, Split::Train);
        }
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
    }
    assert_eq!(finish, Some((2, 1)));
}
