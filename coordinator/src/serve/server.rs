//! The services of a coordinator on any kind of connection, with the limits that keep one client from harming others.

use super::guard::{Guard, OpenDoor};
use super::refusal::LogRefusals;
use super::rpc::{Gate, RunRpc, ScalerRpc, WorkerRpc};
use super::secret::Secrets;
pub use super::tls::{Tls, TlsError};
use crate::drive::counters::Counters;
use bloctrain_proto::externalscaler::external_scaler_server::ExternalScalerServer;
use bloctrain_proto::v1::run_service_server::RunServiceServer;
use bloctrain_proto::v1::worker_service_server::WorkerServiceServer;
use bloctrain_proto::{DESCRIPTORS, MESSAGE_LIMIT, SCALER_DESCRIPTORS};
use bloctrain_store::Artefacts;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity as Nothing, Stack};

/// Calls of one connection that are worked on at once; more are turned away.
const CALLS: usize = 256;

/// Pause between HTTP/2 pings, and the longest wait for their answer.
const PING: Duration = Duration::from_secs(3);

/// Names of the services in health checks, apart from the empty one, which says only that the process is alive.
const SERVICES: [&str; 2] = ["bloctrain.v1.WorkerService", "bloctrain.v1.RunService"];

/// Says in health checks whether this coordinator is active.
pub(crate) async fn set_active(health: &HealthReporter, active: bool) {
    let serving = if active { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        health.set_service_status(service, serving).await;
    }
}

/// What surrounds every service.
pub(crate) type Layers = Stack<LogRefusals, Nothing>;

/// All services behind a gate. Certificates are the business of whoever takes the connections.
pub(crate) async fn router(
    gate: &Gate,
    secrets: &watch::Receiver<Secrets>,
    artefacts: &Artefacts,
    counters: &Arc<Counters>,
) -> (Router<Layers>, HealthReporter) {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_active(&health, false).await;
    let workers = WorkerServiceServer::new(WorkerRpc::new(gate.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let runs = RunServiceServer::new(RunRpc::new(gate.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(SCALER_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were encoded when this was compiled");
    let mut server = Server::builder()
        .concurrency_limit_per_connection(CALLS)
        .load_shed(true)
        .max_concurrent_streams(u32::try_from(CALLS).ok())
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .http2_max_header_list_size(16 << 10)
        .layer(LogRefusals);
    let scaler = ExternalScalerServer::new(ScalerRpc::new(gate.clone(), artefacts.clone()));
    let people = Guard::people(secrets.clone(), Arc::clone(counters));
    let router = server
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, people.clone()))
        .add_service(InterceptedService::new(workers, Guard::workers(secrets.clone(), Arc::clone(counters))))
        .add_service(InterceptedService::new(scaler, OpenDoor))
        .add_service(InterceptedService::new(runs, people));
    (router, health)
}
