//! Frozen blocks that runs share: who trains, who waits, and what happens when the shared object is lost.

use super::*;
use bloctrain_shared::spec::HardClassPolicy;
use bloctrain_shared::stage::train;
use bloctrain_shared::task::{Output, Work};

fn state() -> State {
    State::new(Durable::default(), LEASE)
}

/// Submits a run, the later the younger; gives its id.
fn submit(state: &mut State, submission: Submission) -> String {
    let run = submission.run_id();
    let now = state.durable.runs.len() as u64;
    let event = Event::Submitted { submission: Box::new(submission), object: object(format!("spec-{run}")) };
    state.apply(now, event).expect("submits");
    run
}

fn like(base: &Submission, change: impl Fn(&mut Submission)) -> Submission {
    let mut other = base.clone();
    change(&mut other);
    other
}

/// One that differs in nothing that training depends on, and decides hard classes in the same way.
fn twin(base: &Submission) -> Submission {
    like(base, |other| {
        other.spec.run.name = Some("twin".into());
        other.spec.exit.max_accuracy_drop = 0.1;
        other.spec.detector.epochs += 1;
        other.spec.data.dir = Some("/elsewhere".into());
    })
}

/// Works until nothing is open, the tasks of all runs in order; gives run and task, and what was deleted.
fn work(state: &mut State, worker: u64, epochs: u32, log: &mut Vec<Record>) -> Vec<(String, String)> {
    let mut done = Vec::new();
    loop {
        let effects = state.apply(10, Event::Asked { worker }).expect("known");
        log.extend(persisted(&effects));
        let granted = effects.into_iter().find_map(|effect| match effect {
            Effect::Grant { task, lease_epoch, .. } => Some((*task, lease_epoch)),
            _ => None,
        });
        let Some((task, lease)) = granted else { return done };
        let effects = report(state, 10, worker, &task, lease, Ok(output(&task, epochs))).expect("accepted");
        log.extend(persisted(&effects));
        done.push((task.run.clone(), task.id.to_string()));
        assert!(done.len() < 500, "the runs do not end");
    }
}

fn persisted(effects: &[Effect]) -> Vec<Record> {
    let record = |effect: &Effect| if let Effect::Persist(record) = effect { Some(record.clone()) } else { None };
    effects.iter().filter_map(record).collect()
}

/// Blocks that a run trained itself.
fn trained(done: &[(String, String)], run: &str) -> Vec<String> {
    let training = |task: &&String| task.contains("/train/") || task.contains("/merge/");
    let mut blocks: Vec<String> = done
        .iter()
        .filter(|(of, _)| of == run)
        .map(|(_, task)| task)
        .filter(training)
        .map(|task| task[..6].to_owned())
        .collect();
    blocks.dedup();
    blocks
}

#[test]
fn what_runs_agree_in_is_trained_once_and_replay_gives_the_same() {
    let base = submission(2, 0);
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let same = submit(&mut state, twin(&base));
    let all_hard = submit(&mut state, like(&base, |other| other.spec.hard_classes.policy = HardClassPolicy::All));
    let other = submit(&mut state, like(&base, |other| other.spec.train.learning_rate *= 2.0));
    let before = state.durable.clone();
    let worker = named(&mut state, "w");
    let mut log = Vec::new();
    let done = work(&mut state, worker, 2, &mut log);
    assert_eq!(trained(&done, &first), ["block1", "block2", "block3"]);
    assert_eq!(trained(&done, &same), [""; 0]);
    assert_eq!(trained(&done, &all_hard), ["block2", "block3"], "from block 2 on it has other classes");
    assert_eq!(trained(&done, &other), ["block1", "block2", "block3"]);
    assert!(state.durable.runs.values().all(|run| run.state == RunState::Completed));
    let block = |run: &String| &state.durable.runs[run].blocks[0];
    assert_eq!(block(&same).weights(), block(&first).weights());
    let metrics = |run: &String| block(run).rounds.iter().map(|round| round.metrics.clone()).collect::<Vec<_>>();
    assert_eq!(metrics(&same), metrics(&first), "the summary has all rounds");
    assert_eq!(block(&same).rounds.iter().map(|round| round.kept).collect::<Vec<_>>(), [false, true]);
    let mut replayed = before;
    log.into_iter().for_each(|record| drop(replayed.replay(record, 10)));
    assert_eq!(replayed, state.durable, "R-5");
}

#[test]
fn replicas_are_shared_as_merged() {
    let base = replicated(2, 2);
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let second = submit(&mut state, twin(&base));
    let one = submit(&mut state, like(&base, |other| other.spec.train.replicas = 3));
    let worker = named(&mut state, "w");
    let done = work(&mut state, worker, 2, &mut Vec::new());
    assert_eq!(
        [&first, &second, &one].map(|run| trained(&done, run).len()),
        [3, 0, 3],
        "two replicas make other weights than three"
    );
    assert!(state.durable.runs.values().all(|run| run.state == RunState::Completed));
}

#[test]
fn the_others_wait_for_the_leader_unless_it_stops() {
    let base = submission(3, 0);
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let second = submit(&mut state, twin(&base));
    let (one, two) = (named(&mut state, "one"), named(&mut state, "two"));
    let (task, lease) = ask(&mut state, 10, one).expect("a round");
    assert_eq!((&task.run, task.id.to_string().as_str()), (&first, "block1/train/0"));
    assert_eq!(ask(&mut state, 10, two), None, "the block is being trained");
    report(&mut state, 10, one, &task, lease, Ok(output(&task, 3))).expect("accepted");
    state.apply(10, Event::Paused { run: first.clone() }).expect("pauses");
    let (task, lease) = ask(&mut state, 10, two).expect("nobody waits for a run that is paused");
    assert_eq!((&task.run, task.id.to_string().as_str()), (&second, "block1/train/0"));
    report(&mut state, 10, two, &task, lease, Ok(output(&task, 3))).expect("accepted");
    let (task, lease) = ask(&mut state, 10, two).expect("the next round");
    report(&mut state, 10, two, &task, lease, Ok(output(&task, 3))).expect("accepted");
    state.apply(10, Event::Resumed { run: first.clone() }).expect("resumes");
    let (task, _) = ask(&mut state, 10, two).expect("the third round");
    assert_eq!((&task.run, task.id.part), (&second, 2), "who is ahead goes on");
    assert_eq!(ask(&mut state, 10, one), None);
    state.apply(10, Event::Cancelled { run: second }).expect("cancels");
    let (task, _) = ask(&mut state, 10, one).expect("nobody waits for a run that is cancelled");
    assert_eq!((&task.run, task.id.part), (&first, 1));
    let urgent = submit(&mut state, like(&base, |other| other.spec.run.priority = 9));
    assert_eq!(ask(&mut state, 10, two).expect("a round").0.run, urgent, "priority comes first");
}

#[test]
fn who_trained_along_stops_when_the_block_is_there() {
    let base = submission(2, 0);
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let (one, two) = (named(&mut state, "one"), named(&mut state, "two"));
    let (task, lease) = ask(&mut state, 10, one).expect("a round");
    report(&mut state, 10, one, &task, lease, Ok(output(&task, 2))).expect("accepted");
    let (last, lease) = ask(&mut state, 10, one).expect("the last round");
    let urgent = submit(&mut state, like(&base, |other| other.spec.run.priority = 9));
    let (round, own) = ask(&mut state, 10, two).expect("a round");
    assert_eq!(round.run, urgent);
    report(&mut state, 10, two, &round, own, Ok(output(&round, 2))).expect("accepted");
    let (round, own) = ask(&mut state, 10, two).expect("a round");
    let effects = report(&mut state, 10, one, &last, lease, Ok(output(&last, 2))).expect("accepted");
    let own_keys = ["w", "o"].map(|part| made(&urgent, &format!("block1/train/0.{part}")));
    assert!(effects.contains(&Effect::Delete(own_keys.to_vec())), "its own rounds are of no use: {effects:?}");
    assert_eq!(state.durable.runs[&urgent].blocks[0].weights(), state.durable.runs[&first].blocks[0].weights());
    let late = report(&mut state, 10, two, &round, own, Ok(output(&round, 2)));
    assert_eq!(late, Err(Rejected::Committed(round.id)));
    assert!(state.attempts.of_worker(two).is_none());
}

#[test]
fn a_lost_shared_block_is_trained_again_and_its_owner_keeps_it_for_others() {
    let base = submission(4, 0);
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let worker = named(&mut state, "w");
    for _ in 0..4 {
        let (task, lease) = ask(&mut state, 10, worker).expect("a round");
        report(&mut state, 10, worker, &task, lease, Ok(output(&task, 4))).expect("accepted");
    }
    let urgent = |base: &Submission| like(&twin(base), |other| other.spec.run.priority = 9);
    let second = submit(&mut state, urgent(&base));
    let key = made(&first, "block1/train/3.w");
    let weights =
        |state: &State, run: &String| state.durable.runs[run].blocks[0].weights().map(|weights| weights.key.clone());
    assert_eq!(weights(&state, &second), Some(key.clone()), "shared as soon as it is submitted");
    let lost = || Err(Failure::InputLost { key: key.clone(), problem: "it is gone".into(), content: false });
    // The owner loses it and trains on from there: the key is another run's as well, so it stays.
    state.apply(10, Event::Paused { run: second.clone() }).expect("pauses");
    let (task, lease) = ask(&mut state, 10, worker).expect("a shard");
    assert_eq!((&task.run, task.id.stage), (&first, Stage::Validate));
    report(&mut state, 10, worker, &task, lease, lost()).expect("accepted");
    assert_eq!(weights(&state, &first), None, "not from who names the same object");
    let mut deleted = Vec::new();
    for epochs in [3, 3, 3, 3, 4] {
        let (task, lease) = ask(&mut state, 10, worker).expect("a round");
        let Output::Train(train::Output { checkpoint, metrics, .. }) = output(&task, 4) else {
            panic!("training goes on")
        };
        let metrics = RoundMetrics { epochs, ..metrics };
        let made = Output::Train(train::Output { checkpoint, finished: epochs == 4, metrics });
        for effect in report(&mut state, 10, worker, &task, lease, Ok(made)).expect("accepted") {
            if let Effect::Delete(keys) = effect {
                deleted.extend(keys);
            }
        }
    }
    assert!(deleted.contains(&made(&first, "block1/train/4.w")) && !deleted.contains(&key), "{deleted:?}");
    // The other run loses it too: it takes what the first has now, which is another object, and no longer waits for it.
    state.apply(10, Event::Resumed { run: second.clone() }).expect("resumes");
    let (task, lease) = ask(&mut state, 10, worker).expect("a shard");
    assert_eq!((&task.run, task.id.stage), (&second, Stage::Validate));
    report(&mut state, 10, worker, &task, lease, lost()).expect("accepted");
    let now = made(&first, "block1/train/7.w");
    assert_eq!(weights(&state, &second), Some(now.clone()));
    let (task, lease) = ask(&mut state, 10, worker).expect("a shard");
    let lost = Err(Failure::InputLost { key: now, problem: "it is gone".into(), content: false });
    report(&mut state, 10, worker, &task, lease, lost).expect("accepted");
    let (task, _) = ask(&mut state, 10, worker).expect("a round");
    assert_eq!((&task.run, task.id.to_string().as_str()), (&second, "block1/train/0"), "R-4: not shared again");
    let Work::Train(train::Work { from, .. }) = task.work else { panic!("a round") };
    assert_eq!(from, None, "from its own seed, not from another run's rounds");
}

#[test]
fn runs_of_any_backend_share_once_theirs_is_known() {
    let base = like(&submission(1, 0), |other| other.backend = "any".into());
    let mut state = state();
    let first = submit(&mut state, base.clone());
    let second = submit(&mut state, twin(&base));
    let third = submit(&mut state, like(&twin(&base), |other| other.spec.run.name = Some("third".into())));
    let (one, two) = (named(&mut state, "one"), named(&mut state, "two"));
    state.apply(0, Event::Registered(Box::new(newcomer("gpu", "cuda")))).expect("registers");
    let (task, lease) = ask(&mut state, 10, one).expect("a round");
    assert_eq!(task.run, first);
    assert_eq!(ask(&mut state, 10, two), None, "for this backend the block is being trained");
    assert_eq!(ask(&mut state, 10, 3).expect("a round").0.run, second, "but not for another one");
    report(&mut state, 10, one, &task, lease, Ok(output(&task, 1))).expect("accepted");
    let of = |state: &State, run: &String| state.durable.runs[run].blocks[0].frozen;
    assert_eq!([&second, &third].map(|run| of(&state, run)), [None, None]);
    let (task, _) = ask(&mut state, 10, two).expect("a shard");
    assert_eq!((task.run, task.id.stage), (first, Stage::Validate));
    let (task, _) = ask(&mut state, 10, one).expect("a shard");
    assert_eq!((&task.run, task.id.stage), (&third, Stage::Validate), "known as soon as it has a backend");
    assert_eq!([&second, &third].map(|run| of(&state, run)), [None, Some(0)], "arithmetic is one");
}
