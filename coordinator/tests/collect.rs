//! Garbage collection against the real state machine: whatever a task may still read is left alone.

mod fleet;

use bloctrain_coordinator::collect::named;
use bloctrain_coordinator::schedule::{Effect, Event};
use bloctrain_shared::key;
use bloctrain_shared::task::{Failure, Stage, TaskId};
use bloctrain_shared::view::RunState;
use bloctrain_store::Artefacts;
use bloctrain_store::collect::{Sweep, candidates, sweep};
use bytes::Bytes;
use fleet::{Fleet, output, submission};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Every `"key": "..."` in a JSON value.
fn keys_in(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("key").and_then(|key| key.as_str()).map(str::to_owned));
            fields.values().for_each(|field| keys_in(field, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys_in(item, found)),
        _ => {}
    }
}

fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("serialises")
}

/// Objects that some task may read, now or after any further commit of the same runs.
fn needed(fleet: &Fleet) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    fleet.open_tasks().iter().for_each(|task| keys_in(&json(task), &mut needed));
    for run in fleet.state.durable.runs.values() {
        needed.insert(run.object.key.clone());
        if let Some(network) = run.network() {
            network.iter().for_each(|block| keys_in(&json(block), &mut needed));
        }
    }
    needed
}

/// Objects that any record ever named.
fn ever_named(fleet: &Fleet) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    fleet.records.iter().for_each(|record| keys_in(&json(record), &mut keys));
    keys
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    Done,
    Transient,
    Lost(prop::sample::Index),
    Submit(u64),
    Cancel(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::Ask),
        10 => Just(Step::Done),
        1 => Just(Step::Transient),
        1 => any::<prop::sample::Index>().prop_map(Step::Lost),
        1 => (1..3_u64).prop_map(Step::Submit),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
    ]
}

fn perform(fleet: &mut Fleet, step: &Step) {
    match step {
        Step::Ask => fleet.ask(),
        Step::Done => drop(fleet.report(None)),
        Step::Transient => drop(fleet.report(Some(Failure::Transient { message: "m".into() }))),
        Step::Lost(index) => {
            let keys: Vec<String> = ever_named(fleet).into_iter().collect();
            if !keys.is_empty() {
                fleet.report(Some(Failure::InputLost {
                    key: index.get(&keys).clone(),
                    problem: "p".into(),
                    content: false,
                }));
            }
        }
        Step::Submit(seed) => drop(fleet.submit(*seed, u32::from(*seed == 2))),
        Step::Cancel(index) => {
            let runs: Vec<String> = fleet.state.durable.runs.keys().cloned().collect();
            if !runs.is_empty() {
                fleet.apply(Event::Cancelled { run: index.get(&runs).clone() });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// After any events: collection removes nothing that a task may read, and what goes was named once or never.
    #[test]
    fn what_tasks_may_read_is_never_removed(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut fleet = Fleet::new(4);
        fleet.submit(1, 0);
        for step in &steps {
            perform(&mut fleet, step);
        }
        let store = Artefacts::open("memory://").expect("opens");
        let garbage = ["cache/unknown.arrow", "cache/unknown.json", "runs/unknown/block1/x",
            "models/unknown/model.json"];
        let all: BTreeSet<String> = ever_named(&fleet).into_iter().chain(garbage.map(str::to_owned)).collect();
        let removed = runtime.block_on(async {
            for key in &all {
                store.put(key, Bytes::from(key.clone())).await.expect("written");
            }
            let found = candidates(&store).await.expect("lists");
            let keep = named(&fleet.state.durable);
            sweep(&store, found, &keep, Sweep { written_before_ms: u64::MAX, dry_run: false }).await.expect("sweeps");
            let left: BTreeSet<String> = store.list("").await.expect("lists").into_iter().map(|(key, _)| key).collect();
            all.difference(&left).cloned().collect::<BTreeSet<String>>()
        });
        let needed = needed(&fleet);
        prop_assert!(removed.is_disjoint(&needed), "{:?}", removed.intersection(&needed).collect::<Vec<_>>());
        prop_assert!(garbage[..3].iter().all(|key| removed.contains(*key)) && !removed.contains(garbage[3]));
    }
}

/// Every object of an output that the next task reads may get lost: then it is not needed any more, and what made it is
/// open again.
fn everything_can_be_lost(fleet: &Fleet, task: TaskId, own: &BTreeSet<String>) {
    for key in own {
        let mut fleet = fleet.clone();
        fleet.ask();
        let Some((next, _)) = &fleet.granted else { return };
        // A loss is believed of what the task was given.
        if !next.work.objects().iter().any(|object| object.key == *key) {
            continue;
        }
        fleet.report(Some(Failure::InputLost { key: key.clone(), problem: "p".into(), content: false }));
        assert!(
            !named(&fleet.state.durable).keys.contains(key),
            "{task} made {key}, which was lost, and the run still has it"
        );
    }
}

/// Works through a run, and after every commit looks for what garbage collection would take. Gives the stages that it
/// saw.
fn nothing_is_taken(replicas: u32, selects: bool) -> BTreeSet<Stage> {
    let mut fleet = Fleet::new(3);
    let mut submission = submission(1, 3, 0);
    submission.spec.train.replicas = replicas;
    submission.spec.hard_inputs.fraction = selects.then_some(0.5);
    let run = fleet.submit_as(submission);
    let (mut committed, mut seen) = (BTreeSet::new(), BTreeSet::new());
    loop {
        fleet.ask();
        let Some((task, _)) = fleet.granted.clone() else { return seen };
        let made = output(&task, fleet.epochs);
        let own: BTreeSet<String> = made.objects().into_iter().map(|object| object.key.clone()).collect();
        for (what, objects, whole) in
            [("output", made.objects(), json(&made)), ("work", task.work.objects(), json(&task.work))]
        {
            let mut all = BTreeSet::new();
            keys_in(&whole, &mut all);
            let listed: BTreeSet<String> = objects.into_iter().map(|object| object.key.clone()).collect();
            assert_eq!(listed, all, "what the {what} of {} names, and what its list says", task.id);
        }
        let effects = fleet.report(None);
        assert!(fleet.state.durable.runs[&run].is_committed(task.id), "{} was refused", task.id);
        seen.insert(task.id.stage);
        let keep = named(&fleet.state.durable).keys;
        assert!(own.is_subset(&keep), "{} made {own:?}, which would be collected", task.id);
        everything_can_be_lost(&fleet, task.id, &own);
        committed.extend(own);
        for effect in effects {
            if let Effect::Delete(keys) = effect {
                committed.retain(|key| !keys.contains(key));
            }
        }
        if fleet.state.durable.runs[&run].state != RunState::Completed {
            let lost: Vec<&String> = committed.difference(&keep).collect();
            assert!(lost.is_empty(), "after {} these would be collected, and nobody let go of them: {lost:?}", task.id);
        }
    }
}

/// What a commit brings is kept, whatever kind of task made it, until a later commit lets go of it. A kind that forgets
/// to name an object fails here; one that this test does not know does not compile (`fleet::output`) or is missed
/// below.
#[test]
fn nothing_that_an_output_names_is_collected() {
    let kinds = [(1, false), (2, false), (1, true)];
    let seen: BTreeSet<Stage> =
        kinds.into_iter().flat_map(|(replicas, selects)| nothing_is_taken(replicas, selects)).collect();
    assert_eq!(seen, BTreeSet::from(Stage::ALL));
}

#[test]
fn a_completed_run_keeps_what_others_share() {
    let mut fleet = Fleet::new(4);
    let run = fleet.submit(1, 0);
    fleet.finish();
    let state = &fleet.state.durable.runs[&run];
    assert_eq!(state.state, RunState::Completed);
    let keep = named(&fleet.state.durable);
    for block in &state.blocks {
        assert!(keep.keys.contains(&block.weights().expect("frozen").key));
        assert!(block.exports.values().all(|exported| keep.keys.contains(&exported.shard.object.key)));
    }
    let removable: Vec<String> = ever_named(&fleet).into_iter().filter(|key| !keep.keys.contains(key)).collect();
    assert!(
        removable.iter().any(|key| key.ends_with(".o")) && removable.iter().all(|key| key.starts_with(key::RUNS)),
        "{removable:?}"
    );
}
