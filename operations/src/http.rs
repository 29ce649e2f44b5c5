//! The HTTP address of a process: metrics, and health for probes. Plain HTTP, without tokens: it tells counts, no
//! secrets.
//!
//! | path | answers |
//! |---|---|
//! | `/health/live` | 200 as long as the process answers at all |
//! | `/health/ready` | 200 when the process can do its part, else 503 with the reason |
//! | `/health/active` | 200 when it does its part now: the active coordinator, a registered worker; else 503 |
//! | `/metrics` | the metrics of `docs/metrics.md` |
//!
//! It takes [`CONNECTIONS`] at once; one more is answered with 503 and closed.

use crate::exposition::{self, MEDIA_TYPE, PLAIN_TYPE};
use crate::limit::{CONNECTIONS, Limited};
use crate::metric::{self, Sample};
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A question to a process, answered with yes or the reason why not.
pub type Answer = Result<(), String>;

/// A process that is looked after.
pub trait Operated: Send + Sync + 'static {
    /// Whether it can do its part.
    fn ready(&self) -> Answer;

    /// Whether it does its part now.
    fn active(&self) -> Answer {
        self.ready()
    }

    /// How things stand.
    fn samples(&self) -> BoxFuture<'_, Vec<Sample>>;
}

type Process = Arc<dyn Operated>;

/// The paths of a process.
pub fn router(process: Process) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/active", get(active))
        .route("/metrics", get(metrics))
        .with_state(process)
}

/// Serves a process's paths until this future is dropped.
pub async fn serve(listener: TcpListener, process: Process) {
    if let Err(error) = axum::serve(Limited::new(listener, CONNECTIONS), router(process)).await {
        tracing::warn!(%error, "metrics and health are not served any more");
    }
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(process): State<Process>) -> Response {
    answer(process.ready())
}

async fn active(State(process): State<Process>) -> Response {
    answer(process.active())
}

fn answer(answer: Answer) -> Response {
    match answer {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(process): State<Process>, headers: HeaderMap) -> Response {
    let mut samples = process.samples().await;
    samples.extend(resident().map(|bytes| metric::RESIDENT.is(bytes)));
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    if !accepted.into_iter().any(exposition::is_taken) {
        return ([(CONTENT_TYPE, PLAIN_TYPE)], exposition::plain(&samples)).into_response();
    }
    match exposition::text(samples) {
        Ok(text) => ([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Memory of this process in bytes, where the system says.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kib) * 1024.0)
}
