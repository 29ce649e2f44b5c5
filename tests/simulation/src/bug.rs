//! Bugs that are planted on purpose, so that a test can tell that the simulation finds such bugs. Each is a fault of
//! this crate's own parts around the real ones (the rules, the table, the task); nothing of it is in the product.

use bloctrain_coordinator::run::record::Record;
use bloctrain_coordinator::schedule::{Effect, Event, Lost, Rejected, State};
use bloctrain_shared::task::Report;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bug {
    /// The log does not fence: writes of a coordinator that was replaced still land.
    LostFence,
    /// Reports are accepted whatever their lease.
    LostLease,
    /// A repeated report is committed again.
    DoubleCommit,
    /// A round that is handed back counts one step more than it made.
    SkippedSample,
    /// The log answers before a record is durable.
    EarlyAnswer,
    /// What a worker says is lost counts as lost, whatever the store has.
    BelievedLoss,
    /// A report counts whatever inputs it worked from.
    StaleInputs,
    /// All specifications of a run are kept at one place, whatever their content.
    SharedSpec,
    /// Leases that are lost with their workers are not counted.
    UncountedLosses,
    /// Nobody notices a task that does not get on.
    Unwatched,
    /// Leases are measured by a clock that is set.
    WallClock,
    /// Time in which a coordinator stood still counts against the workers.
    KeptTime,
    /// Whatever address is in the store gets the token.
    TrustedAddress,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::LostFence,
        Self::LostLease,
        Self::DoubleCommit,
        Self::SkippedSample,
        Self::EarlyAnswer,
        Self::BelievedLoss,
        Self::StaleInputs,
        Self::SharedSpec,
        Self::UncountedLosses,
        Self::Unwatched,
        Self::WallClock,
        Self::KeptTime,
        Self::TrustedAddress,
    ];
}

/// The rules, with a bug in them.
pub(crate) fn apply(bug: Option<Bug>, state: &mut State, now: u64, mut event: Event) -> Result<Vec<Effect>, Rejected> {
    if bug == Some(Bug::LostLease) {
        forge_lease(state, &mut event);
    }
    if let (Some(Bug::BelievedLoss), Event::Verified { doubt, found }) = (bug, &mut event) {
        *found = Ok(vec![Lost { key: doubt.key.clone(), problem: doubt.problem.clone() }]);
    }
    if let (Some(Bug::Unwatched), Event::Heartbeat { progress, .. }) = (bug, &mut event) {
        progress.ticks = now;
    }
    if let (Some(Bug::KeptTime), Event::Late { .. }) = (bug, &event) {
        return Ok(Vec::new());
    }
    if bug == Some(Bug::UncountedLosses) && event == Event::Tick {
        let durable = state.durable.clone();
        let mut effects = state.apply(now, event)?;
        state.durable = durable;
        effects.retain(|effect| !matches!(effect, Effect::Persist(_)));
        return Ok(effects);
    }
    let repeated = match (&event, bug) {
        (Event::Reported { run, report, .. }, Some(Bug::DoubleCommit)) => Some((run.clone(), report.clone())),
        _ => None,
    };
    let stale = match &event {
        Event::Reported { run, report, .. } if bug == Some(Bug::StaleInputs) && is_outdated(state, run, report) => {
            Some((run.clone(), report.clone()))
        }
        _ => None,
    };
    if let Some((run, report)) = stale
        && let (task, seconds, Ok(output)) = (report.task, report.seconds, report.result)
    {
        let record = Record::Committed { run: run.clone(), task, seconds, output: Box::new(output), hard: None };
        state.durable.replay(record.clone(), now);
        return Ok(vec![Effect::Persist(record), Effect::Changed { run }]);
    }
    match (state.apply(now, event), repeated) {
        (Err(Rejected::Committed(task)), Some((run, report))) => match report.result {
            Ok(output) => {
                let record = Record::Committed {
                    run: run.clone(),
                    task,
                    seconds: report.seconds,
                    output: Box::new(output),
                    hard: None,
                };
                state.durable.replay(record.clone(), now);
                Ok(vec![Effect::Persist(record), Effect::Changed { run }])
            }
            Err(_) => Err(Rejected::Committed(task)),
        },
        (result, _) => result,
    }
}

/// Whether a report is of an open task, from other inputs than that has.
fn is_outdated(state: &State, run: &str, report: &Report) -> bool {
    let open = state.durable.runs.get(run).and_then(|run| run.open_task(|task| task == report.task));
    open.is_some_and(|open| report.inputs.is_some_and(|inputs| inputs != open.work.identity()))
}

/// Makes a report look as if it came from whoever has the lease now.
fn forge_lease(state: &State, event: &mut Event) {
    let Event::Reported { worker, run, report } = event else { return };
    if let Some(attempt) = state.attempts.of_task(run, report.task).next() {
        *worker = attempt.worker;
        report.lease_epoch = attempt.lease_epoch;
    }
}
