//! Attempts whose inputs came out differently meanwhile.

use super::*;

/// Two workers: the first has made block 1, the second trains block 2 when the weights of block 1 turn out to be lost.
fn while_block_one_is_made_again() -> (State, String, u64, (u64, Task, u64)) {
    let (mut state, run, first) = started(1, 0);
    while state.durable.runs[&run].blocks.len() < 2 || state.durable.runs[&run].blocks[0].detector.is_none() {
        let (task, lease) = ask(&mut state, 0, first).expect("a task");
        report(&mut state, 0, first, &task, lease, Ok(output(&task, 1))).expect("accepted");
    }
    let failure = Failure::InputLost { key: made(&run, "block1/train/0.w"), problem: "gone".into(), content: true };
    let record = Record::Failed {
        run: run.clone(),
        task: ask(&mut state, 0, first).expect("a task").0.id,
        worker: "w".into(),
        failure,
    };
    state.durable.replay(record, 0);
    let (task, _) = ask(&mut state, 0, first).expect("a task");
    assert_eq!(task.id.to_string(), "block1/train/0", "made again");
    let second = named(&mut state, "second");
    let (deeper, lease) = ask(&mut state, 0, second).expect("the cached shards are still there");
    assert_eq!(deeper.id.to_string(), "block2/train/0");
    (state, run, first, (second, deeper, lease))
}

/// What block 1 comes to when it is made again on a GPU.
fn otherwise(task: &Task) -> Output {
    let Output::Train(train::Output { mut checkpoint, finished, metrics }) = output(task, 1) else {
        panic!("training")
    };
    checkpoint.weights = object(format!("{}.again", checkpoint.weights.key));
    Output::Train(train::Output { checkpoint, finished, metrics })
}

#[test]
fn a_reset_ends_deeper_attempts_and_what_they_made_is_refused() {
    let (mut state, run, first, (second, deeper, lease)) = while_block_one_is_made_again();
    let (task, own) = ask(&mut state, 0, first).expect("asks again");
    report(&mut state, 0, first, &task, own, Ok(otherwise(&task))).expect("accepted");
    assert!(state.attempts.of_worker(second).is_none(), "it works from spikes of weights that are no more");
    // Until block 2 is open again, from new spikes.
    while state.durable.runs[&run].open_tasks()[0].id != deeper.id {
        let (task, lease) = ask(&mut state, 0, first).expect("a task");
        let mut made = output(&task, 1);
        if let Output::Export(exported) = &mut made {
            exported.shard.object = object(cached(&format!("{} again", task.id)));
        }
        report(&mut state, 0, first, &task, lease, Ok(made)).expect("accepted");
    }
    let before = state.clone();
    let late = report(&mut state, 0, second, &deeper, lease, Ok(output(&deeper, 1)));
    assert_eq!(late, Err(Rejected::Stale(deeper.id)));
    let asked = ask(&mut state, 0, second).expect("the same place, other inputs");
    assert_eq!(asked.0.id, deeper.id);
    let inputs = Some(deeper.work.identity());
    let old = Report { task: deeper.id, lease_epoch: asked.1, seconds: 1.0, inputs, result: Ok(output(&deeper, 1)) };
    let event = Event::Reported { worker: second, run: run.clone(), report: Box::new(old) };
    assert_eq!(state.apply(0, event), Err(Rejected::Outdated(deeper.id)), "under a new lease, too");
    assert_eq!(state.durable, before.durable);
    let inputs = Some(asked.0.work.identity());
    let new = Report { task: deeper.id, lease_epoch: asked.1, seconds: 1.0, inputs, result: Ok(output(&asked.0, 1)) };
    state.apply(0, Event::Reported { worker: second, run, report: Box::new(new) }).expect("what is open is accepted");
}

#[test]
fn weights_that_come_out_alike_end_nothing() {
    let (mut state, _, first, (second, deeper, lease)) = while_block_one_is_made_again();
    let (task, own) = ask(&mut state, 0, first).expect("asks again");
    report(&mut state, 0, first, &task, own, Ok(output(&task, 1))).expect("accepted");
    report(&mut state, 0, second, &deeper, lease, Ok(output(&deeper, 1))).expect("its inputs are what they were");
}

/// Early stopping: the best round is lost, comes out worse than one before it, and that one's weights were removed when
/// the best one was better.
#[test]
fn weights_that_were_removed_are_never_the_best_again() {
    let (mut state, run, worker) = started(5, 5);
    let train = |state: &mut State, accuracies: &[f64]| {
        for &accuracy in accuracies {
            let (task, lease) = ask(state, 0, worker).expect("a task");
            let Output::Train(mut trained) = output(&task, 5) else { panic!("training") };
            trained.metrics.validation_accuracy = Some(accuracy);
            report(state, 0, worker, &task, lease, Ok(Output::Train(trained))).expect("accepted");
        }
    };
    train(&mut state, &[0.6, 0.4, 0.4, 0.9, 0.3]);
    assert_eq!(state.durable.runs[&run].blocks[0].frozen, Some(3));
    let failure = Failure::InputLost { key: made(&run, "block1/train/3.w"), problem: "gone".into(), content: true };
    let task = ask(&mut state, 0, worker).expect("a task").0.id;
    state.durable.replay(Record::Failed { run: run.clone(), task, worker: "w".into(), failure }, 0);
    train(&mut state, &[0.1, 0.1]);
    let block = &state.durable.runs[&run].blocks[0];
    assert_eq!(block.frozen, Some(1), "the best one that is there");
    assert!(block.rounds[1].kept);
}
