//! A coordinator's state driven by made-up workers: what they would make follows from the task.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use bloctrain_coordinator::run::durable::Durable;
use bloctrain_coordinator::run::record::Record;
use bloctrain_coordinator::schedule::worker::Newcomer;
use bloctrain_coordinator::schedule::{Effect, Event, Lost, State};
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, DatasetInfo, Submission, shard_samples};
use bloctrain_shared::spec::{DetectorPolicy, RunSpec};
use bloctrain_shared::stage::{detect, evaluate, export, finish, merge, score, select, train, validate};
use bloctrain_shared::task::{CachedShard, Checkpoint, Failure, ObjectRef, Output, Report, RoundMetrics, Task, Work};
use bloctrain_shared::{Digest, ImageShape, key};

/// An object of some key whose content is the key.
pub fn object(key: String) -> ObjectRef {
    ObjectRef { digest: Digest::of(key.as_bytes()), bytes: key.len() as u64, key }
}

const CLASSES: usize = 4;

/// Held-out samples, the same number of every class in each shard.
const VALIDATION: usize = 1500;

/// A small run of four classes, of which two stay hard.
pub fn submission(seed: u64, epochs: u32, patience: u32) -> Submission {
    let mut spec = RunSpec::default();
    spec.run.seed = seed;
    spec.train.epochs = epochs;
    spec.train.warmup_epochs = 0;
    spec.train.patience = patience;
    spec.detector.policy = DetectorPolicy::Learned;
    let classes = (0..CLASSES).map(|class| class.to_string()).collect();
    let shape = ImageShape::new(1, 28, 28);
    let dataset = DatasetInfo {
        name: "d".into(),
        digest: Digest::of(b"d"),
        classes,
        shape,
        train: 2000,
        validation: VALIDATION,
        test: 500,
    };
    Submission { spec, dataset, arithmetic: ARITHMETIC_VERSION, backend: "cpu".into() }
}

/// What a worker makes of a task.
pub fn output(task: &Task, epochs: u32) -> Output {
    let place = format!("{}/block{}/{}-{}", key::run(&task.run), task.id.block, task.id.stage.name(), task.id.part);
    let place = format!("{place}-{}", task.id.replica);
    let checkpoint = || Checkpoint { weights: object(format!("{place}.w")), optimizer: object(format!("{place}.o")) };
    match &task.work {
        Work::Train(train::Work { replica: 1.., .. }) => {
            let metrics = RoundMetrics { samples: 9, epoch_samples: 9, ..RoundMetrics::default() };
            Output::Replica(train::Part { checkpoint: checkpoint(), complete: true, metrics })
        }
        Work::Train(train::Work { round, .. }) | Work::Merge(merge::Work { round, .. }) => {
            let validation_accuracy = Some(if *round == 1 { 0.9 } else { 0.5 });
            let metrics = RoundMetrics { epochs: round + 1, validation_accuracy, ..RoundMetrics::default() };
            Output::Train(train::Output { checkpoint: checkpoint(), finished: round + 1 >= epochs, metrics })
        }
        Work::Validate(validate::Work { classes, shard, .. }) => {
            let mut confusion = Confusion::new(classes.len());
            for (class, &global) in classes.globals().iter().enumerate() {
                for sample in 0..shard_samples(VALIDATION, *shard) / CLASSES {
                    let wrong = global >= 2 && sample % 2 == 0;
                    confusion.add(class, if wrong { (class + 1) % classes.len() } else { class });
                }
            }
            Output::Validate(validate::Output { confusion })
        }
        Work::Score(_) => Output::Score(score::Output { scores: object(format!("{place}.json")) }),
        Work::Select(_) => Output::Select(select::Output {
            selection: object(format!("{place}.json")),
            samples: 9,
            selected: 5,
            wrong: Some(1),
        }),
        Work::Detect(_) => Output::Detect(detect::Output { detector: Some(object(format!("{place}.d"))) }),
        Work::Export(export::Work { split, view, shard, .. }) => {
            let object = object(format!("{}/{}.arrow", key::CACHE, Digest::of(place.as_bytes())));
            let shard = CachedShard { split: *split, view: *view, shard: *shard, object };
            Output::Export(export::Output { shard, uncompressed_bytes: 8, reused: false })
        }
        Work::Evaluate(_) => Output::Evaluate(evaluate::Output { records: object(format!("{place}.json")) }),
        Work::Finish(_) => {
            let summary = serde_json::json!({
                "run": task.run, "dataset": "d", "accuracy": {"test": 0.5, "validation": 0.5}, "blocks": [],
                "inference": {"compute_efficiency": 1.0, "synops_per_sample": 0.0, "macs_per_sample": 0.0,
                    "parameter_overhead": 1.0},
                "cache": {"bytes": 0, "uncompressed_bytes": 0}, "wall_seconds": 0.0, "model": "", "report": ""
            });
            Output::Finish(finish::Output { summary: Box::new(serde_json::from_value(summary).expect("a summary")) })
        }
    }
}

/// The state and the records that led to it.
#[derive(Clone)]
pub struct Fleet {
    pub state: State,
    pub records: Vec<Record>,
    pub epochs: u32,
    pub worker: u64,
    pub granted: Option<(Task, u64)>,
}

impl Fleet {
    pub fn new(epochs: u32) -> Self {
        let mut fleet =
            Self { state: State::new(Durable::default(), 1000), records: Vec::new(), epochs, worker: 0, granted: None };
        let event = Event::Registered(Box::new(Newcomer {
            name: "w".into(),
            backend: "cpu".into(),
            arithmetic: ARITHMETIC_VERSION,
            ..Newcomer::default()
        }));
        match fleet.apply(event).as_slice() {
            [Effect::Welcome { worker, .. }] => fleet.worker = *worker,
            other => panic!("a welcome, not {other:?}"),
        }
        fleet
    }

    /// Applies an event at time 0 and notes its records; a rejected one has no effects.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.state.apply(0, event).unwrap_or_default();
        let persisted = |effect: &Effect| match effect {
            Effect::Persist(record) => Some(record.clone()),
            _ => None,
        };
        self.records.extend(effects.iter().filter_map(persisted));
        effects
    }

    /// Submits a run.
    pub fn submit(&mut self, seed: u64, patience: u32) -> String {
        self.submit_as(submission(seed, self.epochs, patience))
    }

    /// Submits what is given.
    pub fn submit_as(&mut self, submission: Submission) -> String {
        let run = submission.run_id();
        let object = object(key::spec(&run, Digest::of(run.as_bytes())));
        self.apply(Event::Submitted { submission: Box::new(submission), object });
        run
    }

    /// The worker asks for a task.
    pub fn ask(&mut self) {
        let effects = self.apply(Event::Asked { worker: self.worker });
        self.granted = effects.into_iter().find_map(|effect| match effect {
            Effect::Grant { task, lease_epoch, .. } => Some((*task, lease_epoch)),
            _ => None,
        });
    }

    /// The worker reports on its task: done, or failed.
    pub fn report(&mut self, failure: Option<Failure>) -> Vec<Effect> {
        let Some((task, lease_epoch)) = self.granted.take() else { return Vec::new() };
        let result = failure.map_or_else(|| Ok(output(&task, self.epochs)), Err);
        let report = Box::new(Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result });
        let mut effects = self.apply(Event::Reported { worker: self.worker, run: task.run, report });
        let doubt = effects.iter().find_map(|effect| match effect {
            Effect::Verify(doubt) => Some(doubt.clone()),
            _ => None,
        });
        if let Some(doubt) = doubt {
            // The coordinator finds it lost as well.
            let lost = Lost { key: doubt.key.clone(), problem: doubt.problem.clone() };
            effects.extend(self.apply(Event::Verified { doubt, found: Ok(vec![lost]) }));
        }
        effects
    }

    /// Works until nothing is left to do.
    pub fn finish(&mut self) {
        loop {
            self.ask();
            if self.granted.is_none() {
                return;
            }
            self.report(None);
        }
    }

    /// Every task that may be handed out now.
    pub fn open_tasks(&self) -> Vec<Task> {
        let mut state = self.state.clone();
        let mut tasks: Vec<Task> = self.granted.iter().map(|(task, _)| task.clone()).collect();
        for _ in 0..500 {
            let event = Event::Registered(Box::new(Newcomer {
                name: "x".into(),
                backend: "cpu".into(),
                arithmetic: ARITHMETIC_VERSION,
                ..Newcomer::default()
            }));
            let Ok(effects) = state.apply(0, event) else { break };
            let [Effect::Welcome { worker, .. }] = effects.as_slice() else { break };
            let granted =
                state.apply(0, Event::Asked { worker: *worker }).expect("known").into_iter().find_map(|effect| {
                    match effect {
                        Effect::Grant { task, .. } => Some(*task),
                        _ => None,
                    }
                });
            let Some(task) = granted else { break };
            tasks.push(task);
        }
        tasks
    }
}
