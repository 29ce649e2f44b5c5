//! The services of a coordinator on any kind of connection, with the limits that keep one client from harming others.

use super::access::{Access, Guard};
use super::refusal::LogRefusals;
use super::rpc::{Gate, RunRpc, WorkerRpc};
use crate::drive::counters::Counters;
use bloctrain_proto::v1::run_service_server::RunServiceServer;
use bloctrain_proto::v1::worker_service_server::WorkerServiceServer;
use bloctrain_proto::{DESCRIPTORS, MESSAGE_LIMIT};
use std::sync::Arc;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity as Nothing, Stack};

/// Calls of one connection that are worked on at once; more are turned away.
const CALLS: usize = 256;

/// Pause between HTTP/2 pings, and the longest wait for their answer.
const PING: Duration = Duration::from_secs(3);

/// Certificates of a coordinator, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// Its certificate, with those between it and the authority.
    pub certificate: Vec<u8>,
    /// The key of the certificate.
    pub key: Vec<u8>,
    /// Authority that every client's certificate must come from (mutual TLS).
    pub client_ca: Option<Vec<u8>>,
}

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

/// All services behind a gate.
///
/// # Errors
/// When the certificates cannot be used.
pub(crate) async fn router(
    gate: &Gate,
    access: Access,
    tls: Option<Tls>,
    counters: &Arc<Counters>,
) -> Result<(Router<Layers>, HealthReporter), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_active(&health, false).await;
    let access = Arc::new(access);
    let workers = WorkerServiceServer::new(WorkerRpc::new(gate.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let runs = RunServiceServer::new(RunRpc::new(gate.clone())).max_decoding_message_size(MESSAGE_LIMIT);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
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
    if let Some(tls) = tls {
        let mut config =
            ServerTlsConfig::new().identity(Identity::from_pem(&tls.certificate, &tls.key)).timeout(Duration::from_secs(5));
        if let Some(ca) = &tls.client_ca {
            config = config.client_ca_root(Certificate::from_pem(ca));
        }
        server = server.tls_config(config)?;
    }
    let people = Guard::people(Arc::clone(&access), Arc::clone(counters));
    let router = server
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, people.clone()))
        .add_service(InterceptedService::new(workers, Guard::workers(access, Arc::clone(counters))))
        .add_service(InterceptedService::new(runs, people));
    Ok((router, health))
}
