//! Arguments as typed.

mod bench;
mod fleet;
mod report;
mod tool;

#[cfg(feature = "cuda")]
pub(crate) use bench::BenchConvolutionArgs;
pub(crate) use bench::{
    BenchArgs, BenchCacheArgs, BenchCommand, BenchInferenceArgs, BenchLayerArgs, BenchNetwork, BenchStepArgs,
};
use bloctrain_shared::spec::Override;
use bloctrain_worker::device::Device;
use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use fleet::{CoordinatorArgs, HealthArgs, SubmitArgs, WorkerArgs};
pub(crate) use report::{ReportArgs, ShowArgs};
use std::path::PathBuf;
use std::time::Duration;
pub(crate) use tool::{CompletionsArgs, DoctorArgs, InitArgs, ManArgs, TrackArgs, TrackingArgs};

/// Folder that holds runs, caches and models unless `--store` says otherwise.
pub(crate) const DEFAULT_STORE: &str = "bloctrain-runs";

#[derive(Debug, Parser)]
#[command(name = "bloctrain", version, about = "Train deep spiking neural networks block by block, with early exits")]
pub(crate) struct Cli {
    /// Form of the log on standard error
    #[arg(long, value_enum, global = true, default_value_t = LogFormat::Text, env = "BLOCTRAIN_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Name of the pod that this process is in: a field of every line of the log in JSON
    #[arg(long, value_name = "NAME", global = true, env = "BLOCTRAIN_POD")]
    pub(crate) pod: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What stands below the help of a command: one line or several as somebody types them, and what else there is to say.
macro_rules! examples {
    ($line:literal $(; $more:literal)?) => { concat!("Example:\n  ", $line $(, "\n\n", $more)?) };
    ($($line:literal),+ $(; $more:literal)?) => { concat!("Examples:", $("\n  ", $line),+ $(, "\n\n", $more)?) };
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a network; without arguments, on the embedded data set
    #[command(after_help = examples![
        "bloctrain train",
        "bloctrain train my.toml --set train.epochs=20",
        "bloctrain train --preset resnet9 --set network.width=16 --data cifar10/",
        "bloctrain train --preset resnet9 --data cifar10/ --end-to-end",
        "bloctrain train my.toml --dry-run",
        "bloctrain train my.toml --tensorboard boards/";
        "Interrupted, the same command goes on where it was."
    ])]
    Train(TrainArgs),
    /// Write a commented specification to start from
    #[command(after_help = examples![
        "bloctrain init",
        "bloctrain init flowers.toml --data flowers/",
        "bloctrain init big.toml --preset resnet9 --data cifar10/";
        "Then: bloctrain spec check FILE, bloctrain train FILE --dry-run, bloctrain train FILE."
    ])]
    Init(InitArgs),
    /// Look whether this machine, a store and a fleet can be used, and say what to do where not
    #[command(after_help = examples![
        "bloctrain doctor",
        "bloctrain doctor --store bloctrain-runs",
        "bloctrain doctor --store s3://bucket/fleet --coordinator http://host:7070";
        "Exit code 0: everything can be used; 1: something is wrong."
    ])]
    Doctor(Box<DoctorArgs>),
    /// Evaluate a trained model on its test data
    #[command(after_help = examples!["bloctrain eval bloctrain-runs/models/r0123456789ab --data cifar10/"])]
    Eval(EvalArgs),
    /// Classify image files with a trained model
    #[command(after_help = examples![
        "bloctrain predict bloctrain-runs/models/r0123456789ab photo.png",
        "bloctrain predict bloctrain-runs/models/r0123456789ab photos/ --json",
        "curl -s https://host/photo.png | bloctrain predict bloctrain-runs/models/r0123456789ab -"
    ])]
    Predict(PredictArgs),
    /// Show a model's accuracy against its compute
    #[command(after_help = examples!["bloctrain curve bloctrain-runs/models/r0123456789ab --json"])]
    Curve(CurveArgs),
    /// Check a spec, or list presets
    #[command(after_help = examples![
        "bloctrain spec check my.toml --data cifar10/",
        "bloctrain spec check --set train.epochs=20",
        "bloctrain spec check my.toml --memory 8GiB",
        "bloctrain spec presets"
    ])]
    Spec(SpecArgs),
    /// List, fetch or verify data sets
    #[command(after_help = examples![
        "bloctrain data list",
        "bloctrain data get fashion-mnist --dir fashion/",
        "bloctrain data verify fashion/"
    ])]
    Data(DataArgs),
    /// Coordinate a fleet: hand out the tasks of runs, keep their state in a store
    #[command(after_help = examples![
        "bloctrain coordinator --store s3://bucket/fleet",
        "bloctrain coordinator --store s3://bucket/fleet --standby --listen 127.0.0.1:7071"
    ])]
    Coordinator(Box<CoordinatorArgs>),
    /// Work for a fleet
    #[command(after_help = examples![
        "bloctrain worker --coordinator http://host:7070",
        "bloctrain worker --store s3://bucket/fleet --device cuda:0",
        "bloctrain worker --store s3://bucket/fleet --cache-dir /var/cache/bloctrain --cache-size 50GiB"
    ])]
    Worker(Box<WorkerArgs>),
    /// Ask a coordinator or worker on this machine how it is, as a probe does
    #[command(after_help = examples![
        "bloctrain health 127.0.0.1:9090",
        "bloctrain health 127.0.0.1:9090 --is live";
        "Exit code 0: it is; 1: it is not, or does not answer."
    ])]
    Health(HealthArgs),
    /// Submit a run to a fleet
    #[command(after_help = examples![
        "bloctrain submit my.toml --data cifar10/ --coordinator http://host:7070 --watch",
        "bloctrain submit sweep.toml --watch";
        "A file with a section [sweep], such as \"train.learning_rate\" = [0.05, 0.1], is a run for every combination \
        of its values."
    ])]
    Submit(Box<SubmitArgs>),
    /// Follow a run of a fleet until it ends: on a terminal with pipeline, curves and workers, else in lines
    #[command(after_help = examples![
        "bloctrain watch r0123456789ab --coordinator http://host:7070",
        "bloctrain watch r0123456789ab --store s3://bucket/fleet --json"
    ])]
    Watch(Box<OrderArgs>),
    /// Print what happened to a run of a fleet
    #[command(after_help = examples![
        "bloctrain logs r0123456789ab --store fleet",
        "bloctrain logs r0123456789ab --store fleet --follow"
    ])]
    Logs(Box<LogsArgs>),
    /// Hand out no more tasks of a run
    #[command(after_help = examples!["bloctrain pause r0123456789ab --store fleet"])]
    Pause(Box<OrderArgs>),
    /// Go on with a paused run
    #[command(after_help = examples!["bloctrain resume r0123456789ab --store fleet"])]
    Resume(Box<OrderArgs>),
    /// Stop a run; submitting it again takes it up
    #[command(after_help = examples!["bloctrain cancel r0123456789ab --store fleet"])]
    Cancel(Box<OrderArgs>),
    /// Delete runs of a fleet that have ended; `cache gc` then removes what they made
    #[command(after_help = examples![
        "bloctrain delete r0123456789ab --store fleet",
        "bloctrain delete --older-than 30d --store fleet",
        "bloctrain delete --older-than 30d --yes --store fleet"
    ])]
    Delete(Box<DeleteArgs>),
    /// Show how a fleet's coordinator stands, and what it counted since it became active
    #[command(after_help = examples!["bloctrain status --coordinator http://host:7070 --json"])]
    Status(Box<ReadArgs>),
    /// List the workers of a fleet
    #[command(after_help = examples![
        "bloctrain workers --store fleet",
        "bloctrain workers --coordinator http://host:7070 --json"
    ])]
    Workers(Box<ReadArgs>),
    /// List the runs of a store or a fleet
    #[command(after_help = examples![
        "bloctrain runs",
        "bloctrain runs --store /data/runs --json",
        "bloctrain runs --coordinator http://host:7070",
        "bloctrain runs --sweep rates"
    ])]
    Runs(Box<RunsArgs>),
    /// Show one run, or the course of its training
    #[command(after_help = examples![
        "bloctrain show r0123456789ab",
        "bloctrain show r0123456789ab --history",
        "bloctrain show r0123456789ab --history --csv > epochs.csv"
    ])]
    Show(Box<ShowArgs>),
    /// Write a report of finished runs: one HTML file without scripts, or Markdown
    #[command(after_help = examples![
        "bloctrain report r0123456789ab",
        "bloctrain report r0123456789ab --baseline rba9876543210 --out report.html",
        "bloctrain report r0123456789ab rba9876543210 --markdown --out -",
        "bloctrain report bloctrain-runs/models/r0123456789ab --energy synop=0.1,mac=1.5"
    ])]
    Report(Box<ReportArgs>),
    /// Tell TensorBoard or MLflow of a run's epochs: what they do not know yet
    #[command(after_help = examples![
        "bloctrain track r0123456789ab --tensorboard boards/",
        "bloctrain track r0123456789ab --mlflow http://127.0.0.1:5000";
        "`train` takes the same options and tells them while it goes on."
    ])]
    Track(Box<TrackArgs>),
    /// List the spike cache, or remove what no run names
    #[command(after_help = examples!["bloctrain cache ls", "bloctrain cache gc --dry-run"])]
    Cache(CacheArgs),
    /// Time parts of the program
    #[command(after_help = examples![
        "bloctrain bench step --preset resnet9 --width 32 --batch 32 --data cifar10/ --train-steps 300",
        "bloctrain bench inference --preset resnet9 --width 32 --batch 64 --exit-fraction 0.5",
        "bloctrain bench layer --inputs 64 --outputs 64 --rate 0.1",
        "bloctrain bench cache --json"
    ])]
    Bench(BenchArgs),
    /// Print the completions of a shell
    #[command(after_help = examples![
        "bloctrain completions bash > ~/.local/share/bash-completion/completions/bloctrain",
        "bloctrain completions zsh > \"${fpath[1]}/_bloctrain\"",
        "bloctrain completions fish > ~/.config/fish/completions/bloctrain.fish"
    ])]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = examples!["bloctrain man ~/.local/share/man/man1"])]
    Man(ManArgs),
}

fn parse_override(text: &str) -> Result<Override, String> {
    Override::parse(text).map_err(|error| error.to_string())
}

/// What to train: a spec file or a preset, and changes to it.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpecSource {
    /// Specification in TOML
    #[arg(value_name = "SPEC.toml", conflicts_with = "preset")]
    pub(crate) spec: Option<PathBuf>,
    /// Network by name, instead of a spec file
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Folder with the data set's files
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Change a field of the spec
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    pub(crate) sets: Vec<Override>,
    /// Train without blocks, by ordinary back-propagation through time
    #[arg(long)]
    pub(crate) end_to_end: bool,
    /// Memory that a training step may take, such as 8GiB; what the machine has free when absent
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Folder of runs, caches and models
    #[arg(long, value_name = "URL", default_value = DEFAULT_STORE)]
    pub(crate) store: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) source: SpecSource,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Workers in this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    pub(crate) device: Device,
    /// Take the store from the process that is at work on it, which ends then
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Only run one batch through every stage, to find in seconds what would fail at the end; nothing of it is kept
    #[arg(long, conflicts_with = "take_over")]
    pub(crate) dry_run: bool,
    /// Show pipeline, curves and workers on the whole terminal
    #[arg(long)]
    pub(crate) tui: bool,
    #[command(flatten)]
    pub(crate) tools: TrackingArgs,
    /// Address of this machine at which to look at the run in a browser, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Endpoint of OpenTelemetry (OTLP over HTTP) for a trace of the run, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "BLOCTRAIN_OTLP")]
    pub(crate) otlp: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folder of the model, or its address in a store (s3://BUCKET/PREFIX/models/RUN)
    pub(crate) model: String,
    /// Folder with the data set's files; the folder used in training when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Folder of the model, or its address in a store (s3://BUCKET/PREFIX/models/RUN)
    pub(crate) model: String,
    /// Images, folders of them, or - for an image on standard input; of the size that the model takes
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CurveArgs {
    /// Folder of the model, or its address in a store (s3://BUCKET/PREFIX/models/RUN)
    pub(crate) model: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the coordinator is, and how this command and it trust each other.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Addresses of coordinators, the active one and those that stand by
    #[arg(long, value_name = "URL,...", env = "BLOCTRAIN_COORDINATOR", value_delimiter = ',')]
    pub(crate) coordinator: Vec<String>,
    /// Store of the fleet: the active coordinator's address is found there. Where none is at work, pause, resume,
    /// cancel and delete need none
    #[arg(long, value_name = "URL", env = "BLOCTRAIN_STORE")]
    pub(crate) store: Option<String>,
    /// File with the token; else BLOCTRAIN_TOKEN, and BLOCTRAIN_JOIN_TOKEN for workers
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Authority that the coordinator's certificate comes from (PEM), for https:// addresses
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate of this side, for mutual TLS (PEM)
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", env = "BLOCTRAIN_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Name in the coordinator's certificate, when it is not the host of its address
    #[arg(long, value_name = "NAME", env = "BLOCTRAIN_TLS_NAME")]
    pub(crate) tls_name: Option<String>,
    /// Send the token in plain text to addresses that are not on this machine: only on a network that you trust
    #[arg(long, env = "BLOCTRAIN_INSECURE", value_parser = BoolishValueParser::new())]
    pub(crate) insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Only runs of a sweep, with their results
    #[arg(long, value_name = "NAME")]
    pub(crate) sweep: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Ids of the runs
    #[arg(required_unless_present = "older_than")]
    pub(crate) runs: Vec<String>,
    /// All runs that ended longer ago, such as 30d; says which, and deletes them only with --yes
    #[arg(long, value_name = "AGE", value_parser = parse_duration, conflicts_with = "runs")]
    pub(crate) older_than: Option<Duration>,
    /// Delete what --older-than finds
    #[arg(long, requires = "older_than")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// The run's id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run's id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Wait for more until the run ends
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// A duration such as 500ms, 30s or 2m.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let parse = |(unit, each): (&str, u64)| {
        let number = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        number.checked_mul(each).map(Duration::from_millis)
    };
    units
        .into_iter()
        .find_map(parse)
        .ok_or_else(|| format!("`{text}` is no duration; give one such as 500ms, 30s or 2m"))
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    #[command(subcommand)]
    pub(crate) command: SpecCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpecCommand {
    /// Check a spec and print it with every default filled in
    Check(SpecSource),
    /// List the networks that have a name
    Presets,
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// List data sets that can be fetched, and the embedded one
    List,
    /// Fetch a data set; an interrupted download is resumed
    Get {
        /// Name from `data list`
        name: String,
        /// Where to put it; a folder of its name when absent
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Fetch from another address
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Check the files of a data set
    Verify {
        /// Folder with the files
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cached shards
    Ls(StoreArgs),
    /// Remove what no run names: cached shards, old checkpoints, unfinished writes; with --all, every shard
    Gc {
        #[command(flatten)]
        store: StoreArgs,
        /// Remove every shard: runs that need one compute it again
        #[arg(long)]
        all: bool,
        /// Leave alone what was written in the last hours: a running task may be about to commit it
        #[arg(long, default_value_t = 24, conflicts_with = "all")]
        min_age_hours: u64,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_option_of_a_process_has_an_environment_variable_of_its_own() {
        let cli = Cli::command();
        for process in ["coordinator", "worker"] {
            let command = cli.find_subcommand(process).expect("a subcommand");
            let options = command.get_arguments().chain(cli.get_arguments()).filter(|option| {
                // What prints and ends is no setting of a process.
                !matches!(option.get_action(), clap::ArgAction::Help | clap::ArgAction::Version)
            });
            let mut variables = std::collections::BTreeSet::new();
            for option in options {
                let flag = option.get_long().expect("it has options only");
                let variable =
                    option.get_env().unwrap_or_else(|| panic!("{process} --{flag} has no environment variable"));
                let expected = format!("BLOCTRAIN_{}", flag.to_uppercase().replace('-', "_"));
                assert_eq!(variable.to_str(), Some(expected.as_str()), "{process} --{flag}");
                assert!(variables.insert(variable), "{process} --{flag}: {variable:?} is taken");
            }
            assert!(variables.len() > 10, "{process} has options");
        }
    }

    #[test]
    fn a_worker_s_default_grace_ends_before_a_kubelet_s() {
        let cli = Cli::try_parse_from(["bloctrain", "worker", "--coordinator", "http://h:1"]).expect("a command");
        let Command::Worker(worker) = cli.command else { panic!("a worker") };
        assert!(worker.grace < Duration::from_secs(30), "{:?}", worker.grace);
    }
}

#[cfg(test)]
mod help {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_shows_how_it_is_used() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.contains("Example") && help.contains(&format!("bloctrain {name}")), "{name}: {help}");
        }
    }
}
