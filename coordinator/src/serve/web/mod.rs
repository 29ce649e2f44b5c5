//! The HTTP address for people: a JSON API below `/api/v1`, live events, and the dashboard, which reads nothing else.
//!
//! Decides nothing: answers are views of the state, orders go through the services that gRPC has ([`rpc`](super::rpc)),
//! tokens and roles are those of gRPC. Every request passes [`caller`]; `openapi.json` describes the API, and a test
//! compares it with answers. Metrics and health are served at the same address, by the crate `operations`.

mod answer;
mod caller;
mod door;
mod fleet;
mod form;
mod package;
mod page;
mod person;
mod run;
mod session;
mod stream;
mod topic;

use super::handshake::Current;
use super::rpc::{Gate, RunRpc};
use super::secret::Secrets;
use crate::drive::Clock;
use crate::drive::counters::Counters;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use bloctrain_operations::http::{Operated, router};
use bloctrain_operations::limit::{CONNECTIONS, Limited};
use door::{Door, Way};
use std::sync::Arc;
use stream::Streams;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the address answers from.
pub(super) struct Site {
    gate: Gate,
    /// The service that takes orders.
    orders: RunRpc,
    secrets: watch::Receiver<Secrets>,
    /// Whether there are certificates; decided at the start.
    has_tls: bool,
    counters: Arc<Counters>,
    clock: Clock,
    streams: Streams,
}

impl Site {
    pub(super) fn new(gate: Gate, secrets: watch::Receiver<Secrets>, counters: Arc<Counters>, clock: Clock) -> Self {
        let has_tls = secrets.borrow().tls.is_some();
        let orders = RunRpc::new(gate.clone());
        Self { gate, orders, secrets, has_tls, counters, clock, streams: Streams::default() }
    }

    /// The time in Unix seconds.
    fn seconds(&self) -> u64 {
        (self.clock)() / 1_000
    }
}

/// Serves metrics, health, the API and the dashboard until this future is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    certificates: Option<Current>,
    process: Arc<dyn Operated>,
    site: Site,
) {
    let router = router(process).merge(people(Arc::new(site)));
    let router = router.into_make_service_with_connect_info::<Way>();
    if let Err(error) = axum::serve(Door::new(Limited::new(listener, CONNECTIONS), certificates), router).await {
        tracing::warn!(%error, "the HTTP address is not served any more");
    }
}

fn people(site: Arc<Site>) -> Router {
    let api = Router::new()
        .route("/openapi.json", get(page::openapi))
        .route("/session", get(session::look).post(session::begin))
        .route("/session/end", post(session::end))
        .route("/runs", get(run::list))
        .route("/runs/{run}", get(run::look))
        .route("/runs/{run}/history", get(run::history))
        .route("/runs/{run}/curve", get(run::curve))
        .route("/runs/{run}/samples", get(run::samples))
        .route("/runs/{run}/log", get(run::log))
        .route("/runs/{run}/{order}", post(run::order))
        .route("/workers", get(fleet::workers))
        .route("/events", get(fleet::events))
        .route("/stream", get(stream::stream));
    Router::new()
        .nest("/api/v1", api)
        .route("/", get(page::index))
        .route("/assets/{*file}", get(page::asset))
        .fallback(page::nothing)
        .layer(from_fn_with_state(Arc::clone(&site), caller::admit))
        .with_state(site)
}
