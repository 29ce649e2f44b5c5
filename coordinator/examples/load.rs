//! Load on one coordinator process: workers that speak the protocol over TCP and compute nothing. Linux only.
//!
//! `cargo run --release -p bloctrain-coordinator --example load -- WORKERS COMPLETIONS_PER_SECOND SECONDS [STORE]`
//!
//! Runs follow each other, so many at once that tasks are there all the time; when some are completed, the measurement
//! begins. Prints one line of JSON.

#![expect(clippy::disallowed_methods, reason = "what it measures is real time")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use bloctrain_coordinator::Config;
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::fleet::{CONNECTIONS, Fleet, serve};
use bloctrain_proto::convert::{from_grant, to_json};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::worker_service_client::WorkerServiceClient;
use bloctrain_proto::v1::{
    Command, CompleteRequest, Grant, HeartbeatRequest, LeaseRequest, RegisterRequest, SubmitRequest,
};
use bloctrain_shared::plan::{ARITHMETIC_VERSION, SHARD_SAMPLES};
use bloctrain_shared::task::{Report, Stage, Task};
use bloctrain_store::Artefacts;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

type Failed = Box<dyn Error + Send + Sync>;

const HEARTBEAT: Duration = Duration::from_secs(5);

/// Seconds for which the fleet has work in the export stage of one run.
const STAGE_SECONDS: f64 = 5.0;

/// Multiples of it are spread evenly between whole numbers.
const GOLDEN: f64 = 0.618_033_988_75;

/// Looks at the coordinator's memory.
const LOOKS: u32 = 10;

#[derive(Default)]
struct Seen {
    lease_ms: Vec<f64>,
    heartbeat_ms: Vec<f64>,
    complete_ms: Vec<f64>,
    /// Asks that got no task.
    in_vain: u64,
    completions: u64,
    finished: u64,
    missed: u64,
    failed: u64,
}

impl Seen {
    /// Forgets all but how many runs are finished, which it returns.
    fn begin_again(&mut self) -> u64 {
        *self = Self { finished: self.finished, ..Self::default() };
        self.finished
    }
}

type Book = Arc<Mutex<Seen>>;

fn note<R>(book: &Book, what: impl FnOnce(&mut Seen) -> R) -> R {
    what(&mut book.lock().unwrap_or_else(PoisonError::into_inner))
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The child: a coordinator as `bloctrain coordinator` runs it. It ends with its parent's pipe.
async fn coordinate(store: String) -> Result<(), Failed> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (stop, stopping) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = stop.send(true);
    });
    let config = Config { lease_ms: 15_000, heartbeat_ms: 5_000, settle_ms: 0, stall_ms: 0, inline_bytes: 1 << 20 };
    let artefacts = Artefacts::open(&store)?;
    let (addresses, access) = (Vec::new(), Access::default());
    let fleet =
        Fleet { listener, connections: CONNECTIONS as usize, addresses, store, access, tls: None, standby: false };
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis().try_into().unwrap_or(0));
    Ok(Box::pin(serve(config, fleet, artefacts, Arc::new(now), stopping)).await?)
}

struct Worker {
    calls: WorkerServiceClient<Channel>,
    id: u64,
}

impl Worker {
    async fn register(channel: Channel, number: usize, store: String) -> Result<Self, Failed> {
        let mut calls = WorkerServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let about = RegisterRequest {
            name: format!("w{number}"),
            backend: "cpu".into(),
            arithmetic: ARITHMETIC_VERSION,
            instance: format!("i{number}"),
            store,
            ..RegisterRequest::default()
        };
        let id = calls.register(about).await?.into_inner().worker;
        Ok(Self { calls, id })
    }

    async fn ask(&mut self) -> Result<Option<Grant>, Failed> {
        Ok(self.calls.lease(LeaseRequest { worker: self.id, wait_ms: 20_000 }).await?.into_inner().grant)
    }

    /// Reports; false when a backup attempt was faster.
    async fn complete(&mut self, task: &Task, lease_epoch: u64) -> Result<bool, Failed> {
        let report =
            Report { task: task.id, lease_epoch, seconds: 1.0, inputs: None, result: Ok(fleet::output(task, 1)) };
        let request = CompleteRequest { worker: self.id, run: task.run.clone(), report_json: to_json(&report) };
        match self.calls.complete(request).await {
            Err(status) if status.code() != tonic::Code::Aborted => Err(status.into()),
            answer => Ok(answer.is_ok()),
        }
    }

    /// Works until it is stopped; a task takes `work` on average, from half to one and a half of it: so workers that
    /// got a task at the same time do not come back together forever.
    async fn go(
        mut self,
        first: Duration,
        work: Duration,
        stop: watch::Receiver<bool>,
        book: Book,
    ) -> Result<(), Failed> {
        tokio::time::sleep(first).await;
        let mut turn = first.as_secs_f64();
        while !*stop.borrow() {
            let asked = Instant::now();
            let Some(grant) = self.ask().await? else {
                note(&book, |seen| seen.in_vain += 1);
                continue;
            };
            let waited = ms(asked);
            let of = grant.task.clone();
            let (task, lease_epoch) = from_grant(grant)?;
            note(&book, |seen| seen.lease_ms.push(waited));
            turn = (turn + GOLDEN).fract();
            let done = Instant::now() + work.mul_f64(0.5 + turn);
            while Instant::now() + HEARTBEAT < done {
                tokio::time::sleep(HEARTBEAT).await;
                let (run, progress_json) = (task.run.clone(), to_json(&bloctrain_shared::task::Progress::default()));
                let beat = HeartbeatRequest { worker: self.id, run, task: of.clone(), lease_epoch, progress_json };
                let sent = Instant::now();
                let answer = self.calls.heartbeat(beat).await?.into_inner();
                let drops = answer.command() == Command::Drop;
                note(&book, |seen| {
                    seen.heartbeat_ms.push(ms(sent));
                    seen.missed += u64::from(drops);
                });
            }
            tokio::time::sleep_until(done.into()).await;
            let reported = Instant::now();
            let committed = self.complete(&task, lease_epoch).await?;
            note(&book, |seen| {
                seen.complete_ms.push(ms(reported));
                seen.completions += u64::from(committed);
                seen.finished += u64::from(committed && task.id.stage == Stage::Finish);
            });
        }
        Ok(())
    }
}

/// Processor seconds and resident MiB of a process.
fn usage(process: u32) -> (f64, f64) {
    let text = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let ticks: f64 = text("stat")
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    let pages: f64 = text("statm").split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    (ticks / 100.0, pages / 256.0)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(((last as f64) * share).round() as usize).copied().unwrap_or(0.0)
}

/// Who submits one run after another.
struct Runs {
    calls: RunServiceClient<Channel>,
    submitted: u32,
    begun: SystemTime,
    /// Runs that go on together.
    at_once: u32,
    /// Shards of the training split.
    shards: usize,
}

impl Runs {
    /// Submits a run for every one that is completed, until it is time.
    async fn keep_up(&mut self, book: &Book, is_time: impl Fn(u64) -> bool) -> Result<(), Failed> {
        loop {
            let finished = note(book, |seen| seen.finished);
            if is_time(finished) {
                return Ok(());
            }
            while u64::from(self.submitted) < u64::from(self.at_once) + finished {
                self.submit().await?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Submits the next run, as soon as the coordinator takes it.
    async fn submit(&mut self) -> Result<(), Failed> {
        let number = self.submitted;
        let mut submission =
            fleet::submission(self.begun.duration_since(UNIX_EPOCH)?.as_secs() + u64::from(number), 1, 0);
        // Smaller ones at first, so that runs come to be in different stages.
        let share = f64::from((number + 1).min(self.at_once)) / f64::from(self.at_once);
        submission.dataset.train = (self.shards as f64 * share).ceil() as usize * SHARD_SAMPLES;
        let request = SubmitRequest { submission_json: to_json(&submission) };
        while let Err(status) = self.calls.submit(request.clone()).await {
            if status.code() != tonic::Code::Unavailable {
                return Err(status.into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.submitted += 1;
        Ok(())
    }
}

async fn load(workers: usize, rate: f64, seconds: f64, store: &str) -> Result<(), Failed> {
    let identity = Artefacts::open(store)?.identity().await?;
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .args(["coordinate", store])
        // As `bloctrain coordinator` sets it for itself.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let connect =
        || Endpoint::from_shared(format!("http://{}", address.trim())).map(|to| to.tcp_nodelay(true).connect_lazy());
    let work = Duration::from_secs_f64(workers as f64 / rate);
    // Outside of its export stages a run has one or two tasks at a time, for some ten times the time of a task.
    let at_once = (2.0 * work.as_secs_f64()) as u32 + 8;
    let (calls, shards) = (RunServiceClient::new(connect()?), (rate * STAGE_SECONDS) as usize);
    let mut runs = Runs { calls, submitted: 0, begun: SystemTime::now(), at_once, shards };
    runs.submit().await?;
    let mut fleet = Vec::with_capacity(workers);
    for number in 0..workers {
        fleet.push(Worker::register(connect()?, number, identity.clone()).await?);
    }
    let (book, (stop, stopping)) = (Book::default(), watch::channel(false));
    let tasks: Vec<_> = fleet
        .into_iter()
        .enumerate()
        .map(|(number, worker)| {
            let first = work.mul_f64(number as f64 / workers as f64);
            tokio::spawn(worker.go(first, work, stopping.clone(), Arc::clone(&book)))
        })
        .collect();
    runs.keep_up(&book, |finished| finished > u64::from(at_once / 2)).await?;
    let (begin, begun) = (usage(child.id()), Instant::now());
    let finished = note(&book, Seen::begin_again);
    let mut memory = vec![begin.1.round()];
    for look in 1..=LOOKS {
        let until = begun + Duration::from_secs_f64(seconds / f64::from(LOOKS) * f64::from(look));
        runs.keep_up(&book, |_| Instant::now() >= until).await?;
        memory.push(usage(child.id()).1.round());
    }
    let (end, took) = (usage(child.id()), begun.elapsed().as_secs_f64());
    let mut seen = note(&book, std::mem::take);
    stop.send_replace(true);
    for task in tasks {
        if let Err(error) = task.await.map_err(Failed::from).flatten() {
            seen.failed += 1;
            eprintln!("a worker failed: {error}");
        }
    }
    let line = serde_json::json!({
        "workers": workers, "seconds": took, "completions_per_second": seen.completions as f64 / took,
            "leases": seen.lease_ms.len(),
        "lease_ms": {"p50": quantile(&mut seen.lease_ms, 0.5), "p99": quantile(&mut seen.lease_ms, 0.99),
            "max": quantile(&mut seen.lease_ms, 1.0)},
        "heartbeats": seen.heartbeat_ms.len(), "heartbeat_ms_p99": quantile(&mut seen.heartbeat_ms, 0.99),
        "complete_ms_p99": quantile(&mut seen.complete_ms, 0.99), "asks_in_vain": seen.in_vain,
            "missed_leases": seen.missed, "failed_workers": seen.failed,
        "coordinator_cores": (end.0 - begin.0) / took, "coordinator_mib": memory,
        "runs_completed": seen.finished - finished,
    });
    println!("{line}");
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["coordinate", store] => coordinate(store.to_owned()).await,
        [workers, rate, seconds] => {
            let folder = tempfile::tempdir()?;
            load(workers.parse()?, rate.parse()?, seconds.parse()?, &folder.path().to_string_lossy()).await
        }
        [workers, rate, seconds, store] => load(workers.parse()?, rate.parse()?, seconds.parse()?, store).await,
        _ => Err("load WORKERS COMPLETIONS_PER_SECOND SECONDS [STORE]".into()),
    }
}
