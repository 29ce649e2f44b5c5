//! What is let in from outside: submissions, workers, and reports that can be true.
//!
//! A report is compared with its task and with what is known of the run, by each kind of task in its own way
//! ([`Claim`](crate::run::stage::Claim)). The content of the objects that it names is not read here: whoever reads one
//! compares its digest, and what is wrong is made again.

use super::event::Rejected;
use super::worker::Newcomer;
use crate::run::claim::{MAX_NAME, count, is_name, measure};
use crate::run::durable::Run;
use crate::run::stage;
use bloctrain_shared::plan::{ANY_BACKEND, ARITHMETIC_VERSION, BACKENDS, Plan, Submission};
use bloctrain_shared::task::{Failure, ObjectRef, Report, TaskId};

/// Most shards and views that one run's cache may have, all parts counted.
const MAX_PARTS: usize = 200_000;

/// Most classes of all blocks: the last report has an accuracy for each.
const MAX_FIGURES: usize = 200_000;

/// Largest image, along each axis.
const MAX_SIDE: usize = 1 << 16;

/// The plan of a submission that can be worked on.
pub(crate) fn plan(submission: &Submission) -> Result<Plan, Rejected> {
    let (dataset, name) = (&submission.dataset, submission.spec.run.name.as_deref());
    let refuse = |problem: String| Err(Rejected::BadSubmission(problem));
    if submission.arithmetic != ARITHMETIC_VERSION {
        return Err(Rejected::Arithmetic { worker: submission.arithmetic, coordinator: ARITHMETIC_VERSION });
    }
    if submission.backend != ANY_BACKEND && !BACKENDS.contains(&submission.backend.as_str()) {
        return refuse(format!(
            "there is no backend `{}`; give {ANY_BACKEND} or one of {BACKENDS:?}",
            submission.backend
        ));
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
    let figures = plan.classes.saturating_mul(plan.blocks as usize);
    if figures > MAX_FIGURES {
        return refuse(format!(
            "{} classes in {} blocks have {figures} figures, more than the {MAX_FIGURES} that a report takes",
            plan.classes, plan.blocks
        ));
    }
    Ok(plan)
}

/// Refuses a worker that computes otherwise, or sees another store than the coordinator's.
pub(super) fn newcomer(newcomer: &Newcomer, store: &str) -> Result<(), Rejected> {
    if !newcomer.store.is_empty() && !store.is_empty() && newcomer.store != store {
        return Err(Rejected::OtherStore { seen: newcomer.store.clone(), fleet: store.to_owned() });
    }
    if newcomer.arithmetic != ARITHMETIC_VERSION {
        return Err(Rejected::Arithmetic { worker: newcomer.arithmetic, coordinator: ARITHMETIC_VERSION });
    }
    let known = BACKENDS.contains(&newcomer.backend.as_str());
    known.then_some(()).ok_or_else(|| Rejected::Backend(newcomer.backend.clone()))
}

/// A failure as it counts: an object that the task does not read cannot be lost.
pub(super) fn failure(run: &Run, task: TaskId, failure: Failure) -> Failure {
    let Failure::InputLost { key, problem, content } = failure else { return failure };
    let data = format!("data/{}/", run.submission.dataset.digest);
    if key.starts_with(&data) || inputs(run, task).iter().any(|object| object.key == key) {
        return Failure::InputLost { key, problem, content };
    }
    Failure::Transient { message: format!("{key} is said to be lost, which is no input of the task: {problem}") }
}

/// All stored objects that an open task reads, apart from the data set.
pub(super) fn inputs(run: &Run, task: TaskId) -> Vec<ObjectRef> {
    let open = run.open_task(|open| open == task);
    let read = open.iter().flat_map(|open| open.work.objects());
    read.chain([&run.object]).cloned().collect()
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
    let (claim, objects) = (stage::claim(output), output.objects());
    if let Some(object) = objects.iter().find(|object| !claim.may_name(run, task, &object.key)) {
        return Err(Rejected::ForeignKey { task, key: object.key.chars().take(256).collect() });
    }
    objects.iter().try_for_each(|object| count("the size of an object", object.bytes)).map_err(impossible)?;
    claim.check(run, task).map_err(impossible)
}
