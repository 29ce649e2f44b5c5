//! Hard inputs: scores of every shard, a selection from all of them, and what rests on it.

use super::*;
use bloctrain_shared::spec::Augment;

fn selecting(fraction: f64) -> Submission {
    let mut submission = submission(1, 0);
    submission.spec.hard_inputs.fraction = Some(fraction);
    submission
}

/// Does what is open until it is the turn of some task, which is given with its lease.
fn until(state: &mut State, worker: u64, wanted: &str) -> (Task, u64) {
    loop {
        let (task, lease) = ask(state, 0, worker).expect("a task");
        if task.id.to_string() == wanted {
            return (task, lease);
        }
        let made = output(&task, 1);
        report(state, 0, worker, &task, lease, Ok(made)).expect("accepted");
    }
}

fn lost(key: String) -> Result<Output, Failure> {
    Err(Failure::InputLost { key, problem: "gone".into(), content: true })
}

fn named_by(task: &Task) -> Vec<&str> {
    task.work.objects().iter().map(|object| object.key.as_str()).collect()
}

#[test]
fn a_block_is_scored_before_its_hard_inputs_are_selected_and_all_that_trains_on_them_names_them() {
    let (mut state, run, worker) = begun(selecting(0.5));
    let selection = made(&run, "block1/select/0");
    let (mut done, mut naming, mut deeper) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((task, lease)) = ask(&mut state, 0, worker) {
        let name = task.id.to_string();
        naming.extend(named_by(&task).contains(&selection.as_str()).then(|| name.clone()));
        if let Work::Score(score::Work { source, .. }) = &task.work {
            deeper.push((task.id.block, matches!(source, bloctrain_shared::task::Source::Images)));
        }
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted");
        done.push(name);
    }
    let block = |block: u32| {
        let stages = ["train/0", "validate/0", "validate/1", "score/0", "score/1", "select/0"];
        let rest = ["export/0", "export/1", "export/2", "export/3", "detect/0"];
        [&stages[..], &rest].concat().into_iter().map(move |stage| format!("block{block}/{stage}")).collect::<Vec<_>>()
    };
    let last = [
        "block3/train/0",
        "block3/validate/0",
        "block3/validate/1",
        "evaluate/0",
        "evaluate/1",
        "evaluate/2",
        "finish/0",
    ];
    assert_eq!(done, [block(1), block(2), last.map(str::to_owned).to_vec()].concat());
    // Training shards of the first block and its detector, and all that reads training samples of the second.
    let mut expected: Vec<String> =
        ["block1/export/0", "block1/export/1", "block1/detect/0", "block2/train/0"].map(str::to_owned).to_vec();
    expected.extend(
        ["score/0", "score/1", "select/0", "export/0", "export/1", "detect/0"].map(|stage| format!("block2/{stage}")),
    );
    assert_eq!(naming, expected, "validation shards have every sample");
    assert_eq!(deeper, [(1, true), (1, true), (2, false), (2, false)], "a deeper block's input is computed");
    let run = &state.durable.runs[&run];
    assert_eq!(
        run.blocks.iter().map(|block| block.classes.len()).collect::<Vec<_>>(),
        [4, 4, 4],
        "every block tells all apart"
    );
    assert!(run.blocks.iter().all(|block| block.scores.is_empty()), "nothing needs them any more");
    assert_eq!(run.notes[0], "after block 1: 5 of 9 training samples are hard, 1 of them answered wrongly");
}

#[test]
fn a_block_that_has_fitted_its_samples_is_told_of() {
    let note = |augment: &[Augment], wrong| {
        let mut submission = selecting(0.5);
        submission.spec.data.augment = augment.to_vec();
        let (mut state, run, worker) = begun(submission);
        let (task, lease) = until(&mut state, worker, "block1/select/0");
        let selection = object(made(&run, "block1/select/0"));
        let found = Output::Select(select::Output { selection, samples: 9, selected: 5, wrong });
        report(&mut state, 0, worker, &task, lease, Ok(found)).expect("accepted");
        state.durable.runs[&run].notes[0].clone()
    };
    assert!(note(&[], Some(0)).contains("0 of them answered wrongly; it has fitted them"));
    assert!(note(&[Augment::Flip], Some(0)).ends_with("0 of them answered wrongly"));
    assert!(note(&[], None).ends_with("training samples are hard"), "an older worker");
}

#[test]
fn a_lost_score_is_made_again_and_only_that_one() {
    let (mut state, run, worker) = begun(selecting(0.5));
    let (task, lease) = until(&mut state, worker, "block1/select/0");
    let shard = made(&run, "block1/score/1");
    assert!(named_by(&task).contains(&shard.as_str()));
    report(&mut state, 0, worker, &task, lease, lost(shard)).expect("believed");
    assert_eq!(work(&mut state, worker, 1)[..3], ["block1/score/1", "block1/select/0", "block1/export/0"]);
}

/// Block 2 is about to train when the selection of block 1 is found lost.
fn without_selection() -> (State, String, u64) {
    let (mut state, run, worker) = begun(selecting(0.5));
    let (task, lease) = until(&mut state, worker, "block2/train/0");
    report(&mut state, 0, worker, &task, lease, lost(made(&run, "block1/select/0"))).expect("believed");
    (state, run, worker)
}

#[test]
fn a_lost_selection_is_made_again_and_what_rests_on_it_stays_where_it_is_the_same() {
    let (mut state, _, worker) = without_selection();
    let done = work(&mut state, worker, 1);
    assert_eq!(
        done[..4],
        ["block1/score/0", "block1/score/1", "block1/select/0", "block2/train/0"],
        "the cache is still good"
    );
}

#[test]
fn what_rests_on_a_selection_that_came_out_differently_is_done_again() {
    let (mut state, run, worker) = without_selection();
    let (task, lease) = until(&mut state, worker, "block1/select/0");
    let selection = object(made(&run, "block1/other"));
    let other = Output::Select(select::Output { selection, samples: 9, selected: 5, wrong: None });
    report(&mut state, 0, worker, &task, lease, Ok(other)).expect("accepted");
    let done = work(&mut state, worker, 1);
    assert_eq!(
        done[..4],
        ["block1/export/0", "block1/export/1", "block1/detect/0", "block2/train/0"],
        "validation stays"
    );
    let notes = &state.durable.runs[&run].notes;
    assert!(notes.iter().any(|note| note.contains("hard inputs of block 1 came out differently")), "{notes:?}");
}

#[test]
fn a_selection_that_cannot_be_is_refused() {
    let (mut state, run, worker) = begun(selecting(0.5));
    let (task, lease) = until(&mut state, worker, "block1/select/0");
    let before = state.durable.clone();
    for (samples, selected, wrong) in [(2001, 5, 0), (9, 10, 0), (9, 5, 6)] {
        let selection = object(made(&run, "block1/select/0"));
        let claimed = Output::Select(select::Output { selection, samples, selected, wrong: Some(wrong) });
        let refused = report(&mut state, 0, worker, &task, lease, Ok(claimed));
        assert!(matches!(refused, Err(Rejected::Impossible { .. })), "{refused:?}");
    }
    assert_eq!(state.durable, before);
}

/// Runs that select other shares have the first block in common; the next only where the same samples were selected.
#[test]
fn what_was_selected_is_in_the_chain() {
    only_the_first_block_is_shared(selecting(0.5), selecting(0.6));
}

/// So have runs whose later blocks have other epochs.
#[test]
fn epochs_of_later_blocks_are_in_the_chain() {
    let mut other = selecting(0.5);
    (other.spec.train.epochs, other.spec.train.later_fraction) = (2, 0.5);
    let mut first = selecting(0.5);
    first.spec.train.epochs = 2;
    only_the_first_block_is_shared(first, other);
}

fn only_the_first_block_is_shared(first: Submission, other: Submission) {
    let trains = [first.spec.train.clone(), other.spec.train.clone()];
    let (mut state, first, worker) = begun(first);
    let second = other.run_id();
    state.apply(0, Event::Submitted { submission: Box::new(other), object: object("spec2") }).expect("submits");
    while [&first, &second]
        .iter()
        .any(|run| state.durable.runs[*run].blocks.first().is_none_or(|one| one.selection.is_none()))
    {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        let epochs = trains[usize::from(task.run == second)].epochs_of(task.id.block);
        report(&mut state, 0, worker, &task, lease, Ok(output(&task, epochs))).expect("accepted");
    }
    let (one, two) = (state.chains.of(&first), state.chains.of(&second));
    assert_eq!(one[0], two[0], "the first block is trained once");
    assert!(one.len() > 1 && two.len() > 1 && one[1] != two[1]);
}
