//! What workers say.

use super::gate::Gate;
use super::{malformed, missing, refused, short};
use crate::drive::{Answer, DriverError};
use crate::schedule::worker::{Holding, Newcomer};
use crate::schedule::{Event, Rejected};
use bloctrain_proto::convert::{ConvertError, from_json, to_grant};
use bloctrain_proto::status::{Kind, status};
use bloctrain_proto::v1;
use bloctrain_proto::v1::worker_service_server::WorkerService;
use bloctrain_proto::v1::{
    CompleteRequest, CompleteResponse, HeartbeatRequest, HeartbeatResponse, LeaseRequest, LeaseResponse, LeaveRequest,
    LeaveResponse, RegisterRequest, RegisterResponse,
};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest time that a request for a task may wait.
const MAX_WAIT_MS: u64 = 30_000;

/// Longest progress message.
const MAX_PROGRESS: usize = 4 << 10;

/// Longest report: a summary of many blocks and classes is the largest.
const MAX_REPORT: usize = 8 << 20;

/// The worker service.
pub struct WorkerRpc {
    gate: Gate,
}

impl WorkerRpc {
    /// The service behind a gate.
    pub fn new(gate: Gate) -> Self {
        Self { gate }
    }

    async fn apply(&self, event: Event) -> Result<Answer, DriverError> {
        let active = self.gate.active().map_err(|status| DriverError::Stopped(status.message().to_owned()))?;
        active.handle.apply(event).await
    }
}

impl WorkerRpc {
    /// A grant that fits into a message: work that grows with classes, shards or samples goes through the store, under
    /// a name of its content.
    async fn grant(&self, mut grant: v1::Grant) -> Result<v1::Grant, Status> {
        let active = self.gate.active()?;
        if grant.work_json.len() <= active.config.inline_bytes {
            return Ok(grant);
        }
        let work = Bytes::from(std::mem::take(&mut grant.work_json));
        let stored = active.artefacts.put(&key::work(&grant.run, Digest::of(&work)), work).await;
        // The worker asks again, and the task with it.
        let object = stored.map_err(|error| status(Kind::Unavailable, error.to_string()))?;
        grant.work = Some(object.into());
        Ok(grant)
    }
}

fn newcomer(request: RegisterRequest) -> Result<Newcomer, Status> {
    let RegisterRequest {
        name,
        backend,
        arithmetic,
        version,
        device,
        memory_bytes,
        instance,
        holding,
        store,
        precision,
        only_run,
    } = request;
    let texts = [&name, &backend, &version, &device, &instance, &store, &precision, &only_run];
    let fields = ["name", "backend", "version", "device", "instance", "store", "precision", "only_run"];
    fields.into_iter().zip(texts).try_for_each(|(field, text)| short(field, text))?;
    if name.is_empty() {
        return Err(missing("name"));
    }
    let holding = holding.map(hold).transpose().map_err(|error| malformed(&error))?;
    short("run", holding.as_ref().map_or("", |holding| &holding.run))?;
    Ok(Newcomer {
        name,
        backend,
        arithmetic,
        precision,
        version,
        device,
        memory_bytes,
        instance,
        store,
        only_run,
        holding,
    })
}

fn hold(holding: v1::Holding) -> Result<Holding, ConvertError> {
    let task = holding.task.ok_or_else(|| ConvertError::new("a held task needs an id"))?.try_into()?;
    let work: [u8; 32] = holding.work_digest.try_into().map_err(|_| ConvertError::new("a digest has 32 bytes"))?;
    Ok(Holding { run: holding.run, task, work: Digest::from_bytes(work) })
}

#[tonic::async_trait]
impl WorkerService for WorkerRpc {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let newcomer = newcomer(request.into_inner())?;
        let active = self.gate.active()?;
        let (name, backend) = (newcomer.name.clone(), newcomer.backend.clone());
        let answer =
            active.handle.apply(Event::Registered(Box::new(newcomer))).await.map_err(|error| refused(&error))?;
        tracing::info!(worker = name, backend, "a worker registered");
        Ok(Response::new(RegisterResponse {
            worker: answer.worker.unwrap_or_default(),
            lease_ms: active.config.lease_ms,
            heartbeat_ms: active.config.heartbeat_ms,
            adopted_lease_epoch: answer.adopted.unwrap_or_default(),
            store: active.store.clone(),
            stall_ms: active.config.stall_ms,
        }))
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let LeaseRequest { worker, wait_ms } = request.into_inner();
        let wait = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        let answer = self.gate.active()?.handle.ask(worker, wait).await.map_err(|error| refused(&error))?;
        let grant = match answer.grant {
            Some((task, lease_epoch)) => Some(self.grant(to_grant(task, lease_epoch)).await?),
            None => None,
        };
        Ok(Response::new(LeaseResponse { grant, why: answer.why.unwrap_or_default() }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let HeartbeatRequest { worker, run, task, lease_epoch, progress_json } = request.into_inner();
        short("run", &run)?;
        if progress_json.len() > MAX_PROGRESS {
            return Err(status(Kind::Invalid, format!("progress has more than {MAX_PROGRESS} bytes")));
        }
        let task = task.ok_or_else(|| missing("task"))?.try_into().map_err(|error| malformed(&error))?;
        let progress = from_json(&progress_json).map_err(|error| malformed(&error))?;
        let command = match self.apply(Event::Heartbeat { worker, run, task, lease_epoch, progress }).await {
            Ok(Answer { hand_back: true, .. }) => v1::Command::HandBack,
            Ok(_) => v1::Command::GoOn,
            Err(DriverError::Rejected(Rejected::Stale(_))) => v1::Command::Drop,
            Err(error) => return Err(refused(&error)),
        };
        Ok(Response::new(HeartbeatResponse { command: command.into() }))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<CompleteResponse>, Status> {
        let CompleteRequest { worker, run, report_json } = request.into_inner();
        short("run", &run)?;
        if report_json.len() > MAX_REPORT {
            return Err(status(Kind::Invalid, format!("the report has more than {MAX_REPORT} bytes")));
        }
        let report = from_json(&report_json).map_err(|error| malformed(&error))?;
        let event = Event::Reported { worker, run, report: Box::new(report) };
        self.apply(event).await.map_err(|error| refused(&error))?;
        Ok(Response::new(CompleteResponse {}))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        self.apply(Event::Left { worker: request.into_inner().worker }).await.map_err(|error| refused(&error))?;
        Ok(Response::new(LeaveResponse {}))
    }
}
