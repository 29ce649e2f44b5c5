//! What workers say.

use super::{malformed, missing, refused};
use crate::driver::Handle;
use crate::run::Event;
use bloctrain_proto::convert::{from_json, to_grant};
use bloctrain_proto::v1::worker_service_server::WorkerService;
use bloctrain_proto::v1::{
    CompleteRequest, CompleteResponse, HeartbeatRequest, HeartbeatResponse, LeaseRequest, LeaseResponse, LeaveRequest,
    LeaveResponse, RegisterRequest, RegisterResponse,
};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest time that a request for a task may wait.
const MAX_WAIT_MS: u64 = 30_000;

/// The worker service.
pub(crate) struct WorkerRpc {
    handle: Handle,
    lease_ms: u64,
}

impl WorkerRpc {
    /// The service on a driver.
    pub(crate) fn new(handle: Handle, lease_ms: u64) -> Self {
        Self { handle, lease_ms }
    }
}

#[tonic::async_trait]
impl WorkerService for WorkerRpc {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let RegisterRequest { name, backend, arithmetic } = request.into_inner();
        let answer = self.handle.apply(Event::Registered { name, backend, arithmetic }).await.map_err(|error| refused(&error))?;
        Ok(Response::new(RegisterResponse { worker: answer.worker.unwrap_or_default(), lease_ms: self.lease_ms }))
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let LeaseRequest { worker, wait_ms } = request.into_inner();
        let wait = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        let answer = self.handle.ask(worker, wait).await.map_err(|error| refused(&error))?;
        let grant = answer.grant.map(|(task, lease_epoch)| to_grant(task, lease_epoch));
        Ok(Response::new(LeaseResponse { grant }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let HeartbeatRequest { worker, run, task, lease_epoch, progress_json } = request.into_inner();
        let task = task.ok_or_else(|| missing("task"))?.try_into().map_err(|error| malformed(&error))?;
        let progress = from_json(&progress_json).map_err(|error| malformed(&error))?;
        match self.handle.apply(Event::Heartbeat { worker, run, task, lease_epoch, progress }).await {
            Ok(_) => Ok(Response::new(HeartbeatResponse { go_on: true })),
            Err(crate::driver::DriverError::Rejected(crate::run::Rejected::Stale(_))) => {
                Ok(Response::new(HeartbeatResponse { go_on: false }))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<CompleteResponse>, Status> {
        let CompleteRequest { worker, run, report_json } = request.into_inner();
        let report = from_json(&report_json).map_err(|error| malformed(&error))?;
        self.handle.apply(Event::Reported { worker, run, report: Box::new(report) }).await.map_err(|error| refused(&error))?;
        Ok(Response::new(CompleteResponse {}))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        self.handle.apply(Event::Left { worker: request.into_inner().worker }).await.map_err(|error| refused(&error))?;
        Ok(Response::new(LeaveResponse {}))
    }
}
