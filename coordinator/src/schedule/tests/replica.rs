//! Rounds of several replicas: what is open when, who gets it, and what happens when something is lost.

use super::*;
use bloctrain_shared::stage::{merge, train};
use bloctrain_shared::task::{Checkpoint, Output, RoundMetrics, Work};

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint { weights: object(format!("{name}.w")), optimizer: object(format!("{name}.o")) }
}

fn finish(state: &mut State, worker: u64, (task, lease): (Task, u64)) -> Vec<Effect> {
    let made = output(&task, 3);
    report(state, 0, worker, &task, lease, Ok(made)).expect("accepted")
}

/// A run of three replicas whose first round is merged by the last of three workers.
fn merged() -> (State, String, [u64; 3]) {
    let (mut state, run, first) = begun(replicated(3, 3));
    let workers = [first, named(&mut state, "x"), named(&mut state, "y")];
    let held = workers.map(|worker| ask(&mut state, 0, worker).expect("a replica's part"));
    for (worker, held) in workers.into_iter().zip(held) {
        finish(&mut state, worker, held);
    }
    let merge = ask(&mut state, 0, workers[2]).expect("the merge");
    finish(&mut state, workers[2], merge);
    (state, run, workers)
}

#[test]
fn a_merge_waits_for_all_replicas_and_names_them_in_order() {
    let (mut state, run, a) = begun(replicated(3, 3));
    let (b, c) = (named(&mut state, "b"), named(&mut state, "c"));
    let held = [c, a, b].map(|worker| (worker, ask(&mut state, 0, worker).expect("a part")));
    let ids = held.each_ref().map(|(_, (task, _))| task.id.to_string());
    assert_eq!(ids, [1, 2, 3].map(|replica| format!("block1/train/0/replica{replica}")));
    for (worker, held) in held {
        let mut with_another = state.clone();
        let another = named(&mut with_another, "d");
        assert!(ask(&mut with_another, 0, another).is_none(), "nothing else is open");
        finish(&mut state, worker, held);
    }
    let (task, lease) = ask(&mut state, 0, a).expect("the merge");
    assert_eq!(task.id.to_string(), "block1/merge/0");
    assert!(ask(&mut state, 0, b).is_none(), "the next round waits for the merge");
    let Work::Merge(merge::Work { round: 0, from: None, replicas, .. }) = &task.work else {
        panic!("a merge, not {:?}", task.work)
    };
    let keys: Vec<&str> = replicas.iter().map(|replica| replica.weights.key.as_str()).collect();
    assert_eq!(keys, [1, 2, 3].map(|replica| made(&run, &format!("block1/train/0/replica{replica}.w"))));
    let deleted: Vec<String> = finish(&mut state, a, (task, lease))
        .into_iter()
        .filter_map(|effect| if let Effect::Delete(keys) = effect { Some(keys) } else { None })
        .flatten()
        .collect();
    assert_eq!(deleted, [1, 2, 3].map(|replica| made(&run, &format!("block1/train/0/replica{replica}.w"))));
}

#[test]
fn a_replica_goes_back_to_the_worker_that_has_it_and_starts_from_the_merge_with_its_own_optimiser() {
    let (mut state, run, [first, second, third]) = merged();
    for (worker, replica) in [(third, 3), (first, 1), (second, 2)] {
        let (task, _) = ask(&mut state, 0, worker).expect("its part");
        assert_eq!((task.id.part, task.id.replica), (1, replica));
        let Work::Train(train::Work { round: 1, from: Some(from), .. }) = task.work else {
            panic!("a round, not {:?}", task.work)
        };
        assert_eq!(from.weights.key, made(&run, "block1/merge/0.w"));
        assert_eq!(from.optimizer.key, made(&run, &format!("block1/train/0/replica{replica}.o")));
    }
}

#[test]
fn a_lost_replica_is_leased_again_and_its_late_report_changes_nothing() {
    let (mut state, _, [first, second, third]) = merged();
    let lost = ask(&mut state, 0, first).expect("its part");
    let other = ask(&mut state, 0, second).expect("its part");
    finish(&mut state, second, other);
    state.apply(2 * LEASE, Event::Tick).expect("time passes");
    for worker in [second, third] {
        state.workers.get_mut(&worker).expect("alive").seen_ms = 2 * LEASE;
    }
    let again = [third, second].map(|worker| ask(&mut state, 2 * LEASE, worker).expect("a part"));
    assert_eq!(again[1].0.id, lost.0.id, "the part of the worker that fell silent");
    let before = state.clone();
    let late = report(&mut state, 2 * LEASE, first, &lost.0, lost.1, Ok(output(&lost.0, 3)));
    assert_eq!(late, Err(Rejected::Stale(lost.0.id)), "R-3");
    let [third_part, again] = again;
    finish(&mut state, second, again.clone());
    let twice = report(&mut state, 2 * LEASE, second, &again.0, again.1, Ok(output(&again.0, 3)));
    assert_eq!(twice, Err(Rejected::Committed(lost.0.id)), "R-1");
    assert_ne!(state, before);
    finish(&mut state, third, third_part);
    assert_eq!(ask(&mut state, 2 * LEASE, third).expect("the merge").0.id.to_string(), "block1/merge/1");
}

#[test]
fn a_part_that_is_handed_back_goes_on_where_it_stopped() {
    let (mut state, run, [first, ..]) = merged();
    let (task, lease) = ask(&mut state, 0, first).expect("its part");
    let metrics = |samples| RoundMetrics { samples, loss: samples as f64, ..RoundMetrics::default() };
    let name = format!("runs/{run}/block1/half");
    let half = Output::Replica(train::Part { checkpoint: checkpoint(&name), complete: false, metrics: metrics(1) });
    report(&mut state, 0, first, &task, lease, Ok(half.clone())).expect("accepted");
    assert_eq!(report(&mut state, 0, first, &task, lease, Ok(half)), Err(Rejected::Committed(task.id)), "R-1");
    let (rest, lease) = ask(&mut state, 0, first).expect("the rest");
    assert_eq!((rest.id.part, rest.id.replica), (2, 1));
    let Work::Train(train::Work { round, from, .. }) = &rest.work else { panic!("a round") };
    assert_eq!((*round, from.clone()), (1, Some(checkpoint(&name))), "the same round, from its own parameters");
    let end = Output::Replica(train::Part {
        checkpoint: checkpoint(&format!("{name}2")),
        complete: true,
        metrics: metrics(3),
    });
    report(&mut state, 0, first, &rest, lease, Ok(end)).expect("accepted");
    let part = &state.durable.runs[&run].blocks[0].parts[&1];
    assert_eq!((part.metrics.samples, part.metrics.loss, part.complete), (4, 2.5, true), "both together");
}

#[test]
fn what_is_lost_is_trained_again_and_no_more() {
    let (mut state, run, workers) = merged();
    // The state after a worker said that what its task reads is damaged.
    let lose = |state: &State, worker: u64, key: &str| {
        let mut state = state.clone();
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let lost = Failure::InputLost { key: made(&run, key), problem: "it is damaged".into(), content: false };
        report(&mut state, 0, worker, &task, lease, Err(lost)).expect("accepted");
        state
    };
    let is_back = |state: &State| {
        let block = &state.durable.runs[&run].blocks[0];
        let links = state.durable.runs[&run].open_tasks().iter().map(|task| task.id.part).collect::<Vec<_>>();
        block.rounds.is_empty() && block.parts.is_empty() && links == [0, 0, 0]
    };
    for key in ["block1/merge/0.w", "block1/train/0/replica2.o"] {
        assert!(is_back(&lose(&state, workers[1], key)), "{key}: back to the round before");
    }
    for worker in workers {
        let part = ask(&mut state, 0, worker).expect("its part");
        finish(&mut state, worker, part);
    }
    assert!(is_back(&lose(&state, workers[0], "block1/merge/0.o")), "the outer optimiser's state");
    let after = lose(&state, workers[0], "block1/train/1/replica2.w");
    assert_eq!(after.durable.runs[&run].blocks[0].parts.keys().copied().collect::<Vec<u32>>(), [1, 3]);
}

#[test]
fn a_replica_without_samples_is_left_out_of_the_mean_and_shared_objects_stay() {
    let (mut state, run, [first, second, third]) = merged();
    for worker in [first, second] {
        let part = ask(&mut state, 0, worker).expect("its part");
        finish(&mut state, worker, part);
    }
    let (task, lease) = ask(&mut state, 0, third).expect("its part");
    let Work::Train(train::Work { from: Some(from), .. }) = task.work.clone() else { panic!("a round") };
    let idle =
        Output::Replica(train::Part { checkpoint: from.clone(), complete: true, metrics: RoundMetrics::default() });
    report(&mut state, 0, third, &task, lease, Ok(idle)).expect("accepted");
    let (merge, lease) = ask(&mut state, 0, third).expect("the merge");
    let Work::Merge(merge::Work { replicas, .. }) = &merge.work else { panic!("a merge") };
    assert_eq!(replicas.len(), 2);
    let deleted: Vec<String> = finish(&mut state, third, (merge, lease))
        .into_iter()
        .filter_map(|effect| if let Effect::Delete(keys) = effect { Some(keys) } else { None })
        .flatten()
        .collect();
    assert!(
        !deleted.contains(&from.weights.key),
        "the merged parameters of the round before are still there to fall back to"
    );
    assert_eq!(deleted.len(), 2);
    assert!(state.durable.runs[&run].blocks[0].resumable().any(|object| object.key == from.weights.key));
}

#[test]
fn the_view_counts_parts_and_merges() {
    let (mut state, run, [first, ..]) = merged();
    let part = ask(&mut state, 0, first).expect("its part");
    finish(&mut state, first, part);
    let stages = state.view(&run).expect("known").blocks[0].stages.clone();
    let counts = |stage| stages.iter().find(|view| view.stage == stage).map(|view| (view.done, view.total));
    assert_eq!(counts(Stage::Train), Some((4, 9)));
    assert_eq!(counts(Stage::Merge), Some((1, 3)));
}

#[test]
fn plain_training_is_stored_as_before_there_were_replicas() {
    let (mut state, run, worker) = begun(replicated(3, 1));
    let first = ask(&mut state, 0, worker).expect("a round");
    let granted = serde_json::to_string(&first.0).expect("plain data");
    finish(&mut state, worker, first);
    let stored = serde_json::to_string(&state.durable.runs[&run].blocks).expect("plain data");
    for text in [granted, stored] {
        assert!(!["replica", "parts", "outer"].iter().any(|word| text.contains(word)), "{text}");
    }
    let submission = serde_json::to_string(&state.durable.runs[&run].submission).expect("plain data");
    assert!(!submission.contains("outer"), "the identity of runs of before: {submission}");
}
