//! What was decided is in the records, and is not decided again by a later program.

use super::*;

/// Records of a run, up to the decision about block 1.
fn records() -> (Vec<Record>, String) {
    let mut state = State::new(Durable::default(), LEASE);
    let mut records = Vec::new();
    let mut keep = |effects: &[Effect]| {
        records.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Persist(record) => Some(record.clone()),
            _ => None,
        }));
    };
    let submission = submission(1, 0);
    let run = submission.run_id();
    keep(
        &state
            .apply(0, Event::Submitted { submission: Box::new(submission), object: object("spec") })
            .expect("submits"),
    );
    let worker = register(&mut state);
    while state.durable.runs[&run].blocks[0].hard.is_none() {
        let (task, lease) = ask(&mut state, 0, worker).expect("a task");
        keep(&report(&mut state, 0, worker, &task, lease, Ok(output(&task, 1))).expect("accepted"));
    }
    (records, run)
}

#[test]
fn a_later_program_that_would_decide_otherwise_goes_on_from_what_was_decided() {
    let (mut records, run) = records();
    // As if the rules had been others when these were written.
    for record in &mut records {
        match record {
            Record::Submitted { plan: Some(plan), .. } => plan.blocks = 7,
            Record::Committed { hard: Some(hard), .. } => *hard = LabelMap::new(vec![0, 1, 3]),
            _ => {}
        }
    }
    let text = serde_json::to_string(&records).expect("plain data");
    let mut durable = Durable::default();
    for record in serde_json::from_str::<Vec<Record>>(&text).expect("the same") {
        durable.replay(record, 0);
    }
    let replayed = &durable.runs[&run];
    assert_eq!(replayed.plan.blocks, 7);
    assert_eq!(replayed.blocks[0].hard.as_ref().map(LabelMap::globals), Some([0, 1, 3].as_slice()));
    assert_eq!(replayed.blocks[1].classes.globals(), [0, 1, 3]);
}

#[test]
fn records_of_before_are_decided_as_they_were() {
    let (records, run) = records();
    let replay = |records: Vec<Record>| {
        let mut durable = Durable::default();
        records.into_iter().for_each(|record| drop(durable.replay(record, 0)));
        durable
    };
    let mut before = records.clone();
    for record in &mut before {
        match record {
            Record::Submitted { plan, .. } => *plan = None,
            Record::Committed { hard, .. } => *hard = None,
            _ => {}
        }
    }
    assert_eq!(replay(before), replay(records.clone()));
    // One that cannot be planned any more is not dropped without a word.
    let mut unplannable = records;
    let Record::Submitted { submission, plan, .. } = &mut unplannable[0] else { panic!("submitted first") };
    (*plan, submission.spec.train.replicas) = (None, 1_000);
    let durable = replay(unplannable);
    let RunState::Failed { message } = &durable.runs[&run].state else { panic!("it says so") };
    assert!(message.contains("cannot plan it any more"), "{message}");
}
