//! KEDA's protocol: how many workers there should be.
//!
//! A pool of workers asks by the metadata of its ScaledObject. The metric is the number of tasks that its workers could
//! do or do already; a coordinator that stands by answers from the store, since KEDA asks any of them.

use super::{Gate, refused};
use crate::open::read_overview;
use crate::schedule::{Demand, Overview};
use bloctrain_operations::metric::float;
use bloctrain_proto::externalscaler::external_scaler_server::ExternalScaler;
use bloctrain_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use bloctrain_proto::status::{Kind, status};
use bloctrain_shared::plan::BACKENDS;
use bloctrain_store::Artefacts;
use futures::Stream;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Name of the metric.
const METRIC: &str = "bloctrain-tasks";

/// Pause between looks of an open stream.
const LOOK: Duration = Duration::from_secs(2);

/// How long what was seen counts as how things stand.
const FRESH: Duration = Duration::from_secs(1);

/// Streams that may be open at once: one of a pool.
const MAX_STREAMS: usize = 64;

/// Keys of the metadata that are KEDA's own.
const OF_KEDA: [&str; 3] = ["scalerAddress", "enableTLS", "unsafeSsl"];

/// A pool of workers, as its ScaledObject describes it.
#[derive(Debug, Clone, PartialEq)]
struct Pool {
    /// The backend of its workers.
    backend: String,
    /// Whether it also works on runs whose backend is still open.
    takes_any: bool,
    /// Tasks that one worker is for.
    tasks_per_worker: f64,
    /// Share of the tasks that is this pool's, where several have the same backend.
    share: f64,
}

impl Pool {
    fn read(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let wrong = |key: &str, value: &str, wanted: &str| {
            status(Kind::Invalid, format!("`{key}` of the trigger's metadata is `{value}`; it must be {wanted}"))
        };
        let mut pool = Self { backend: String::new(), takes_any: false, tasks_per_worker: 1.0, share: 1.0 };
        for (key, value) in metadata {
            let number = |is_good: fn(f64) -> bool, wanted: &str| {
                value.parse::<f64>().ok().filter(|number| is_good(*number)).ok_or_else(|| wrong(key, value, wanted))
            };
            match key.as_str() {
                "backend" => value.clone_into(&mut pool.backend),
                "takesAny" => pool.takes_any = value.parse().map_err(|_| wrong(key, value, "true or false"))?,
                "tasksPerWorker" => {
                    pool.tasks_per_worker = number(|tasks| (1.0..=1e6).contains(&tasks), "a number of at least 1")?;
                }
                "share" => pool.share = number(|share| share > 0.0 && share <= 1.0, "a number above 0, at most 1")?,
                key if OF_KEDA.contains(&key) => {}
                key => {
                    let known = "known are backend, takesAny, tasksPerWorker and share";
                    return Err(status(
                        Kind::Invalid,
                        format!("`{key}` of the trigger's metadata is not known; {known}"),
                    ));
                }
            }
        }
        if BACKENDS.contains(&pool.backend.as_str()) {
            Ok(pool)
        } else {
            Err(wrong("backend", &pool.backend, "cpu, cuda or wgpu"))
        }
    }

    fn may_do(&self, demand: &Demand) -> bool {
        demand.backend.as_ref().map_or(self.takes_any, |backend| *backend == self.backend)
    }

    /// Tasks that are this pool's: those that wait and those that are worked on.
    fn tasks(&self, overview: &Overview) -> f64 {
        let own = overview.demand.iter().filter(|demand| self.may_do(demand));
        let tasks: usize = own.map(|demand| demand.waiting + demand.running).sum();
        float(tasks as u64) * self.share
    }
}

/// When something was looked at, and what was seen.
type Seen = Option<(Instant, Arc<Overview>)>;

/// The scaler.
#[derive(Clone)]
pub(crate) struct ScalerRpc {
    gate: Gate,
    artefacts: Artefacts,
    streams: Arc<Semaphore>,
    /// Callers show no token, so they share a look, and nobody can ask the store too often.
    seen: Arc<Mutex<Seen>>,
}

impl ScalerRpc {
    /// The scaler behind a gate; while that is closed, it reads the store.
    pub(crate) fn new(gate: Gate, artefacts: Artefacts) -> Self {
        Self { gate, artefacts, streams: Arc::new(Semaphore::new(MAX_STREAMS)), seen: Arc::default() }
    }

    async fn overview(&self) -> Result<Arc<Overview>, Status> {
        let mut seen = self.seen.lock().await;
        if let Some((_, overview)) = seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(overview));
        }
        let overview = Arc::new(self.look().await?);
        *seen = Some((Instant::now(), Arc::clone(&overview)));
        Ok(overview)
    }

    async fn look(&self) -> Result<Overview, Status> {
        match self.gate.active() {
            Ok(active) => active.handle.overview().await.map_err(|error| refused(&error)),
            Err(_) => {
                let read = Box::pin(read_overview(&self.artefacts)).await;
                read.map_err(|error| status(Kind::Unavailable, error.to_string()))
            }
        }
    }

    async fn tasks(&self, pool: &Pool) -> Result<f64, Status> {
        let overview = self.overview().await?;
        Ok(pool.tasks(&overview))
    }
}

#[tonic::async_trait]
impl ExternalScaler for ScalerRpc {
    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let pool = Pool::read(&request.into_inner().scaler_metadata)?;
        Ok(Response::new(IsActiveResponse { result: self.tasks(&pool).await? > 0.0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let pool = Pool::read(&request.into_inner().scaler_metadata)?;
        let full = |_| status(Kind::Exhausted, format!("{MAX_STREAMS} pools are watched already"));
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(full)?;
        let (sender, receiver) = mpsc::channel(4);
        let own = self.clone();
        tokio::spawn(async move {
            follow(own, pool, sender).await;
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let pool = Pool::read(&request.into_inner().scaler_metadata)?;
        // It is at most a million.
        let target_size = pool.tasks_per_worker as i64;
        let spec = MetricSpec { metric_name: METRIC.into(), target_size, target_size_float: pool.tasks_per_worker };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        if metric_name != METRIC {
            return Err(status(Kind::Invalid, format!("`{metric_name}` is no metric of this scaler; it has {METRIC}")));
        }
        let pool = Pool::read(&scaled_object_ref.unwrap_or_default().scaler_metadata)?;
        let metric_value_float = self.tasks(&pool).await?;
        let metric_value = metric_value_float.ceil() as i64;
        let value = MetricValue { metric_name, metric_value, metric_value_float };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// Says whether there are tasks now, and whenever that changes, until the watcher goes away.
async fn follow(scaler: ScalerRpc, pool: Pool, sender: mpsc::Sender<Result<IsActiveResponse, Status>>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = sender.closed() => return,
        }
        match scaler.tasks(&pool).await.map(|tasks| tasks > 0.0) {
            Ok(result) if said == Some(result) => {}
            Ok(result) => {
                said = Some(result);
                if sender.send(Ok(IsActiveResponse { result })).await.is_err() {
                    return;
                }
            }
            Err(status) => {
                // KEDA opens another stream; it may be gone already.
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pool_counts_its_own_tasks() {
        let demand = |backend: Option<&str>, waiting, running| Demand {
            run: "r".into(),
            backend: backend.map(str::to_owned),
            waiting,
            running,
            missing: None,
        };
        let demand = vec![demand(Some("cuda"), 4, 2), demand(Some("cpu"), 1, 0), demand(None, 1, 0)];
        let overview = Overview { demand, ..Overview::default() };
        let tasks = |pairs: &[(&str, &str)]| Pool::read(&metadata(pairs)).expect("a pool").tasks(&overview);
        assert_eq!(tasks(&[("backend", "cuda"), ("scalerAddress", "host:7070")]), 6.0);
        assert_eq!(tasks(&[("backend", "cuda"), ("share", "0.25")]), 1.5);
        assert_eq!(tasks(&[("backend", "cpu")]), 1.0);
        assert_eq!(tasks(&[("backend", "cpu"), ("takesAny", "true")]), 2.0);
        assert_eq!(tasks(&[("backend", "wgpu")]), 0.0);
    }

    #[test]
    fn metadata_that_makes_no_sense_is_named() {
        for (pairs, named) in [
            (&[][..], "backend"),
            (&[("backend", "tpu")], "tpu"),
            (&[("backend", "cpu"), ("tasksPerWorker", "0")], "tasksPerWorker"),
            (&[("backend", "cpu"), ("share", "2")], "share"),
            (&[("backend", "cpu"), ("share", "NaN")], "share"),
            (&[("backend", "cpu"), ("takesAny", "maybe")], "takesAny"),
            (&[("backend", "cpu"), ("pool", "gpu")], "pool"),
        ] {
            let status = Pool::read(&metadata(pairs)).expect_err(named);
            assert!(status.code() == tonic::Code::InvalidArgument && status.message().contains(named), "{status:?}");
        }
    }
}
