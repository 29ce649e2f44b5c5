//! What a worker does next: a pure state machine, and the client that drives it.
//!
//! A session registers, asks for a task, works on it while it heartbeats, reports, and asks again. The machine in this
//! module decides; [`client`] talks to the coordinator and runs tasks. Whatever is lost between the two is asked for
//! again: a report that was not acknowledged is sent again, a revoked task is interrupted and never reported (R-3).
//! When the coordinator changes, the session registers with what it holds and goes on under the new lease.

pub mod client;
pub mod control;
pub mod discover;
pub mod standing;
pub mod transport;
mod watch;

use bloctrain_shared::Digest;
use bloctrain_shared::task::{Failure, Output, Report, Task, TaskId};

/// Where a session stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Not known to the coordinator.
    Registering,
    /// Waiting for a task.
    Asking,
    /// Working on a task.
    Working(HeldTask),
    /// A report is on its way, or waits for a coordinator that knows this worker.
    Reporting {
        /// The report.
        report: Report,
        /// Whether the session ends after it.
        leaving: bool,
    },
    /// The session is over.
    Stopped,
}

/// A task that the session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldTask {
    /// The task.
    pub task: TaskId,
    /// What it works from.
    pub inputs: Digest,
    /// Epoch of its lease.
    pub lease_epoch: u64,
    /// Whether the lease was revoked while the work still winds down.
    pub revoked: bool,
    /// Whether the session ends after it.
    pub leaving: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The coordinator knows the worker.
    Registered {
        /// Epoch of the lease on what the worker holds, when it may go on with that.
        adopted: Option<u64>,
    },
    /// The coordinator granted a task.
    Granted {
        /// The task.
        task: Box<Task>,
        /// Epoch of its lease.
        lease_epoch: u64,
    },
    /// No task is to be had now.
    NothingToDo,
    /// The work came to its end; `None` when it was interrupted.
    Finished {
        /// What was made.
        result: Option<Result<Output, Failure>>,
        /// Seconds of work.
        seconds: f64,
    },
    /// The lease is not ours any more.
    Revoked,
    /// The coordinator wants the task back soon.
    HandBackAsked,
    /// The coordinator took the report, or refused it as too late: either way it is dealt with.
    Acknowledged,
    /// The coordinator does not know this worker (it is another one, or the worker was thought lost).
    Forgotten,
    /// A call failed and may succeed later.
    CallFailed,
    /// This process was asked to leave: the task comes to an end first.
    LeaveAsked,
    /// This process was asked to stop at once.
    StopAsked,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell the coordinator about this worker, and what it holds.
    Register,
    /// Ask for a task.
    Ask,
    /// Begin the work.
    Start {
        /// The task.
        task: Box<Task>,
        /// Epoch of its lease.
        lease_epoch: u64,
    },
    /// Make the running work come to an end: training writes a checkpoint at its next step.
    HandBack,
    /// Make the running work return soon, without result.
    Interrupt,
    /// Send a report.
    Send(Report),
    /// Leave the coordinator: hand back what is held.
    Leave,
}

/// An event that makes no sense in the current phase; nothing changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("event does not fit the phase {0}")]
pub struct Rejected(&'static str);

/// The session of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    phase: Phase,
}

impl Session {
    /// A new session, and the first thing to do.
    pub fn start() -> (Self, Vec<Effect>) {
        (Self { phase: Phase::Registering }, vec![Effect::Register])
    }

    /// Where the session stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Applies an event.
    ///
    /// # Errors
    /// When the event does not fit the phase; the session is unchanged.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Effect>, Rejected> {
        let (phase, effects) = next(&self.phase, event)?;
        self.phase = phase;
        Ok(effects)
    }
}

fn next(phase: &Phase, event: Event) -> Result<(Phase, Vec<Effect>), Rejected> {
    match (phase, event) {
        (Phase::Stopped, _) => Ok((Phase::Stopped, Vec::new())),
        (Phase::Working(_), Event::StopAsked) => Ok((Phase::Stopped, vec![Effect::Interrupt, Effect::Leave])),
        (_, Event::StopAsked) => Ok((Phase::Stopped, vec![Effect::Leave])),
        (Phase::Registering | Phase::Asking, Event::LeaveAsked) => Ok((Phase::Stopped, vec![Effect::Leave])),
        (Phase::Registering, Event::Registered { .. }) => Ok((Phase::Asking, vec![Effect::Ask])),
        (Phase::Registering, Event::CallFailed | Event::Forgotten) => Ok((Phase::Registering, vec![Effect::Register])),
        (Phase::Registering, _) => Err(Rejected("registering")),
        (Phase::Asking, Event::Granted { task, lease_epoch }) => {
            let inputs = task.work.identity();
            let held = HeldTask { task: task.id, inputs, lease_epoch, revoked: false, leaving: false };
            Ok((Phase::Working(held), vec![Effect::Start { task, lease_epoch }]))
        }
        (Phase::Asking, Event::NothingToDo | Event::CallFailed) => Ok((Phase::Asking, vec![Effect::Ask])),
        (Phase::Asking, Event::Forgotten) => Ok((Phase::Registering, vec![Effect::Register])),
        (Phase::Asking, _) => Err(Rejected("asking")),
        (Phase::Working(held), event) => working(*held, event),
        (Phase::Reporting { report, leaving }, event) => reporting(report, *leaving, event),
    }
}

fn working(held: HeldTask, event: Event) -> Result<(Phase, Vec<Effect>), Rejected> {
    let stay = |held: HeldTask, effects: Vec<Effect>| Ok((Phase::Working(held), effects));
    match event {
        Event::Revoked | Event::Registered { adopted: None } => {
            stay(HeldTask { revoked: true, ..held }, vec![Effect::Interrupt])
        }
        Event::Registered { adopted: Some(lease_epoch) } => stay(HeldTask { lease_epoch, ..held }, Vec::new()),
        // What was revoked is dropped; there is nothing to register with.
        Event::Forgotten if held.revoked => stay(held, Vec::new()),
        Event::Forgotten | Event::CallFailed => stay(held, vec![Effect::Register]),
        Event::HandBackAsked => stay(held, vec![Effect::HandBack]),
        Event::LeaveAsked => stay(HeldTask { leaving: true, ..held }, vec![Effect::HandBack]),
        Event::Finished { result: Some(result), seconds } if !held.revoked => {
            let HeldTask { task, inputs, lease_epoch, .. } = held;
            let report = Report { task, lease_epoch, seconds, inputs: Some(inputs), result };
            Ok((Phase::Reporting { report: report.clone(), leaving: held.leaving }, vec![Effect::Send(report)]))
        }
        Event::Finished { .. } => Ok(after(held.leaving)),
        _ => Err(Rejected("working")),
    }
}

fn reporting(report: &Report, leaving: bool, event: Event) -> Result<(Phase, Vec<Effect>), Rejected> {
    let stay = |report: Report, leaving: bool, effect: Effect| Ok((Phase::Reporting { report, leaving }, vec![effect]));
    match event {
        Event::Acknowledged | Event::Revoked | Event::Registered { adopted: None } => Ok(after(leaving)),
        Event::Registered { adopted: Some(lease_epoch) } => {
            let report = Report { lease_epoch, ..report.clone() };
            stay(report.clone(), leaving, Effect::Send(report))
        }
        Event::CallFailed => stay(report.clone(), leaving, Effect::Send(report.clone())),
        Event::Forgotten => stay(report.clone(), leaving, Effect::Register),
        Event::LeaveAsked => stay(report.clone(), true, Effect::Send(report.clone())),
        _ => Err(Rejected("reporting")),
    }
}

/// What follows a task that is done with.
fn after(leaving: bool) -> (Phase, Vec<Effect>) {
    if leaving { (Phase::Stopped, vec![Effect::Leave]) } else { (Phase::Asking, vec![Effect::Ask]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::label::LabelMap;
    use bloctrain_shared::metric::Confusion;
    use bloctrain_shared::stage::validate;
    use bloctrain_shared::task::{self, ObjectRef, Source, Stage};

    fn task() -> Box<Task> {
        let object = ObjectRef { key: "k".into(), digest: Digest::of(b""), bytes: 0 };
        let work = task::Work::Validate(validate::Work {
            shard: 0,
            classes: LabelMap::all(2),
            weights: object.clone(),
            source: Source::Images,
        });
        Box::new(Task {
            id: TaskId { block: 1, stage: Stage::Validate, part: 0, replica: 0 },
            run: "r".into(),
            submission: object,
            work,
        })
    }

    fn working() -> Session {
        let (mut session, effects) = Session::start();
        assert_eq!(effects, [Effect::Register]);
        assert_eq!(session.apply(Event::Registered { adopted: None }), Ok(vec![Effect::Ask]));
        assert_eq!(
            session.apply(Event::Granted { task: task(), lease_epoch: 3 }),
            Ok(vec![Effect::Start { task: task(), lease_epoch: 3 }])
        );
        session
    }

    fn finished() -> Event {
        Event::Finished {
            result: Some(Ok(Output::Validate(validate::Output { confusion: Confusion::new(2) }))),
            seconds: 1.0,
        }
    }

    #[test]
    fn a_report_is_sent_until_it_is_acknowledged() {
        let mut session = working();
        let sent = session.apply(finished()).expect("fits");
        let [Effect::Send(report)] = sent.as_slice() else { panic!("one report, not {sent:?}") };
        assert_eq!((report.lease_epoch, report.task), (3, task().id));
        assert_eq!(report.inputs, Some(task().work.identity()), "it says what it worked from");
        assert_eq!(session.apply(Event::CallFailed), Ok(sent.clone()));
        assert_eq!(session.apply(Event::Acknowledged), Ok(vec![Effect::Ask]));
    }

    #[test]
    fn a_revoked_task_is_interrupted_and_never_reported() {
        let mut session = working();
        assert_eq!(session.apply(Event::Revoked), Ok(vec![Effect::Interrupt]));
        assert_eq!(session.apply(finished()), Ok(vec![Effect::Ask]));
    }

    #[test]
    fn a_stop_hands_the_task_back_and_ends_everything() {
        let mut session = working();
        assert_eq!(session.apply(Event::StopAsked), Ok(vec![Effect::Interrupt, Effect::Leave]));
        assert_eq!(session.apply(finished()), Ok(Vec::new()));
    }

    #[test]
    fn an_event_that_does_not_fit_changes_nothing() {
        let mut session = working();
        let before = session.clone();
        assert!(session.apply(Event::Acknowledged).is_err());
        assert_eq!(session, before);
    }

    #[test]
    fn a_new_coordinator_is_told_what_is_held_and_the_work_goes_on_under_its_lease() {
        let mut session = working();
        assert_eq!(session.apply(Event::Forgotten), Ok(vec![Effect::Register]));
        assert_eq!(session.apply(Event::CallFailed), Ok(vec![Effect::Register]), "until it answers");
        assert_eq!(session.apply(Event::Registered { adopted: Some(9) }), Ok(Vec::new()));
        let sent = session.apply(finished()).expect("fits");
        let [Effect::Send(report)] = sent.as_slice() else { panic!("one report, not {sent:?}") };
        assert_eq!(report.lease_epoch, 9);
        assert_eq!(
            session.apply(Event::Forgotten),
            Ok(vec![Effect::Register]),
            "another one, while the report is on its way"
        );
        let sent = session.apply(Event::Registered { adopted: Some(12) }).expect("fits");
        assert!(matches!(sent.as_slice(), [Effect::Send(report)] if report.lease_epoch == 12));
    }

    #[test]
    fn what_a_new_coordinator_gave_to_others_is_dropped() {
        let mut session = working();
        assert_eq!(session.apply(Event::Forgotten), Ok(vec![Effect::Register]));
        assert_eq!(session.apply(Event::Registered { adopted: None }), Ok(vec![Effect::Interrupt]));
        assert_eq!(session.apply(finished()), Ok(vec![Effect::Ask]));
    }

    #[test]
    fn who_leaves_comes_to_an_end_reports_and_leaves() {
        let mut session = working();
        assert_eq!(session.apply(Event::LeaveAsked), Ok(vec![Effect::HandBack]));
        assert!(matches!(session.apply(finished()).expect("fits").as_slice(), [Effect::Send(_)]));
        assert!(matches!(session.apply(Event::CallFailed).expect("fits").as_slice(), [Effect::Send(_)]));
        assert_eq!(session.apply(Event::Acknowledged), Ok(vec![Effect::Leave]));
        assert_eq!(*session.phase(), Phase::Stopped);
    }
}
