//! What a worker does next: a pure state machine, and the client that drives it.
//!
//! A session registers, asks for a task, works on it while it heartbeats, reports, and asks again. The machine in this
//! module decides; [`client`] talks to the coordinator and runs tasks. Whatever is lost between the two is asked for
//! again: a report that was not acknowledged is sent again, a revoked task is interrupted and never reported.

pub mod client;

use bloctrain_shared::task::{Failure, Output, Report, Task, TaskId};

/// Where a session stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Not known to the coordinator.
    Registering,
    /// Waiting for a task.
    Asking,
    /// Working on a task.
    Working {
        /// The task.
        task: TaskId,
        /// Epoch of its lease.
        lease_epoch: u64,
        /// Whether the lease was revoked while the work still winds down.
        revoked: bool,
    },
    /// A report is on its way.
    Reporting(Report),
    /// The session is over.
    Stopped,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The coordinator knows the worker.
    Registered,
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
    /// The coordinator took the report, or refused it as too late: either way it is dealt with.
    Acknowledged,
    /// The coordinator does not know this worker (it was restarted, or the worker was thought lost).
    Forgotten,
    /// A call failed and may succeed later.
    CallFailed,
    /// This process was asked to stop.
    StopAsked,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell the coordinator about this worker.
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
    /// Make the running work return soon.
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
        (Phase::Working { .. }, Event::StopAsked) => Ok((Phase::Stopped, vec![Effect::Interrupt, Effect::Leave])),
        (_, Event::StopAsked) => Ok((Phase::Stopped, vec![Effect::Leave])),
        (Phase::Registering, Event::Registered) => Ok((Phase::Asking, vec![Effect::Ask])),
        (Phase::Registering, Event::CallFailed | Event::Forgotten) => Ok((Phase::Registering, vec![Effect::Register])),
        (Phase::Asking, Event::Granted { task, lease_epoch }) => {
            Ok((Phase::Working { task: task.id, lease_epoch, revoked: false }, vec![Effect::Start { task, lease_epoch }]))
        }
        (Phase::Asking, Event::NothingToDo | Event::CallFailed) => Ok((Phase::Asking, vec![Effect::Ask])),
        (Phase::Asking, Event::Forgotten) => Ok((Phase::Registering, vec![Effect::Register])),
        (Phase::Working { task, lease_epoch, .. }, Event::Revoked | Event::Forgotten) => {
            Ok((Phase::Working { task: *task, lease_epoch: *lease_epoch, revoked: true }, vec![Effect::Interrupt]))
        }
        (Phase::Working { .. }, Event::CallFailed) => Ok((phase.clone(), Vec::new())),
        (Phase::Working { task, lease_epoch, revoked }, Event::Finished { result, seconds }) => match result {
            Some(result) if !revoked => {
                let report = Report { task: *task, lease_epoch: *lease_epoch, seconds, result };
                Ok((Phase::Reporting(report.clone()), vec![Effect::Send(report)]))
            }
            _ => Ok((Phase::Asking, vec![Effect::Ask])),
        },
        (Phase::Reporting(_), Event::Acknowledged | Event::Revoked) => Ok((Phase::Asking, vec![Effect::Ask])),
        (Phase::Reporting(report), Event::CallFailed) => Ok((phase.clone(), vec![Effect::Send(report.clone())])),
        (Phase::Reporting(_), Event::Forgotten) => Ok((Phase::Registering, vec![Effect::Register])),
        (Phase::Registering, _) => Err(Rejected("registering")),
        (Phase::Asking, _) => Err(Rejected("asking")),
        (Phase::Working { .. }, _) => Err(Rejected("working")),
        (Phase::Reporting(_), _) => Err(Rejected("reporting")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::Digest;
    use bloctrain_shared::label::LabelMap;
    use bloctrain_shared::metric::Confusion;
    use bloctrain_shared::task::{ObjectRef, Source, Stage, Work};

    fn task() -> Box<Task> {
        let object = ObjectRef { key: "k".into(), digest: Digest::of(b""), bytes: 0 };
        let work = Work::Validate { shard: 0, classes: LabelMap::all(2), weights: object.clone(), source: Source::Images };
        Box::new(Task { id: TaskId { block: 1, stage: Stage::Validate, part: 0 }, run: "r".into(), submission: object, work })
    }

    fn working() -> Session {
        let (mut session, effects) = Session::start();
        assert_eq!(effects, [Effect::Register]);
        assert_eq!(session.apply(Event::Registered), Ok(vec![Effect::Ask]));
        assert_eq!(
            session.apply(Event::Granted { task: task(), lease_epoch: 3 }),
            Ok(vec![Effect::Start { task: task(), lease_epoch: 3 }])
        );
        session
    }

    fn finished() -> Event {
        Event::Finished { result: Some(Ok(Output::Validate { confusion: Confusion::new(2) })), seconds: 1.0 }
    }

    #[test]
    fn a_report_is_sent_until_it_is_acknowledged() {
        let mut session = working();
        let sent = session.apply(finished()).expect("fits");
        let [Effect::Send(report)] = sent.as_slice() else { panic!("one report, not {sent:?}") };
        assert_eq!((report.lease_epoch, report.task), (3, task().id));
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
        assert!(session.apply(Event::Registered).is_err());
        assert_eq!(session, before);
    }
}
