//! Runs: lists, one of them, its epochs, exits and log, and orders.

use super::Site;
use super::answer::{Answer, Problem, json};
use super::form::{LogLine, RunNow, RunRow};
use super::package::{self, CURVE};
use super::person::Person;
use crate::drive::DriverError;
use crate::run::detail::RunDetail;
use crate::schedule::Rejected;
use crate::serve::rpc::{MAX_PAGE, short};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bloctrain_proto::v1::run_service_server::RunService;
use bloctrain_proto::v1::{CancelRunRequest, DeleteRunRequest, PauseRunRequest, ResumeRunRequest};
use bloctrain_shared::curve::Curve;
use bloctrain_shared::key::MODEL_SAMPLES;
use bloctrain_shared::sample::Samples;
use bloctrain_store::StoreError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json as object;
use std::sync::Arc;
use tonic::Request;

/// Which page of a list is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    /// The run after which it begins.
    #[serde(default)]
    after: String,
    /// Most runs.
    #[serde(default)]
    limit: usize,
}

/// Runs by id, a page of them.
pub(super) async fn list(State(site): State<Arc<Site>>, Query(Page { after, limit }): Query<Page>) -> Answer {
    short("after", &after)?;
    let most = if limit == 0 { MAX_PAGE } else { limit.min(MAX_PAGE) };
    // One more says whether there is another page.
    let mut views = site.gate.active()?.handle.briefs(&after, most + 1).await?;
    let has_more = views.len() > most;
    views.truncate(most);
    let next = views.last().map(|view| view.run.clone()).filter(|_| has_more);
    let rows: Vec<RunRow> = views.into_iter().map(RunRow::new).collect();
    Ok(json(&object!({ "runs": rows, "next": next })))
}

fn unknown(run: &str) -> Problem {
    DriverError::from(Rejected::UnknownRun(run.to_owned())).into()
}

fn unread(error: &StoreError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn detail(site: &Site, run: &str) -> Result<RunDetail, Problem> {
    short("run", run)?;
    site.gate.active()?.handle.detail(run).await?.ok_or_else(|| unknown(run))
}

/// One run.
pub(super) async fn look(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    let detail = detail(&site, &run).await?;
    let view = site.gate.active()?.handle.view(&run).await?.ok_or_else(|| unknown(&run))?;
    Ok(json(&object!({ "run": RunNow::new(view), "detail": detail })))
}

/// Its epochs.
pub(super) async fn history(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    short("run", &run)?;
    let lines = site.gate.active()?.handle.history(&run).await?.ok_or_else(|| unknown(&run))?;
    Ok(json(&object!({ "lines": lines })))
}

/// Accuracy against compute.
pub(super) async fn curve(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    let found: Option<Curve> = packaged(&site, &run, CURVE).await?;
    let none =
        || Problem::new(StatusCode::NOT_FOUND, format!("run {run} has no curve yet: it is made when a run completes"));
    Ok(json(&found.ok_or_else(none)?))
}

/// Test images of every exit.
pub(super) async fn samples(State(site): State<Arc<Site>>, Path(run): Path<String>) -> Answer {
    let found: Option<Samples> = packaged(&site, &run, MODEL_SAMPLES).await?;
    let none = || {
        let why = "they are picked when a run completes, and programs of before picked none";
        Problem::new(StatusCode::NOT_FOUND, format!("run {run} has no samples: {why}"))
    };
    Ok(json(&found.ok_or_else(none)?))
}

/// A file of the package of a run.
async fn packaged<T: DeserializeOwned>(site: &Site, run: &str, file: &str) -> Result<Option<T>, Problem> {
    detail(site, run).await?;
    package::read(&site.gate.active()?.artefacts, run, file).await.map_err(|error| unread(&error))
}

/// Which lines are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    /// Number of the first.
    #[serde(default)]
    from: u64,
}

/// What happened to it.
pub(super) async fn log(
    State(site): State<Arc<Site>>,
    Path(run): Path<String>,
    Query(Since { from }): Query<Since>,
) -> Answer {
    detail(&site, &run).await?;
    let lines = site.gate.active()?.handle.journal().since(&run, from);
    let lines: Vec<LogLine> = lines.into_iter().map(LogLine::new).collect();
    Ok(json(&object!({ "lines": lines })))
}

/// A request of a role to the service that takes orders.
fn of<T>(person: Person, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(person.role);
    request
}

/// An order to a run.
pub(super) async fn order(
    State(site): State<Arc<Site>>,
    Extension(person): Extension<Person>,
    Path((run, order)): Path<(String, String)>,
) -> Answer {
    let orders = &site.orders;
    match order.as_str() {
        "pause" => orders.pause_run(of(person, PauseRunRequest { run })).await.map(drop)?,
        "resume" => orders.resume_run(of(person, ResumeRunRequest { run })).await.map(drop)?,
        "cancel" => orders.cancel_run(of(person, CancelRunRequest { run })).await.map(drop)?,
        "delete" => orders.delete_run(of(person, DeleteRunRequest { run })).await.map(drop)?,
        _ => return Err(Problem::new(StatusCode::NOT_FOUND, "an order is one of pause, resume, cancel and delete")),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
