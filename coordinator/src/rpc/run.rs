//! What people and programs say about runs.

use super::{malformed, refused};
use crate::driver::Handle;
use crate::run::{Event, Rejected};
use bloctrain_proto::convert::{from_json, to_json};
use bloctrain_proto::status::{Kind, status};
use bloctrain_proto::v1::run_service_server::RunService;
use bloctrain_proto::v1::{
    CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, ListRunsRequest, ListRunsResponse, SubmitRequest,
    SubmitResponse, WatchRunRequest, WatchRunResponse,
};
use bloctrain_shared::key;
use bloctrain_shared::plan::Submission;
use bloctrain_shared::view::{RunState, RunView};
use bloctrain_store::Artefacts;
use bytes::Bytes;
use futures::Stream;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The run service.
pub(crate) struct RunRpc {
    handle: Handle,
    artefacts: Artefacts,
}

impl RunRpc {
    /// The service on a driver and the store that its runs live in.
    pub(crate) fn new(handle: Handle, artefacts: Artefacts) -> Self {
        Self { handle, artefacts }
    }

    async fn view(&self, run: &str) -> Result<RunView, Status> {
        let view = self.handle.view(run).await.map_err(|error| refused(&error))?;
        view.ok_or_else(|| refused(&Rejected::UnknownRun(run.to_owned()).into()))
    }
}

#[tonic::async_trait]
impl RunService for RunRpc {
    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let submission: Submission = from_json(&request.into_inner().submission_json).map_err(|error| malformed(&error))?;
        let run = submission.run_id();
        let bytes = Bytes::from(to_json(&submission));
        let object =
            self.artefacts.put(&key::spec(&run), bytes).await.map_err(|error| status(Kind::Internal, error.to_string()))?;
        self.handle
            .apply(Event::Submitted { submission: Box::new(submission), object })
            .await
            .map_err(|error| refused(&error))?;
        Ok(Response::new(SubmitResponse { run }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<GetRunResponse>, Status> {
        let view = self.view(&request.into_inner().run).await?;
        Ok(Response::new(GetRunResponse { view_json: to_json(&view) }))
    }

    async fn list_runs(&self, _request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let views = self.handle.views().await.map_err(|error| refused(&error))?;
        Ok(Response::new(ListRunsResponse { view_json: views.iter().map(to_json).collect() }))
    }

    async fn watch_run(&self, request: Request<WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        let run = request.into_inner().run;
        let first = self.view(&run).await?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(watch(self.handle.clone(), run, first, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunResponse>, Status> {
        self.handle.apply(Event::Cancelled { run: request.into_inner().run }).await.map_err(|error| refused(&error))?;
        Ok(Response::new(CancelRunResponse {}))
    }
}

/// Sends a run's view after every change until the run ends, the watcher goes away or the coordinator stops.
async fn watch(handle: Handle, run: String, first: RunView, sender: mpsc::Sender<Result<WatchRunResponse, Status>>) {
    let mut changes = handle.changes();
    let mut view = first;
    loop {
        if sender.send(Ok(WatchRunResponse { view_json: to_json(&view) })).await.is_err() || view.state != RunState::Running {
            return;
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
