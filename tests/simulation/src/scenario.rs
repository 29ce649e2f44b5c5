//! What a seed decides: the runs, the fleet, and how often what goes wrong.

use bloctrain_coordinator::Config;
use bloctrain_shared::plan::{ANY_BACKEND, ARITHMETIC_VERSION, DatasetInfo, Plan, Submission};
use bloctrain_shared::spec::network::AuxiliaryKind;
use bloctrain_shared::spec::{Augment, DetectorPolicy, HardClassPolicy, RunSpec};
use bloctrain_shared::task::{Stage, Task};
use bloctrain_shared::{Digest, ImageShape, seed};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// How often what goes wrong. Probabilities are of one message or request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FaultRates {
    /// A request never arrives.
    pub(crate) request_lost: f64,
    /// An answer never arrives.
    pub(crate) answer_lost: f64,
    /// Something on the way answers in place of the coordinator.
    pub(crate) interfered: f64,
    /// A request arrives twice.
    pub(crate) repeated: f64,
    /// Longest ordinary journey of a message, milliseconds.
    pub(crate) delay_ms: u64,
    /// A message is late.
    pub(crate) late: f64,
    /// By at most this, milliseconds.
    pub(crate) late_ms: u64,
    /// A write of the log is slow.
    pub(crate) slow: f64,
    /// A write of the log lands and its answer is lost.
    pub(crate) write_answer_lost: f64,
    /// A write of the log fails.
    pub(crate) write_refused: f64,
    /// A request to the object store fails before it does anything.
    pub(crate) store_refuses: f64,
    /// A write to the object store happens and its answer is lost.
    pub(crate) store_loses_answer: f64,
    /// An answer of the object store is late.
    pub(crate) store_slow: f64,
    /// A read of the object store breaks off or arrives damaged.
    pub(crate) store_spoils: f64,
}

impl FaultRates {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        request_lost: 0.0,
        answer_lost: 0.0,
        interfered: 0.0,
        repeated: 0.0,
        delay_ms: 5,
        late: 0.0,
        late_ms: 101,
        slow: 0.0,
        write_answer_lost: 0.0,
        write_refused: 0.0,
        store_refuses: 0.0,
        store_loses_answer: 0.0,
        store_slow: 0.0,
        store_spoils: 0.0,
    };
}

/// What a seed decides before anything runs.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) coordinators: usize,
    pub(crate) workers: usize,
    pub(crate) config: Config,
    /// Milliseconds of one step of each worker.
    pub(crate) step_ms: Vec<u64>,
    pub(crate) faults: FaultRates,
    /// Whether what is made again comes out differently, as on a GPU.
    pub(crate) is_differing: bool,
    /// Stage of the first run whose first task ends every worker that begins it.
    pub(crate) poison: Option<Stage>,
    /// Length of the phase with faults.
    pub(crate) safety: Duration,
    /// Number of things that befall processes and links in it.
    pub(crate) incidents: usize,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = seed::rng(seed, "scenario", &[]);
        let runs = if rng.random_bool(0.25) { 2 } else { 1 };
        let mut submissions: Vec<Submission> =
            (0..runs).map(|number| submission(&mut rng, seed * 2 + number)).collect();
        submissions.extend(relative(&submissions[0], seed));
        let coordinators = rng.random_range(1..=3);
        let workers = rng.random_range(1..=4);
        let lease_ms = rng.random_range(3_000..=10_000);
        let inline_bytes = if seed::rng(seed, "inline", &[]).random_bool(0.3) { 400 } else { 1 << 20 };
        let config = Config {
            lease_ms,
            heartbeat_ms: lease_ms / 5,
            settle_ms: rng.random_range(0..=4_000),
            stall_ms: 60_000,
            inline_bytes,
        };
        let step_ms = (0..workers).map(|_| rng.random_range(20..400)).collect();
        let safety = Duration::from_secs(rng.random_range(15..60));
        let incidents = rng.random_range(0..14);
        let mut faults = faults(&mut rng);
        let mut interfered = seed::rng(seed, "interfered", &[]);
        faults.interfered = if interfered.random_bool(0.5) { 0.0 } else { interfered.random_range(0.0..0.1) };
        // Drawn apart, so that what else a seed decides stays as it was.
        let is_differing = seed::rng(seed, "differing", &[]).random_bool(0.25);
        let mut poison = seed::rng(seed, "poison", &[]);
        let of_classes = |stage: &Stage| !matches!(stage, Stage::Score | Stage::Select);
        let stages: Vec<Stage> = Stage::ALL.into_iter().filter(of_classes).collect();
        let poison = poison.random_bool(0.05).then(|| stages[poison.random_range(0..stages.len())]);
        Self { submissions, coordinators, workers, config, step_ms, faults, is_differing, poison, safety, incidents }
    }
}

impl Scenario {
    /// Whether a task ends whoever begins it.
    pub(crate) fn is_poison(&self, task: &Task) -> bool {
        self.poison == Some(task.id.stage) && task.id.part == 0 && self.is_poisoned(&task.run)
    }

    /// Whether a run may come to nothing, because one of its tasks ends whoever begins it.
    pub(crate) fn is_poisoned(&self, run: &str) -> bool {
        self.poison.is_some() && self.submissions[0].run_id() == run
    }
}

/// Another run that agrees with one in block 1, and may in all others. Drawn apart, so that what else a seed decides
/// stays as it was.
fn relative(of: &Submission, seed: u64) -> Option<Submission> {
    let mut rng = seed::rng(seed, "relative", &[]);
    if !rng.random_bool(0.3) {
        return None;
    }
    let mut other = of.clone();
    other.spec.run.name = Some("relative".into());
    other.spec.run.priority = rng.random_range(1..=2);
    if rng.random_bool(0.5) {
        other.spec.hard_classes.fraction = rng.random_range(0.3..1.0);
    }
    if rng.random_bool(0.3) {
        other.backend = if of.backend == ANY_BACKEND { "cpu".into() } else { ANY_BACKEND.into() };
    }
    Some(other)
}

/// Each kind of fault is absent in half of the scenarios, so that others are seen without it.
fn faults(rng: &mut ChaCha8Rng) -> FaultRates {
    let mut rate = |most: f64| if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..most) };
    let (request_lost, answer_lost, repeated, late) = (rate(0.15), rate(0.15), rate(0.2), rate(0.1));
    let (slow, write_answer_lost, write_refused) = (rate(0.1), rate(0.02), rate(0.02));
    let (store_refuses, store_loses_answer, store_slow, store_spoils) = (rate(0.2), rate(0.2), rate(0.2), rate(0.02));
    FaultRates {
        request_lost,
        answer_lost,
        interfered: 0.0,
        repeated,
        delay_ms: rng.random_range(3..200),
        late,
        late_ms: rng.random_range(200..20_000),
        slow,
        write_answer_lost,
        write_refused,
        store_refuses,
        store_loses_answer,
        store_slow,
        store_spoils,
    }
}

fn submission(rng: &mut ChaCha8Rng, run_seed: u64) -> Submission {
    let mut spec = RunSpec::default();
    spec.run.seed = run_seed;
    spec.run.end_to_end = rng.random_bool(0.1);
    spec.train.epochs = rng.random_range(1..=3);
    spec.train.warmup_epochs = 0;
    spec.train.batch = rng.random_range(150..600);
    spec.train.patience = if rng.random_bool(0.3) { rng.random_range(1..=2) } else { 0 };
    spec.train.round_steps = if rng.random_bool(0.3) { rng.random_range(1..=4) } else { 0 };
    // Drawn apart, so that what else a seed decides stays as it was before there were replicas.
    let mut replicas = seed::rng(run_seed, "replicas", &[]);
    spec.train.replicas = if replicas.random_bool(0.3) { replicas.random_range(2..=4) } else { 1 };
    spec.detector.policy = DetectorPolicy::Learned;
    if rng.random_bool(0.4) {
        spec.data.augment = vec![Augment::Flip];
        spec.data.views = rng.random_range(1..=3);
    }
    spec.hard_classes.policy = HardClassPolicy::BottomFraction;
    spec.hard_classes.fraction = rng.random_range(0.3..1.0);
    // Drawn apart, as replicas are.
    let mut inputs = seed::rng(run_seed, "hard-inputs", &[]);
    if inputs.random_bool(0.25) {
        spec.hard_inputs.fraction = Some(inputs.random_range(0.2..1.0));
        spec.hard_inputs.floor = 0.0;
    }
    if seed::rng(run_seed, "auxiliary", &[]).random_bool(0.2) {
        spec.network.auxiliary.kind = AuxiliaryKind::Next;
    }
    let classes = (0..rng.random_range(3..7)).map(|class: u32| class.to_string()).collect();
    let dataset = DatasetInfo {
        name: "d".into(),
        digest: Digest::of(b"d"),
        classes,
        shape: ImageShape::new(1, 28, 28),
        train: rng.random_range(600..2_600),
        validation: rng.random_range(500..1_500),
        test: rng.random_range(100..1_200),
    };
    let backend = if rng.random_bool(0.5) { "cpu" } else { ANY_BACKEND };
    let mut submission = Submission { spec, dataset, arithmetic: ARITHMETIC_VERSION, backend: backend.into() };
    if Plan::new(&submission).is_err() {
        // Some choices exclude each other.
        (submission.spec.train.patience, submission.spec.train.round_steps, submission.spec.train.replicas) = (0, 0, 1);
    }
    submission
}
