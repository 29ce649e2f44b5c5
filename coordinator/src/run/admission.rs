//! What is let in from outside: submissions, workers, and reports that can be true.
//!
//! A report is compared with its task and with what is known of the run. The content of the objects that it names is not
//! read here: whoever reads one compares its digest, and what is wrong is made again.

use super::Rejected;
use super::record::Run;
use super::worker::Newcomer;
use bloctrain_shared::key;
use bloctrain_shared::plan::{ANY_BACKEND, ARITHMETIC_VERSION, BACKENDS, ExportPart, Plan, Submission, shard_samples};
use bloctrain_shared::spec::DetectorPolicy;
use bloctrain_shared::summary::Summary;
use bloctrain_shared::task::{CachedShard, Failure, Output, Report, RoundMetrics, TaskId};

/// Most shards and views that one run's cache may have, all parts counted.
const MAX_PARTS: usize = 200_000;

/// Largest image, along each axis.
const MAX_SIDE: usize = 1 << 16;

/// Longest name of anything, in bytes.
const MAX_NAME: usize = 128;

/// Longest path, in bytes.
const MAX_PATH: usize = 4_096;

/// Most bytes, parameters or samples that a report may claim of one thing, and most seconds.
const MOST: u64 = 1 << 50;

/// The plan of a submission that can be worked on.
pub(crate) fn plan(submission: &Submission) -> Result<Plan, Rejected> {
    let (dataset, name) = (&submission.dataset, submission.spec.run.name.as_deref());
    let refuse = |problem: String| Err(Rejected::BadSubmission(problem));
    if submission.arithmetic != ARITHMETIC_VERSION {
        return Err(Rejected::Arithmetic { worker: submission.arithmetic, coordinator: ARITHMETIC_VERSION });
    }
    if submission.backend != ANY_BACKEND && !BACKENDS.contains(&submission.backend.as_str()) {
        return refuse(format!("there is no backend `{}`; give {ANY_BACKEND} or one of {BACKENDS:?}", submission.backend));
    }
    let names = dataset.classes.iter().chain([&dataset.name]).map(String::as_str).chain(name);
    if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
        let shown: String = name.chars().filter(|char| !char.is_control()).take(MAX_NAME).collect();
        return refuse(format!("the name `{shown}` has more than {MAX_NAME} bytes, or control characters"));
    }
    if !(2..=usize::from(u16::MAX)).contains(&dataset.classes.len()) || dataset.train == 0 || dataset.validation == 0 {
        return refuse("the data set needs two classes at least, training samples and held-out ones".into());
    }
    let shape = dataset.shape;
    if [shape.channels, shape.height, shape.width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return refuse(format!("images of {shape} cannot be trained on; every side lies in 1..={MAX_SIDE}"));
    }
    let plan = Plan::new(submission).map_err(|error| Rejected::BadSubmission(error.to_string()))?;
    let parts = (plan.train_shards as usize).saturating_mul(plan.views as usize);
    let parts = parts.saturating_add(plan.validation_shards as usize).saturating_add(plan.test_shards as usize);
    if parts > MAX_PARTS {
        return refuse(format!("the run has {parts} shards and views, more than {MAX_PARTS}"));
    }
    Ok(plan)
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// Refuses a worker that computes otherwise.
pub(super) fn newcomer(newcomer: &Newcomer) -> Result<(), Rejected> {
    if newcomer.arithmetic != ARITHMETIC_VERSION {
        return Err(Rejected::Arithmetic { worker: newcomer.arithmetic, coordinator: ARITHMETIC_VERSION });
    }
    let known = BACKENDS.contains(&newcomer.backend.as_str());
    known.then_some(()).ok_or_else(|| Rejected::Backend(newcomer.backend.clone()))
}

/// A failure as it counts: an object that the task does not read cannot be lost.
pub(super) fn failure(run: &Run, task: TaskId, failure: Failure) -> Failure {
    let Failure::InputLost { key, problem } = failure else { return failure };
    let data = format!("data/{}/", run.submission.dataset.digest);
    let reads =
        || run.open_task(|open| open == task).is_some_and(|open| open.work.objects().iter().any(|object| object.key == key));
    if key == run.object.key || key.starts_with(&data) || reads() {
        return Failure::InputLost { key, problem };
    }
    Failure::Transient { message: format!("{key} is said to be lost, which is no input of the task: {problem}") }
}

/// Refuses a report that cannot be true.
pub(super) fn report(run: &Run, report: &Report) -> Result<(), Rejected> {
    let task = report.task;
    let impossible = |problem: String| Rejected::Impossible { task, problem };
    measure("the time of work", report.seconds).map_err(impossible)?;
    let Ok(output) = &report.result else { return Ok(()) };
    if !output.is_of(task) {
        return Err(Rejected::WrongOutput(task));
    }
    let block = (task.block > 0).then_some(task.block);
    let own = |key: &str| match output {
        Output::Export { .. } => key::is_cached(key),
        _ => key::is_output_of(&run.plan.run, block, key),
    };
    let objects = output.objects();
    if let Some(object) = objects.iter().find(|object| !own(&object.key)) {
        return Err(Rejected::ForeignKey { task, key: object.key.chars().take(256).collect() });
    }
    objects.iter().try_for_each(|object| count("the size of an object", object.bytes)).map_err(impossible)?;
    let checked = match output {
        Output::Train { finished, metrics, .. } => trained(run, task, *finished, metrics),
        Output::Replica { metrics, .. } => figures(run, metrics),
        Output::Validate { confusion } => validated(run, task, confusion.samples()),
        Output::Detect { detector } => detected(run, detector.is_some()),
        Output::Export { shard, uncompressed_bytes, .. } => exported(run, task, shard, *uncompressed_bytes),
        Output::Evaluate { .. } => Ok(()),
        Output::Finish { summary } => finished(run, summary),
    };
    checked.map_err(impossible)
}

fn measure(what: &str, value: f64) -> Result<(), String> {
    let possible = (0.0..=MOST as f64).contains(&value);
    possible.then_some(()).ok_or_else(|| format!("{what} is {value}"))
}

fn count(what: &str, value: u64) -> Result<(), String> {
    (value <= MOST).then_some(()).ok_or_else(|| format!("{what} is {value}"))
}

fn fraction(what: &str, value: f64) -> Result<(), String> {
    (0.0..=1.0).contains(&value).then_some(()).ok_or_else(|| format!("{what} is {value}, no fraction"))
}

fn trained(run: &Run, task: TaskId, finished: bool, metrics: &RoundMetrics) -> Result<(), String> {
    let last = run.submission.spec.train.epochs;
    let before = block(run, task).map_or(0, super::block::Block::epochs);
    if !(before..=last).contains(&metrics.epochs) {
        return Err(format!("{} epochs are done after {before} of {last}", metrics.epochs));
    }
    if finished != (metrics.epochs == last) {
        return Err(format!("training has ended with {} of {last} epochs, or goes on after all of them", metrics.epochs));
    }
    figures(run, metrics)
}

fn figures(run: &Run, metrics: &RoundMetrics) -> Result<(), String> {
    let train = run.submission.dataset.train;
    if metrics.epoch_samples > train {
        return Err(format!("an epoch has {} samples, the data set {train}", metrics.epoch_samples));
    }
    fraction("the training accuracy", metrics.accuracy)?;
    fraction("the validation accuracy", metrics.validation_accuracy.unwrap_or(0.0))?;
    fraction("the firing rate", metrics.firing_rate)?;
    measure("the loss", metrics.loss.abs())?;
    measure("the time of training", metrics.seconds)?;
    measure("the time of waiting", metrics.waiting_seconds)?;
    count("the number of samples", metrics.samples)?;
    count("the memory", metrics.peak_memory_bytes)?;
    count("the number of parameters", metrics.parameters as u64)
}

fn block(run: &Run, task: TaskId) -> Option<&super::block::Block> {
    (task.block as usize).checked_sub(1).and_then(|index| run.blocks.get(index))
}

/// Each sample of the shard whose class the block knows is answered once. The first block knows all classes, so its counts
/// say how many of each there are (R-6: nothing is decided from other samples than those).
fn validated(run: &Run, task: TaskId, samples: Option<Vec<u64>>) -> Result<(), String> {
    let Some(block) = block(run, task) else { return Err("there is no such block".into()) };
    let classes = block.classes.globals();
    let samples = samples.filter(|samples| samples.len() == classes.len());
    let samples = samples.ok_or_else(|| format!("its counts are no matrix over {} classes", classes.len()))?;
    let shard = shard_samples(run.submission.dataset.validation, task.part) as u64;
    let total: u64 = samples.iter().sum();
    if task.block == 1 {
        return if total == shard { Ok(()) } else { Err(format!("it counts {total} samples, the shard has {shard}")) };
    }
    let first = run.blocks.first().and_then(|first| first.confusions.get(&task.part)).and_then(|counts| counts.samples());
    let Some(first) = first else { return Err("the first block did not answer to this shard".into()) };
    for (&class, counted) in classes.iter().zip(samples) {
        let there = first.get(usize::from(class)).copied().unwrap_or(0);
        if counted != there {
            return Err(format!("it counts {counted} samples of class {class}, the first block counted {there}"));
        }
    }
    Ok(())
}

fn detected(run: &Run, learned: bool) -> Result<(), String> {
    let asked = run.submission.spec.detector.policy == DetectorPolicy::Learned;
    (asked == learned).then_some(()).ok_or_else(|| "it has a detector where none is learned, or none where one is".into())
}

fn exported(run: &Run, task: TaskId, shard: &CachedShard, uncompressed_bytes: u64) -> Result<(), String> {
    let part = ExportPart { split: shard.split, view: shard.view, shard: shard.shard };
    if task.part >= run.plan.export_count() || run.plan.export_part(task.part) != part {
        return Err(format!("it made shard {} of view {} of the {} split", shard.shard, shard.view, shard.split.name()));
    }
    count("the size of the spikes", uncompressed_bytes)
}

fn finished(run: &Run, summary: &Summary) -> Result<(), String> {
    if summary.run != run.plan.run || summary.blocks.len() > run.blocks.len() {
        return Err("its figures are those of another run".into());
    }
    if !is_name(&summary.dataset) || summary.model.len() > MAX_PATH || summary.report.len() > MAX_PATH {
        return Err(format!("it has a name above {MAX_NAME} bytes, or a path above {MAX_PATH}"));
    }
    fraction("the test accuracy", summary.accuracy.test)?;
    fraction("the validation accuracy", summary.accuracy.validation)?;
    for (figures, block) in summary.blocks.iter().zip(&run.blocks) {
        let classes = block.classes.len();
        if figures.classes != classes || figures.class_accuracy.len() != classes || figures.hard_classes.len() > classes {
            return Err(format!("block {} has {classes} classes", figures.block));
        }
        fraction("a block's accuracy", figures.accuracy)?;
        figures.class_accuracy.iter().flatten().try_for_each(|accuracy| fraction("the accuracy of a class", *accuracy))?;
        fraction("the share of exits", figures.exit_fraction)?;
        fraction("the firing rate", figures.firing_rate)?;
    }
    measure("the time of work", summary.wall_seconds)
}
