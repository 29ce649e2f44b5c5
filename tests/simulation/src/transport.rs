//! A worker's calls over the simulated network.

use crate::bug::Bug;
use crate::call::{call, deliver};
use crate::network::{Server, name_of};
use crate::world::World;
use bloctrain_proto::convert::from_json;
use bloctrain_proto::dial::{DialError, Dialer};
use bloctrain_proto::v1::worker_service_server::WorkerService;
use bloctrain_proto::v1::{
    CompleteRequest, CompleteResponse, HeartbeatRequest, HeartbeatResponse, LeaseRequest, LeaseResponse, LeaveRequest,
    LeaveResponse, RegisterRequest, RegisterResponse,
};
use bloctrain_session::transport::{Calls, Transport};
use bloctrain_shared::task::Report;
use futures::future::BoxFuture;
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The way of one process to the coordinators: the real dialer chooses the address.
pub(crate) struct Wire {
    pub(crate) world: World,
    pub(crate) name: String,
    pub(crate) dialer: Dialer,
}

/// A way to one coordinator.
#[derive(Clone)]
pub(crate) struct Link {
    world: World,
    from: String,
    to: String,
}

impl Transport for Wire {
    type Calls = Link;

    async fn connect(&mut self) -> Result<Link, DialError> {
        let address = self.dialer.next_address().await?;
        Ok(Link { world: self.world.clone(), from: self.name.clone(), to: name_of(&address).to_owned() })
    }

    fn dialer(&mut self) -> &mut Dialer {
        &mut self.dialer
    }
}

/// Calls one method of the worker service.
macro_rules! method {
    ($way:expr, $limit:expr, $request:expr, $method:ident) => {{
        let request = $request;
        let handler = move |server: Server| {
            let request = request.clone();
            let call = async move { server.workers.$method(Request::new(request)).await.map(Response::into_inner) };
            Box::pin(call) as BoxFuture<'static, _>
        };
        call(&$way.world, &$way.from, &$way.to, $limit, stringify!($method), Arc::new(handler)).await
    }};
}

impl Calls for Link {
    async fn register(&mut self, limit: Duration, request: RegisterRequest) -> Result<RegisterResponse, Status> {
        let mut answer: RegisterResponse = method!(self, limit, request, register)?;
        if self.world.bug == Some(Bug::Unwatched) {
            answer.stall_ms = 0;
        }
        Ok(answer)
    }

    async fn lease(&mut self, limit: Duration, request: LeaseRequest) -> Result<LeaseResponse, Status> {
        method!(self, limit, request, lease)
    }

    async fn heartbeat(&mut self, limit: Duration, request: HeartbeatRequest) -> Result<HeartbeatResponse, Status> {
        method!(self, limit, request, heartbeat)
    }

    async fn complete(&mut self, limit: Duration, request: CompleteRequest) -> Result<CompleteResponse, Status> {
        let (run, report) = (request.run.clone(), from_json::<Report>(&request.report_json));
        // What the first block makes rests on nothing that is made again.
        if self.world.scenario.is_differing && report.as_ref().is_ok_and(|report| report.task.block > 1) {
            self.world.network().keep(request.clone());
        }
        let answer = method!(self, limit, request, complete);
        if let (Ok(_), Ok(report)) = (&answer, report) {
            self.world.oracle().acknowledged(&run, &report);
        }
        answer
    }

    async fn leave(&mut self, limit: Duration, request: LeaveRequest) -> Result<LeaveResponse, Status> {
        method!(self, limit, request, leave)
    }
}

/// Something on the way delivers copies of earlier reports again, some a second for some minutes: what they worked from
/// may have been made again meanwhile, and their tasks may be open again.
pub(crate) async fn replay(world: World) {
    const COPIES: usize = 1_000;
    for _ in 0..COPIES {
        world.pause(world.draw("replay", |rng| rng.random_range(20..400))).await;
        let (reports, servers) = world.network().kept();
        let chosen = world.draw("replay", |rng| Some((reports.choose(rng)?.clone(), servers.choose(rng)?.clone())));
        let Some((report, to)) = chosen else { continue };
        let handler = move |server: Server| -> BoxFuture<'static, Result<CompleteResponse, Status>> {
            let report = report.clone();
            Box::pin(async move { server.workers.complete(Request::new(report)).await.map(Response::into_inner) })
        };
        deliver(world.clone(), "a proxy".into(), to, Arc::new(handler), None).await;
    }
}
