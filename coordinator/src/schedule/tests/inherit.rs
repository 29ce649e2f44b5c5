//! Blocks that start from what the block before was trained with in their place.

use super::*;
use bloctrain_shared::spec::network::AuxiliaryKind;

#[test]
fn a_block_that_inherits_starts_from_the_weights_of_the_block_before_and_waits_for_them() {
    for replicas in [1, 2] {
        let mut submission = replicated(2, replicas);
        submission.spec.network.auxiliary.kind = AuxiliaryKind::Next;
        let (mut state, run, worker) = begun(submission);
        let weights = |state: &State| state.durable.runs[&run].blocks[0].weights().map(|object| object.key.clone());
        let mut lost = false;
        let mut named = Vec::new();
        while let Some((task, lease)) = ask(&mut state, 0, worker) {
            let (inherits, from) = match &task.work {
                Work::Train(train::Work { inherits, from, .. }) => (inherits, from.is_some()),
                Work::Merge(merge::Work { inherits, from, .. }) => (inherits, from.is_some()),
                _ => (&None, true),
            };
            assert_eq!(inherits.is_some(), !from && task.id.block > 1, "{}", task.id);
            if let Some(object) = inherits {
                assert!(task.work.objects().contains(&object), "what a task reads is named");
                let before = &state.durable.runs[&run].blocks[task.id.block as usize - 2];
                assert_eq!(Some(object), before.weights());
                if !std::mem::replace(&mut lost, true) {
                    let gone = Failure::InputLost { key: object.key.clone(), problem: "gone".into(), content: false };
                    report(&mut state, 0, worker, &task, lease, Err(gone)).expect("accepted");
                    assert_eq!(weights(&state), None, "block 1 trains its last round again");
                    continue;
                }
                named.push(task.id.to_string());
            }
            report(&mut state, 0, worker, &task, lease, Ok(output(&task, 2))).expect("accepted");
        }
        let expected: &[&str] = if replicas == 1 {
            &["block2/train/0", "block3/train/0"]
        } else {
            &[
                "block2/train/0/replica1",
                "block2/train/0/replica2",
                "block2/merge/0",
                "block3/train/0/replica1",
                "block3/train/0/replica2",
                "block3/merge/0",
            ]
        };
        assert_eq!(named, expected);
    }
}
