//! Drives a [`Session`]: calls the coordinator, runs tasks on a thread of their own, heartbeats meanwhile.
//!
//! Branches that are ready together are taken in a fixed order, so that a simulation can be replayed.

use crate::control::{Control, Stop};
use crate::standing::{Ended, Standing};
use crate::transport::{Calls, Transport};
use crate::watch::Watch;
use crate::{Effect, Event, Phase, Session};
use bloctrain_proto::convert::{from_grant, to_json};
use bloctrain_proto::dial::Discover;
use bloctrain_proto::status::{Kind, kind};
use bloctrain_proto::v1;
use bloctrain_proto::v1::{CompleteRequest, HeartbeatRequest, LeaseRequest, LeaveRequest, RegisterRequest};
use bloctrain_shared::key::NO_STORE;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::task::{Failure, ObjectRef, Output, Report, Task, TaskId};
use bloctrain_store::{Artefacts, ErrorKind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Longest wait for a task in one call.
const WAIT_MS: u64 = 5_000;

/// Longest time that any other call may take.
const CALL: Duration = Duration::from_secs(10);

/// Longest time that a heartbeat may take.
const BEAT: Duration = Duration::from_secs(3);

/// Longest time that an interrupted task has to come to its end when its worker leaves.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// Longest time to say good-bye.
const GOODBYE: Duration = Duration::from_secs(2);

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
    pub jobs: mpsc::UnboundedSender<Job>,
    /// Gives answers.
    pub done: mpsc::Receiver<Done>,
}

/// How a worker is asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaving {
    /// It is not.
    #[default]
    No,
    /// Soon: the task comes to an end first.
    Soon,
    /// At once: the task is handed back.
    Now,
}

/// What a worker says of itself.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Name for people, unique in the fleet.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Element of its convolutions where a specification leaves it open.
    pub precision: String,
    /// Its device.
    pub device: String,
    /// Version of its code.
    pub version: String,
    /// Memory of its machine; 0 when it is not known.
    pub memory_bytes: u64,
    /// Its identity: whoever registers with it takes the place of who did before. Drawn anew at every start, or given
    /// so that a restarted process takes its own place.
    pub instance: String,
    /// Identity of the store that it sees; empty until it was looked at.
    pub store: String,
    /// Where its session notes how it stands.
    pub standing: Arc<Standing>,
    /// The one run that it works for; empty for any.
    pub only_run: String,
}

/// What a worker computes with, once it knows its store.
pub struct Tools {
    /// The computing thread.
    pub engine: Engine,
    /// The store as this worker sees it.
    pub artefacts: Artefacts,
    /// Where else to find the coordinator.
    pub discover: Option<Discover>,
}

/// Makes the tools; its argument is the address of the fleet's store.
pub type Equip = Box<dyn FnOnce(&str) -> Result<Tools, String> + Send>;

/// A session that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The coordinator refuses this worker.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The store of the fleet cannot be used, or the thread cannot be made.
    #[error("this worker cannot work: {0}")]
    Equip(String),
    /// The running task does not get on.
    #[error(
        "{task} of {run} has not got on for {} s: this worker ends, for whatever started it to start it anew; see \
        what it waits for (its device, its store)",
        .still.as_secs()
    )]
    Stalled {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// For how long.
        still: Duration,
    },
    /// The computing thread is gone.
    #[error("the worker's computing thread has ended unexpectedly; this is a defect, please report it")]
    EngineGone,
}

/// A task on the thread that computes.
#[derive(Clone)]
struct Running {
    run: String,
    task: TaskId,
    control: Control,
}

struct Client<T: Transport> {
    transport: T,
    rpc: Option<T::Calls>,
    about: About,
    equip: Option<Equip>,
    engine: Option<Engine>,
    artefacts: Option<Artefacts>,
    worker: u64,
    heartbeat: Duration,
    /// The task that is running, with the way to it.
    running: Option<Running>,
    watch: Watch,
    /// The task that is running or whose report is on its way, with its lease.
    held: Option<(Task, u64)>,
    why: String,
    leaving: watch::Receiver<Leaving>,
    /// How far the session knows about it.
    told: Leaving,
}

/// Serves a coordinator until it is asked to leave.
///
/// # Errors
/// When the coordinator refuses this worker for good, or it cannot work.
pub async fn serve<T: Transport>(
    transport: T,
    about: About,
    equip: Equip,
    leaving: watch::Receiver<Leaving>,
) -> Result<(), ClientError> {
    let mut client = Client {
        transport,
        rpc: None,
        about,
        equip: Some(equip),
        engine: None,
        artefacts: None,
        worker: 0,
        heartbeat: Duration::from_millis(500),
        running: None,
        watch: Watch::default(),
        held: None,
        why: String::new(),
        leaving,
        told: Leaving::No,
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

impl<T: Transport> Client<T> {
    async fn perform(&mut self, effect: Effect) -> Result<Option<Event>, ClientError> {
        match effect {
            Effect::Register => self.register().await.map(Some),
            Effect::Ask => self.ask().await.map(Some),
            Effect::Start { task, lease_epoch } => {
                let control = Control::default();
                tracing::info!(run = task.run, task = %task.id, attempt = lease_epoch, "a task begins");
                let job = Job { task: (*task).clone(), control: control.clone() };
                let engine = self.engine.as_ref().ok_or(ClientError::EngineGone)?;
                engine.jobs.send(job).map_err(|_| ClientError::EngineGone)?;
                self.running = Some(Running { run: task.run.clone(), task: task.id, control });
                self.watch.begin();
                self.about.standing.begins(task.id.stage);
                self.held = Some((*task, lease_epoch));
                Ok(None)
            }
            Effect::HandBack => {
                self.running.iter().for_each(|running| running.control.hand_back());
                Ok(None)
            }
            Effect::Interrupt => {
                self.running.iter().for_each(|running| running.control.interrupt());
                Ok(None)
            }
            Effect::Send(report) => self.send(report).await.map(Some),
            Effect::Leave => {
                if let (Some(running), Some(engine)) = (self.running.take(), &mut self.engine) {
                    running.control.interrupt();
                    // One that hangs does not keep its worker from leaving.
                    if tokio::time::timeout(WIND_DOWN, engine.done.recv()).await.is_err() {
                        tracing::warn!(run = running.run, task = %running.task, "the task does not come to an end; \
                        left without it");
                    }
                }
                let request = LeaveRequest { worker: self.worker };
                if let Some(rpc) = &mut self.rpc {
                    // The coordinator may be gone already; then there is nobody to tell.
                    let _ = tokio::time::timeout(GOODBYE, rpc.leave(GOODBYE, request)).await;
                }
                Ok(None)
            }
        }
    }

    /// The coordinator, or the event that none can be called now.
    async fn rpc(&mut self) -> Result<T::Calls, Event> {
        if let Some(rpc) = &self.rpc {
            return Ok(rpc.clone());
        }
        match self.transport.connect().await {
            Ok(rpc) => {
                self.rpc = Some(rpc.clone());
                Ok(rpc)
            }
            Err(error) => {
                self.remark(error.to_string());
                Err(self.pause().await)
            }
        }
    }

    /// Looks which store this worker sees, once it has one; the event that keeps it from that, if any.
    async fn look_at_store(&mut self) -> Result<Option<Event>, ClientError> {
        let Some(artefacts) = self.artefacts.clone().filter(|_| self.about.store.is_empty()) else { return Ok(None) };
        let found = tokio::select! {
            biased;
            found = artefacts.find_identity() => found,
            event = asked(&mut self.leaving, &mut self.told) => return Ok(Some(event)),
        };
        match found {
            Ok(found) => self.about.store = found.unwrap_or_else(|| NO_STORE.to_owned()),
            // Damaged on the way, or while a store is written; what is damaged for good shows at the coordinator.
            Err(error) if matches!(error.kind(), ErrorKind::Retry | ErrorKind::InputLost) => {
                self.remark(error.to_string());
                return Ok(Some(self.pause().await));
            }
            Err(error) => return Err(ClientError::Equip(error.to_string())),
        }
        Ok(None)
    }

    async fn register(&mut self) -> Result<Event, ClientError> {
        if let Some(event) = self.look_at_store().await? {
            return Ok(event);
        }
        let about = self.about.clone();
        let holding = self.held.as_ref().map(|(task, _)| v1::Holding {
            run: task.run.clone(),
            task: Some(task.id.into()),
            work_digest: task.work.identity().as_bytes().to_vec(),
        });
        let request = RegisterRequest {
            name: about.name,
            backend: about.backend,
            arithmetic: ARITHMETIC_VERSION,
            version: about.version,
            device: about.device,
            memory_bytes: about.memory_bytes,
            instance: about.instance,
            holding,
            store: about.store,
            precision: about.precision,
            only_run: about.only_run,
        };
        let mut rpc = match self.rpc().await {
            Ok(rpc) => rpc,
            Err(event) => return Ok(event),
        };
        let answer = tokio::select! {
            biased;
            answer = rpc.register(CALL, request) => answer,
            event = asked(&mut self.leaving, &mut self.told) => return Ok(event),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => return self.failed(&status).await,
        };
        self.transport.dialer().answered();
        self.worker = answer.worker;
        self.heartbeat = Duration::from_millis(answer.heartbeat_ms.clamp(100, 60_000));
        self.watch.set(answer.stall_ms);
        if let Some(equip) = self.equip.take() {
            let Tools { engine, artefacts, discover } = equip(&answer.store).map_err(ClientError::Equip)?;
            (self.engine, self.artefacts) = (Some(engine), Some(artefacts));
            discover.into_iter().for_each(|discover| self.transport.dialer().discover(discover));
            // Now that it has a store it can show which.
            return Ok(Event::CallFailed);
        }
        let adopted = (answer.adopted_lease_epoch > 0).then_some(answer.adopted_lease_epoch);
        match (&mut self.held, adopted) {
            (Some((_, lease_epoch)), Some(adopted)) => *lease_epoch = adopted,
            (held, _) => *held = None,
        }
        self.about.standing.answered();
        tracing::info!(worker = self.about.name, id = self.worker, adopted, "registered");
        Ok(Event::Registered { adopted })
    }

    async fn ask(&mut self) -> Result<Event, ClientError> {
        self.held = None;
        let request = LeaseRequest { worker: self.worker, wait_ms: WAIT_MS };
        let mut rpc = match self.rpc().await {
            Ok(rpc) => rpc,
            Err(event) => return Ok(event),
        };
        let answer = tokio::select! {
            biased;
            answer = rpc.lease(Duration::from_millis(WAIT_MS) + CALL, request) => answer,
            event = asked(&mut self.leaving, &mut self.told) => return Ok(event),
        };
        match answer {
            Ok(v1::LeaseResponse { grant: None, why }) => {
                self.transport.dialer().answered();
                self.about.standing.answered();
                self.remark(why);
                Ok(Event::NothingToDo)
            }
            Ok(v1::LeaseResponse { grant: Some(grant), .. }) => match self.whole(grant).await {
                Err(event) => Ok(event),
                Ok(grant) => match from_grant(grant) {
                    Ok((task, lease_epoch)) => Ok(Event::Granted { task: Box::new(task), lease_epoch }),
                    Err(error) => Err(ClientError::Refused(error.to_string())),
                },
            },
            Err(status) => self.failed(&status).await,
        }
    }

    /// A grant with its work, which may be in the store; or the event that it cannot be had now.
    async fn whole(&mut self, mut grant: v1::Grant) -> Result<v1::Grant, Event> {
        let Some(object) = grant.work.take().and_then(|object| ObjectRef::try_from(object).ok()) else {
            return Ok(grant);
        };
        let Some(artefacts) = self.artefacts.clone() else { return Ok(grant) };
        let read = tokio::select! {
            biased;
            read = artefacts.get(&object) => read,
            event = asked(&mut self.leaving, &mut self.told) => return Err(event),
        };
        match read {
            Ok(bytes) => {
                grant.work_json = String::from_utf8_lossy(&bytes).into_owned();
                Ok(grant)
            }
            Err(error) => {
                // Whoever asks again gets the task, and its work, anew.
                self.remark(error.to_string());
                Err(self.pause().await)
            }
        }
    }

    /// Tells people why nothing happens, once.
    fn remark(&mut self, why: String) {
        if why != self.why && !why.is_empty() {
            tracing::warn!("no task: {why}");
        }
        self.why = why;
    }

    /// Waits for the running task, heartbeating; or, without one, to be asked to leave.
    async fn work(&mut self) -> Result<Event, ClientError> {
        let (Some(Running { run, task, control }), Some(engine)) = (self.running.clone(), &mut self.engine) else {
            return Ok(asked(&mut self.leaving, &mut self.told).await);
        };
        let mut beat = tokio::time::interval(self.heartbeat);
        loop {
            tokio::select! {
                biased;
                done = engine.done.recv() => {
                    let Done { result, seconds } = done.ok_or(ClientError::EngineGone)?;
                    self.running = None;
                    let (result, ended) = match result {
                        Ok(output) => (Some(Ok(output)), Ended::Done),
                        Err(Stop::Failed(failure)) => {
                            tracing::warn!(%failure, "a task failed");
                            (Some(Err(failure)), Ended::Failed)
                        }
                        Err(Stop::Interrupted) => (None, Ended::Interrupted),
                    };
                    self.about.standing.ends(ended, seconds);
                    return Ok(Event::Finished { result, seconds });
                }
                event = asked(&mut self.leaving, &mut self.told) => return Ok(event),
                _ = beat.tick() => {
                    let mut progress = control.progress();
                    progress.ticks += self.artefacts.as_ref().map_or(0, Artefacts::completed);
                    if let Some(still) = self.watch.look(task, progress.clone()) {
                        return Err(ClientError::Stalled { run, task, still });
                    }
                    // Without a lease there is nothing to keep alive.
                    let Some((task, lease_epoch)) = &self.held else { continue };
                    let request = HeartbeatRequest {
                        worker: self.worker,
                        run: task.run.clone(),
                        task: Some(task.id.into()),
                        lease_epoch: *lease_epoch,
                        progress_json: to_json(&progress),
                    };
                    match beat_once(&mut self.rpc, &mut self.transport, request).await {
                        Ok(v1::Command::Drop) => {
                            self.held = None;
                            return Ok(Event::Revoked);
                        }
                        Ok(v1::Command::HandBack) if !control.hands_back() => return Ok(Event::HandBackAsked),
                        Ok(_) => {
                            self.transport.dialer().answered();
                            self.about.standing.answered();
                        }
                        Err(status) if kind(&status) == Kind::NotFound => return Ok(Event::Forgotten),
                        Err(status) => {
                            tracing::debug!(%status, "a heartbeat failed; the next one may not");
                            self.about.standing.failed();
                            self.rpc = None;
                            beat.reset_after(self.transport.dialer().pause());
                        }
                    }
                }
            }
        }
    }

    async fn send(&mut self, report: Report) -> Result<Event, ClientError> {
        let Some((task, lease_epoch)) = &self.held else { return Ok(Event::Acknowledged) };
        let report = Report { lease_epoch: *lease_epoch, ..report };
        let request = CompleteRequest { worker: self.worker, run: task.run.clone(), report_json: to_json(&report) };
        let mut rpc = match self.rpc().await {
            Ok(rpc) => rpc,
            Err(event) => return Ok(event),
        };
        match rpc.complete(CALL, request).await {
            Ok(_) => Ok(Event::Acknowledged),
            Err(status) => match kind(&status) {
                // What cannot be true counts as a failure, or the task would come back for ever.
                Kind::Invalid if report.result.is_ok() => {
                    tracing::warn!(task = %report.task, %status, "an output was refused");
                    let message = format!("the coordinator refuses the output: {}", status.message());
                    Box::pin(self.send(Report { result: Err(Failure::Transient { message }), ..report })).await
                }
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

    /// A failed call: another coordinator after a little while, unless the failure is final.
    async fn failed(&mut self, status: &Status) -> Result<Event, ClientError> {
        match kind(status) {
            Kind::NotFound => return Ok(Event::Forgotten),
            Kind::Mismatch | Kind::Internal | Kind::Invalid | Kind::Unauthenticated | Kind::Forbidden => {
                return Err(ClientError::Refused(status.message().to_owned()));
            }
            Kind::Unavailable | Kind::Stale | Kind::Exhausted => {}
        }
        self.about.standing.failed();
        self.remark(format!("the coordinator cannot be reached: {}", status.message()));
        self.rpc = None;
        Ok(self.pause().await)
    }

    async fn pause(&mut self) -> Event {
        let mut pause = tokio::time::interval(self.transport.dialer().pause());
        pause.tick().await;
        tokio::select! {
            biased;
            _ = pause.tick() => Event::CallFailed,
            event = asked(&mut self.leaving, &mut self.told) => event,
        }
    }
}

async fn beat_once<T: Transport>(
    rpc: &mut Option<T::Calls>,
    transport: &mut T,
    request: HeartbeatRequest,
) -> Result<v1::Command, Status> {
    let known = match rpc {
        Some(rpc) => rpc,
        None => {
            let calls = transport.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
            rpc.insert(calls)
        }
    };
    known.heartbeat(BEAT, request).await.map(|answer| answer.command())
}

/// Ends when this worker is asked to go, in another way than it knows; never when nobody can ask for it any more.
async fn asked(leaving: &mut watch::Receiver<Leaving>, told: &mut Leaving) -> Event {
    let known = *told;
    let new = |leaving: &Leaving| *leaving != Leaving::No && *leaving != known;
    let wanted = leaving.wait_for(new).await.map(|leaving| *leaving);
    match wanted {
        Ok(leaving) => {
            *told = leaving;
            if leaving == Leaving::Soon { Event::LeaveAsked } else { Event::StopAsked }
        }
        Err(_) => std::future::pending().await,
    }
}

/// Turns a panic of a task into a failure with its text.
pub fn failure_of_panic(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text =
        panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::Transient { message: format!("the task panicked: {}", text.unwrap_or_else(|| "without a message".into())) }
}
