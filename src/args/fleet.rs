//! Arguments of a fleet's processes, and of submitting to it.

use super::{ConnectArgs, DEFAULT_STORE, SpecSource, parse_duration};
use bloctrain_coordinator::fleet::CONNECTIONS;
use bloctrain_operations::notice::Cloud;
use bloctrain_shared::spec::sweep::DEFAULT_MAX_RUNS;
use bloctrain_worker::device::Device;
use bytesize::ByteSize;
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) source: SpecSource,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Backend of the run's workers: cpu, cuda, wgpu, or any: the first worker decides
    #[arg(long, default_value = "any", value_parser = ["any", "cpu", "cuda", "wgpu"])]
    pub(crate) backend: String,
    /// Follow the run, or all runs of a sweep, to the end
    #[arg(long)]
    pub(crate) watch: bool,
    /// Most runs that a sweep may have
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_RUNS)]
    pub(crate) max_runs: usize,
    /// Print JSON: the run's id, or with --watch its summary; a list of them for a sweep
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", env = "BLOCTRAIN_DEVICE")]
    pub(crate) device: Device,
    /// Name in logs and lists; the pod's, or host and process, when absent
    #[arg(long, env = "BLOCTRAIN_NAME")]
    pub(crate) name: Option<String>,
    /// Identity that no other worker has: started again with it, this worker takes its own place; drawn anew when
    /// absent
    #[arg(long, value_name = "ID", env = "BLOCTRAIN_IDENTITY", value_parser = parse_identity)]
    pub(crate) identity: Option<String>,
    /// Longest time after SIGTERM to bring the task to an end, such as 20s or 2m
    #[arg(long, default_value = "20s", value_parser = parse_duration, env = "BLOCTRAIN_GRACE")]
    pub(crate) grace: Duration,
    /// Folder that keeps what was read from the store; workers of one machine may share it
    #[arg(long, value_name = "DIR", env = "BLOCTRAIN_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Bytes that the folder may take, such as 20GiB
    #[arg(long, value_name = "SIZE", default_value = "10GiB", requires = "cache_dir", env = "BLOCTRAIN_CACHE_SIZE")]
    pub(crate) cache_size: ByteSize,
    /// Address for metrics and health in plain HTTP, such as 0.0.0.0:9090
    #[arg(long, value_name = "ADDR", env = "BLOCTRAIN_HTTP")]
    pub(crate) http: Option<String>,
    /// Leave when this cloud says that the machine will be taken away: aws, gcp or azure
    #[arg(long, value_name = "CLOUD", env = "BLOCTRAIN_PREEMPTION")]
    pub(crate) preemption: Option<Cloud>,
    /// Address of that cloud's metadata service, when it is not the usual one
    #[arg(long, value_name = "URL", env = "BLOCTRAIN_METADATA", requires = "preemption")]
    pub(crate) metadata: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Address that --http names, such as 127.0.0.1:9090
    #[arg(value_name = "ADDR", env = "BLOCTRAIN_HTTP")]
    pub(crate) address: String,
    /// What to ask: whether the process lives, can do its part, or does it now
    #[arg(long, value_name = "QUESTION", default_value = "ready", value_parser = ["live", "ready", "active"])]
    pub(crate) is: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CoordinatorArgs {
    /// Folder or object storage that holds everything
    #[arg(long, value_name = "URL", default_value = DEFAULT_STORE, env = "BLOCTRAIN_STORE")]
    pub(crate) store: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "BLOCTRAIN_LISTEN")]
    pub(crate) listen: String,
    /// Addresses at which others reach this coordinator; made from --listen when absent
    #[arg(long, value_name = "URL,...", value_delimiter = ',', env = "BLOCTRAIN_ADVERTISE")]
    pub(crate) advertise: Vec<String>,
    /// Wait until the active coordinator is gone, instead of taking over at once
    #[arg(long, env = "BLOCTRAIN_STANDBY", value_parser = BoolishValueParser::new())]
    pub(crate) standby: bool,
    /// Most connections at once; further ones are refused
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS, env = "BLOCTRAIN_MAX_CONNECTIONS", value_parser =
        clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: u32,
    /// Silence after which a worker's task is given to another, such as 10s
    #[arg(long, default_value = "10s", value_parser = parse_duration, env = "BLOCTRAIN_LEASE")]
    pub(crate) lease: Duration,
    /// Time without progress after which a task counts as hung and is given to another, such as 20m; 0s for never
    #[arg(long, default_value = "20m", value_parser = parse_duration, env = "BLOCTRAIN_STALL")]
    pub(crate) stall: Duration,
    /// Address for the dashboard, its API, metrics and health, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDR", env = "BLOCTRAIN_HTTP")]
    pub(crate) http: Option<String>,
    /// Endpoint of OpenTelemetry (OTLP over HTTP) for a trace of every run, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "BLOCTRAIN_OTLP")]
    pub(crate) otlp: Option<String>,
    /// Certificate of this coordinator (PEM): serves TLS
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "BLOCTRAIN_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "BLOCTRAIN_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Authority that every client's certificate must come from (PEM): mutual TLS
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "BLOCTRAIN_TLS_CLIENT_CA")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// File with tokens of workers, one a line; else BLOCTRAIN_JOIN_TOKEN
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_JOIN_TOKEN_FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// File with tokens that may read; else BLOCTRAIN_VIEWER_TOKEN
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_VIEWER_TOKEN_FILE")]
    pub(crate) viewer_token_file: Option<PathBuf>,
    /// File with tokens that may do everything; else BLOCTRAIN_OPERATOR_TOKEN
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_OPERATOR_TOKEN_FILE")]
    pub(crate) operator_token_file: Option<PathBuf>,
    /// Listen beyond this machine without certificates or tokens
    #[arg(long, env = "BLOCTRAIN_INSECURE", value_parser = BoolishValueParser::new())]
    pub(crate) insecure: bool,
}

/// An identity that fits into a message.
fn parse_identity(text: &str) -> Result<String, String> {
    let is_good = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| text.to_owned()).ok_or_else(|| "it must have 1 to 64 printable characters without spaces".into())
}
