//! How a session reaches its coordinator: gRPC in a fleet, a simulated network in the simulation.

use bloctrain_proto::MESSAGE_LIMIT;
use bloctrain_proto::dial::{DialError, Dialer, Link, within};
use bloctrain_proto::v1::worker_service_client::WorkerServiceClient;
use bloctrain_proto::v1::{
    CompleteRequest, CompleteResponse, HeartbeatRequest, HeartbeatResponse, LeaseRequest, LeaseResponse, LeaveRequest,
    LeaveResponse, RegisterRequest, RegisterResponse,
};
use std::time::Duration;
use tonic::Status;

/// The calls of the worker service, each with the longest time that its answer may take.
pub trait Calls: Send {
    /// Makes the worker known.
    fn register(
        &mut self,
        limit: Duration,
        request: RegisterRequest,
    ) -> impl Future<Output = Result<RegisterResponse, Status>> + Send;

    /// Asks for a task.
    fn lease(
        &mut self,
        limit: Duration,
        request: LeaseRequest,
    ) -> impl Future<Output = Result<LeaseResponse, Status>> + Send;

    /// Keeps a lease.
    fn heartbeat(
        &mut self,
        limit: Duration,
        request: HeartbeatRequest,
    ) -> impl Future<Output = Result<HeartbeatResponse, Status>> + Send;

    /// Reports.
    fn complete(
        &mut self,
        limit: Duration,
        request: CompleteRequest,
    ) -> impl Future<Output = Result<CompleteResponse, Status>> + Send;

    /// Says good-bye.
    fn leave(
        &mut self,
        limit: Duration,
        request: LeaveRequest,
    ) -> impl Future<Output = Result<LeaveResponse, Status>> + Send;
}

/// Ways to coordinators.
pub trait Transport: Send {
    /// A way to one of them.
    type Calls: Calls + Clone;

    /// A way to the next coordinator in turn.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Calls, DialError>> + Send;

    /// Whose turn it is, and how long to pause.
    fn dialer(&mut self) -> &mut Dialer;
}

impl Transport for Dialer {
    type Calls = WorkerServiceClient<Link>;

    async fn connect(&mut self) -> Result<Self::Calls, DialError> {
        Ok(WorkerServiceClient::new(self.next().await?).max_decoding_message_size(MESSAGE_LIMIT))
    }

    fn dialer(&mut self) -> &mut Dialer {
        self
    }
}

impl Calls for WorkerServiceClient<Link> {
    async fn register(&mut self, limit: Duration, request: RegisterRequest) -> Result<RegisterResponse, Status> {
        self.register(within(limit, request)).await.map(tonic::Response::into_inner)
    }

    async fn lease(&mut self, limit: Duration, request: LeaseRequest) -> Result<LeaseResponse, Status> {
        self.lease(within(limit, request)).await.map(tonic::Response::into_inner)
    }

    async fn heartbeat(&mut self, limit: Duration, request: HeartbeatRequest) -> Result<HeartbeatResponse, Status> {
        self.heartbeat(within(limit, request)).await.map(tonic::Response::into_inner)
    }

    async fn complete(&mut self, limit: Duration, request: CompleteRequest) -> Result<CompleteResponse, Status> {
        self.complete(within(limit, request)).await.map(tonic::Response::into_inner)
    }

    async fn leave(&mut self, limit: Duration, request: LeaveRequest) -> Result<LeaveResponse, Status> {
        self.leave(within(limit, request)).await.map(tonic::Response::into_inner)
    }
}
