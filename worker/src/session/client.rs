//! Drives a [`Session`]: calls the coordinator, runs tasks on a thread of their own, heartbeats meanwhile.

use super::{Effect, Event, Phase, Session};
use crate::stage::{Control, Stop};
use bloctrain_proto::MESSAGE_LIMIT;
use bloctrain_proto::convert::{from_grant, to_json};
use bloctrain_proto::status::{Kind, kind};
use bloctrain_proto::v1::worker_service_client::WorkerServiceClient;
use bloctrain_proto::v1::{CompleteRequest, HeartbeatRequest, LeaseRequest, LeaveRequest, RegisterRequest};
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::task::{Failure, Output, Report, Task};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::transport::Channel;

/// Longest wait for a task in one call.
const WAIT_MS: u64 = 5_000;

/// Pause before a failed call is made again.
const RETRY: Duration = Duration::from_millis(300);

/// Pause between reports of progress.
const PROGRESS: Duration = Duration::from_millis(500);

/// Work for the thread that computes.
pub struct Job {
    /// The task.
    pub task: Task,
    /// Its connection to the session.
    pub control: Control,
}

/// What the thread that computes answers.
pub struct Done {
    /// What came of it.
    pub result: Result<Output, Stop>,
    /// Seconds of work.
    pub seconds: f64,
}

/// The thread that computes, seen from the session.
pub struct Engine {
    /// Takes jobs, one at a time.
    pub jobs: std::sync::mpsc::Sender<Job>,
    /// Gives answers.
    pub done: mpsc::Receiver<Done>,
}

/// A session that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The computing thread is gone.
    #[error("the worker's computing thread has ended unexpectedly; this is a defect, please report it")]
    EngineGone,
}

struct Client {
    rpc: WorkerServiceClient<Channel>,
    name: String,
    backend: String,
    worker: u64,
    lease_ms: u64,
    engine: Engine,
    current: Option<(Task, u64, Control)>,
    /// Run of the task that was last granted: the one that a report is about.
    run: String,
    stop: watch::Receiver<bool>,
}

/// Serves a coordinator until `stop` turns true.
///
/// # Errors
/// When the coordinator refuses this worker for good.
pub async fn serve(
    channel: Channel,
    name: String,
    backend: &str,
    engine: Engine,
    stop: watch::Receiver<bool>,
) -> Result<(), ClientError> {
    let rpc = WorkerServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let mut client = Client {
        rpc,
        name,
        backend: backend.to_owned(),
        worker: 0,
        lease_ms: 10_000,
        engine,
        current: None,
        run: String::new(),
        stop,
    };
    let (mut session, effects) = Session::start();
    let mut queue: VecDeque<Effect> = effects.into();
    while *session.phase() != Phase::Stopped || !queue.is_empty() {
        let event = match queue.pop_front() {
            Some(effect) => client.perform(effect).await?,
            None => Some(client.work().await?),
        };
        if let Some(event) = event {
            // An event that does not fit is one that came too late: there is nothing to do about it.
            queue.extend(session.apply(event).unwrap_or_default());
        }
    }
    Ok(())
}

impl Client {
    async fn perform(&mut self, effect: Effect) -> Result<Option<Event>, ClientError> {
        match effect {
            Effect::Register => self.register().await.map(Some),
            Effect::Ask => self.ask().await.map(Some),
            Effect::Start { task, lease_epoch } => {
                let control = Control::default();
                let job = Job { task: (*task).clone(), control: control.clone() };
                self.engine.jobs.send(job).map_err(|_| ClientError::EngineGone)?;
                self.run.clone_from(&task.run);
                self.current = Some((*task, lease_epoch, control));
                Ok(None)
            }
            Effect::Interrupt => {
                if let Some((_, _, control)) = &self.current {
                    control.interrupt();
                }
                Ok(None)
            }
            Effect::Send(report) => self.send(report).await.map(Some),
            Effect::Leave => {
                if let Some((_, _, control)) = self.current.take() {
                    control.interrupt();
                    self.engine.done.recv().await;
                }
                // The coordinator may be gone already; then there is nobody to tell.
                let _ = self.rpc.leave(LeaveRequest { worker: self.worker }).await;
                Ok(None)
            }
        }
    }

    async fn register(&mut self) -> Result<Event, ClientError> {
        let request = RegisterRequest { name: self.name.clone(), backend: self.backend.clone(), arithmetic: ARITHMETIC_VERSION };
        match self.rpc.register(request).await {
            Ok(response) => {
                let response = response.into_inner();
                (self.worker, self.lease_ms) = (response.worker, response.lease_ms);
                Ok(Event::Registered)
            }
            Err(status) => self.failed(&status).await,
        }
    }

    async fn ask(&mut self) -> Result<Event, ClientError> {
        let request = LeaseRequest { worker: self.worker, wait_ms: WAIT_MS };
        let mut rpc = self.rpc.clone();
        let answer = tokio::select! {
            answer = rpc.lease(request) => answer,
            () = stopped(&mut self.stop) => return Ok(Event::StopAsked),
        };
        match answer.map(|response| response.into_inner().grant) {
            Ok(None) => Ok(Event::NothingToDo),
            Ok(Some(grant)) => match from_grant(grant) {
                Ok((task, lease_epoch)) => Ok(Event::Granted { task: Box::new(task), lease_epoch }),
                Err(error) => Err(ClientError::Refused(error.to_string())),
            },
            Err(status) => self.failed(&status).await,
        }
    }

    /// Waits for the running task, heartbeating; or, without one, for the stop.
    async fn work(&mut self) -> Result<Event, ClientError> {
        let Some((task, lease_epoch, control)) = self.current.clone() else {
            stopped(&mut self.stop).await;
            return Ok(Event::StopAsked);
        };
        let mut beat = tokio::time::interval(PROGRESS.min(Duration::from_millis(self.lease_ms / 4)));
        loop {
            tokio::select! {
                done = self.engine.done.recv() => {
                    let Done { result, seconds } = done.ok_or(ClientError::EngineGone)?;
                    self.current = None;
                    let result = match result {
                        Ok(output) => Some(Ok(output)),
                        Err(Stop::Failed(failure)) => Some(Err(failure)),
                        Err(Stop::Interrupted) => None,
                    };
                    return Ok(Event::Finished { result, seconds });
                }
                _ = beat.tick() => {
                    let request = HeartbeatRequest {
                        worker: self.worker,
                        run: task.run.clone(),
                        task: Some(task.id.into()),
                        lease_epoch,
                        progress_json: to_json(&control.progress()),
                    };
                    match self.rpc.heartbeat(request).await {
                        Ok(response) if response.get_ref().go_on => {}
                        Ok(_) => return Ok(Event::Revoked),
                        Err(status) if kind(&status) == Kind::NotFound => return Ok(Event::Forgotten),
                        Err(status) => tracing::debug!(%status, "a heartbeat failed; the next one may not"),
                    }
                }
                () = stopped(&mut self.stop) => return Ok(Event::StopAsked),
            }
        }
    }

    async fn send(&mut self, report: Report) -> Result<Event, ClientError> {
        let request = CompleteRequest { worker: self.worker, run: self.run.clone(), report_json: to_json(&report) };
        match self.rpc.complete(request).await {
            Ok(_) => Ok(Event::Acknowledged),
            Err(status) => match kind(&status) {
                // Too late or refused: the coordinator has dealt with it.
                Kind::Stale | Kind::Invalid => {
                    tracing::warn!(task = %report.task, %status, "a report was refused");
                    Ok(Event::Acknowledged)
                }
                Kind::NotFound => Ok(Event::Forgotten),
                _ => self.failed(&status).await,
            },
        }
    }

    /// A failed call: wait a little, unless the failure is final.
    async fn failed(&mut self, status: &Status) -> Result<Event, ClientError> {
        match kind(status) {
            Kind::NotFound => return Ok(Event::Forgotten),
            Kind::Mismatch | Kind::Internal | Kind::Invalid => return Err(ClientError::Refused(status.message().to_owned())),
            Kind::Unavailable | Kind::Stale => {}
        }
        let mut pause = tokio::time::interval(RETRY);
        pause.tick().await;
        tokio::select! {
            _ = pause.tick() => Ok(Event::CallFailed),
            () = stopped(&mut self.stop) => Ok(Event::StopAsked),
        }
    }
}

/// Ends when the stop is asked for; never when nobody can ask for it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Turns a panic of a task into a failure with its text.
pub fn failure_of_panic(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::Transient { message: format!("the task panicked: {}", text.unwrap_or_else(|| "without a message".into())) }
}
