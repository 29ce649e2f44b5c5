//! What people and programs say about runs.

use super::gate::{Active, Gate};
use super::{malformed, refused, short};
use crate::drive::{Handle, verify};
use crate::schedule::{Event, Lost, Rejected, admission};
use crate::serve::access::operator;
use bloctrain_proto::convert::{from_json, to_json};
use bloctrain_proto::status::{Kind, status};
use bloctrain_proto::v1::run_service_server::RunService;
use bloctrain_proto::v1::{
    CancelRunRequest, CancelRunResponse, DeleteRunRequest, DeleteRunResponse, GetFleetRequest, GetFleetResponse,
    GetHistoryRequest, GetHistoryResponse, GetRunRequest, GetRunResponse, GetStatusRequest, GetStatusResponse,
    ListRunsRequest, ListRunsResponse, ListWorkersRequest, ListWorkersResponse, PauseRunRequest, PauseRunResponse,
    ResumeRunRequest, ResumeRunResponse, StreamLogRequest, StreamLogResponse, SubmitRequest, SubmitResponse,
    WatchRunRequest, WatchRunResponse,
};
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Submission};
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Longest submission.
const MAX_SUBMISSION: usize = 1 << 20;

/// Most runs in a page of a listing.
pub(crate) const MAX_PAGE: usize = 100;

/// Most lines in a page of a history.
const MAX_LINES: usize = 4_096;

/// Bytes of a page: far below what a message may have.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// Streams that may be open at once.
const MAX_STREAMS: usize = 1_024;

/// The run service.
pub struct RunRpc {
    gate: Gate,
    streams: Arc<Semaphore>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl RunRpc {
    /// The service behind a gate.
    pub fn new(gate: Gate) -> Self {
        Self { gate, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    async fn view(&self, run: &str) -> Result<RunView, Status> {
        short("run", run)?;
        let view = self.gate.active()?.handle.view(run).await.map_err(|error| refused(&error))?;
        view.ok_or_else(|| refused(&Rejected::UnknownRun(run.to_owned()).into()))
    }

    fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full = |_| status(Kind::Exhausted, format!("{MAX_STREAMS} streams are open already"));
        Arc::clone(&self.streams).try_acquire_owned().map_err(full)
    }

    async fn order(&self, run: &str, event: Event) -> Result<(), Status> {
        short("run", run)?;
        self.gate.active()?.handle.apply(event).await.map(|_| ()).map_err(|error| refused(&error))
    }
}

#[tonic::async_trait]
impl RunService for RunRpc {
    type WatchRunStream = Answers<WatchRunResponse>;
    type StreamLogStream = Answers<StreamLogResponse>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        operator(&request)?;
        let Active { handle, artefacts, .. } = self.gate.active()?;
        let text = request.into_inner().submission_json;
        if text.len() > MAX_SUBMISSION {
            return Err(status(Kind::Invalid, format!("the submission has more than {MAX_SUBMISSION} bytes")));
        }
        let submission: Submission = from_json(&text).map_err(|error| malformed(&error))?;
        // What is refused leaves no object behind.
        let run = admission::plan(&submission).map_err(|rejected| refused(&rejected.into()))?.run;
        let bytes = Bytes::from(to_json(&submission));
        let object = artefacts.put(&key::spec(&run, Digest::of(&bytes)), bytes).await;
        let object = object.map_err(|error| status(Kind::Internal, error.to_string()))?;
        handle
            .apply(Event::Submitted { submission: Box::new(submission), object })
            .await
            .map_err(|error| refused(&error))?;
        if handle
            .view(&run)
            .await
            .map_err(|error| refused(&error))?
            .is_some_and(|view| view.state == RunState::Completed)
        {
            let lost =
                verify::package(artefacts, &run).await.map_err(|error| status(Kind::Internal, error.to_string()))?;
            if let Some(Lost { key, problem }) = lost {
                let event = Event::PackageLost { run: run.clone(), key, problem };
                handle.apply(event).await.map_err(|error| refused(&error))?;
            }
        }
        Ok(Response::new(SubmitResponse { run }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<GetRunResponse>, Status> {
        let view = self.view(&request.into_inner().run).await?;
        Ok(Response::new(GetRunResponse { view_json: to_json(&view) }))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<GetHistoryResponse>, Status> {
        let GetHistoryRequest { run, skip } = request.into_inner();
        short("run", &run)?;
        let lines = self.gate.active()?.handle.history(&run).await.map_err(|error| refused(&error))?;
        let lines = lines.ok_or_else(|| refused(&Rejected::UnknownRun(run).into()))?;
        let (mut line_json, mut bytes) = (Vec::new(), 0);
        let skip = skip as usize;
        for line in lines.iter().skip(skip).take(MAX_LINES) {
            let json = to_json(line);
            bytes += json.len();
            if bytes > MAX_PAGE_BYTES && !line_json.is_empty() {
                break;
            }
            line_json.push(json);
        }
        let shown = skip + line_json.len();
        let next = if shown < lines.len() { u32::try_from(shown).unwrap_or(0) } else { 0 };
        Ok(Response::new(GetHistoryResponse { line_json, next }))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let ListRunsRequest { page_size, after } = request.into_inner();
        short("after", &after)?;
        let most = if page_size == 0 { MAX_PAGE } else { (page_size as usize).min(MAX_PAGE) };
        // One more says whether there is another page.
        let views = self.gate.active()?.handle.views(&after, most + 1).await.map_err(|error| refused(&error))?;
        let (mut view_json, mut bytes, mut next) = (Vec::new(), 0, String::new());
        for view in views {
            let json = to_json(&view);
            bytes += json.len();
            // However large its runs are, a page has one.
            if view_json.len() >= most || (bytes > MAX_PAGE_BYTES && !view_json.is_empty()) {
                return Ok(Response::new(ListRunsResponse { view_json, next }));
            }
            view_json.push(json);
            next = view.run;
        }
        Ok(Response::new(ListRunsResponse { view_json, next: String::new() }))
    }

    async fn watch_run(&self, request: Request<WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        let run = request.into_inner().run;
        let (first, permit) = (self.view(&run).await?, self.stream()?);
        let (sender, receiver) = mpsc::channel(4);
        let handle = self.gate.active()?.handle.clone();
        tokio::spawn(async move {
            watch(handle, run, first, sender).await;
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunResponse>, Status> {
        operator(&request)?;
        let run = request.into_inner().run;
        self.order(&run, Event::Cancelled { run: run.clone() }).await?;
        Ok(Response::new(CancelRunResponse {}))
    }

    async fn pause_run(&self, request: Request<PauseRunRequest>) -> Result<Response<PauseRunResponse>, Status> {
        operator(&request)?;
        let run = request.into_inner().run;
        self.order(&run, Event::Paused { run: run.clone() }).await?;
        Ok(Response::new(PauseRunResponse {}))
    }

    async fn resume_run(&self, request: Request<ResumeRunRequest>) -> Result<Response<ResumeRunResponse>, Status> {
        operator(&request)?;
        let run = request.into_inner().run;
        self.order(&run, Event::Resumed { run: run.clone() }).await?;
        Ok(Response::new(ResumeRunResponse {}))
    }

    async fn delete_run(&self, request: Request<DeleteRunRequest>) -> Result<Response<DeleteRunResponse>, Status> {
        operator(&request)?;
        let run = request.into_inner().run;
        self.order(&run, Event::Deleted { run: run.clone() }).await?;
        Ok(Response::new(DeleteRunResponse {}))
    }

    async fn stream_log(&self, request: Request<StreamLogRequest>) -> Result<Response<Self::StreamLogStream>, Status> {
        let StreamLogRequest { run, follow } = request.into_inner();
        self.view(&run).await?;
        let (handle, permit) = (self.gate.active()?.handle.clone(), self.stream()?);
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            log(handle, run, follow, sender).await;
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_workers(
        &self,
        _request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let workers = self.gate.active()?.handle.workers().await.map_err(|error| refused(&error))?;
        Ok(Response::new(ListWorkersResponse { worker_json: workers.iter().map(to_json).collect() }))
    }

    async fn get_status(&self, _request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let counters = self.gate.active()?.handle.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Response::new(GetStatusResponse {
            workers: read(&counters.workers),
            workers_waiting: read(&counters.workers_waiting),
            leases: read(&counters.leases),
            runs: read(&counters.runs),
            connections: read(&counters.connections),
            workers_registered: read(&counters.workers_registered),
            leases_granted: read(&counters.leases_granted),
            leases_adopted: read(&counters.leases_adopted),
            leases_lost: read(&counters.leases_lost),
            records_persisted: read(&counters.records_persisted),
            groups_persisted: read(&counters.groups_persisted),
            persist_us: read(&counters.persist_us),
            busy_us: read(&counters.busy_us),
            events_rejected: read(&counters.events_rejected),
            calls_unauthorised: read(&counters.calls_unauthorised),
            connections_refused: read(&counters.connections_refused),
        }))
    }

    async fn get_fleet(&self, _request: Request<GetFleetRequest>) -> Result<Response<GetFleetResponse>, Status> {
        let store = self.gate.active()?.store.clone();
        Ok(Response::new(GetFleetResponse { store, arithmetic: ARITHMETIC_VERSION }))
    }
}

fn goes_on(view: &RunView) -> bool {
    view.state.is_live()
}

/// Sends a run's view after every change until the run ends, the watcher goes away or the coordinator stops.
async fn watch(handle: Handle, run: String, first: RunView, sender: mpsc::Sender<Result<WatchRunResponse, Status>>) {
    let mut changes = handle.changes();
    let mut view = first;
    let mut sent: Option<RunView> = None;
    loop {
        if sent.as_ref() != Some(&view) {
            if sender.send(Ok(WatchRunResponse { view_json: to_json(&view) })).await.is_err() || !goes_on(&view) {
                return;
            }
            sent = Some(view);
        }
        let changed = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = sender.closed() => return,
        };
        match handle.view(&run).await {
            Ok(Some(next)) if changed => view = next,
            Ok(_) => return,
            Err(error) => {
                // The watcher may be gone too; then nobody needs to know.
                let _ = sender.send(Err(refused(&error))).await;
                return;
            }
        }
    }
}

/// Sends the lines of a run's log; with `follow`, until the run ends.
async fn log(handle: Handle, run: String, follow: bool, sender: mpsc::Sender<Result<StreamLogResponse, Status>>) {
    let mut changes = handle.changes();
    let mut next = 0;
    loop {
        let view = handle.view(&run).await;
        for line in handle.journal().since(&run, next) {
            next = line.number + 1;
            if sender.send(Ok(StreamLogResponse { at_ms: line.at_ms, line: line.text })).await.is_err() {
                return;
            }
        }
        match view {
            Ok(Some(view)) if follow && goes_on(&view) => {}
            Ok(_) => return,
            Err(error) => {
                let _ = sender.send(Err(refused(&error))).await;
                return;
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}
