//! Arguments as typed.

mod bench;

pub(crate) use bench::{
    BenchArgs, BenchCacheArgs, BenchCommand, BenchInferenceArgs, BenchLayerArgs, BenchNetwork, BenchStepArgs,
};
use bloctrain_shared::spec::Override;
use bloctrain_worker::device::Device;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Folder that holds runs, caches and models unless `--store` says otherwise.
pub(crate) const DEFAULT_STORE: &str = "bloctrain-runs";

#[derive(Debug, Parser)]
#[command(name = "bloctrain", version, about = "Train deep spiking neural networks block by block, with early exits")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a network; without arguments, on the embedded data set
    #[command(
        after_help = "Examples:\n  bloctrain train\n  bloctrain train my.toml --set train.epochs=20\n  bloctrain train --preset resnet9 --set network.width=16 --data cifar10/\n  bloctrain train --preset resnet9 --data cifar10/ --end-to-end\n\nInterrupted, the same command goes on where it was."
    )]
    Train(TrainArgs),
    /// Evaluate a trained model on its test data
    #[command(after_help = "Example:\n  bloctrain eval bloctrain-runs/models/r0123456789ab --data cifar10/")]
    Eval(EvalArgs),
    /// Classify image files with a trained model
    #[command(after_help = "Example:\n  bloctrain predict bloctrain-runs/models/r0123456789ab photo.png")]
    Predict(PredictArgs),
    /// Show a model's accuracy against its compute
    #[command(after_help = "Example:\n  bloctrain curve bloctrain-runs/models/r0123456789ab --json")]
    Curve(CurveArgs),
    /// Check a spec, or list presets
    #[command(
        after_help = "Examples:\n  bloctrain spec check my.toml --data cifar10/\n  bloctrain spec check --set train.epochs=20\n  bloctrain spec check my.toml --memory 8GiB\n  bloctrain spec presets"
    )]
    Spec(SpecArgs),
    /// List, fetch or verify data sets
    #[command(
        after_help = "Examples:\n  bloctrain data list\n  bloctrain data get fashion-mnist --dir fashion/\n  bloctrain data verify fashion/"
    )]
    Data(DataArgs),
    /// List the runs of a store
    #[command(after_help = "Examples:\n  bloctrain runs\n  bloctrain runs --store /data/runs --json")]
    Runs(StoreArgs),
    /// Show one run
    #[command(after_help = "Example:\n  bloctrain show r0123456789ab")]
    Show(ShowArgs),
    /// List the spike cache, or remove what no run names
    #[command(after_help = "Examples:\n  bloctrain cache ls\n  bloctrain cache gc --dry-run")]
    Cache(CacheArgs),
    /// Time parts of the program
    #[command(
        after_help = "Examples:\n  bloctrain bench step --preset resnet9 --width 32 --batch 32 --data cifar10/ --train-steps 300\n  bloctrain bench inference --preset resnet9 --width 32 --batch 64 --exit-fraction 0.5\n  bloctrain bench layer --inputs 64 --outputs 64 --rate 0.1\n  bloctrain bench cache --json"
    )]
    Bench(BenchArgs),
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
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folder of the model
    pub(crate) model: PathBuf,
    /// Folder with the data set's files; the folder used in training when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Folder of the model
    pub(crate) model: PathBuf,
    /// Image files (PNG or JPEG) of the size that the model takes
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CurveArgs {
    /// Folder of the model
    pub(crate) model: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run's id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
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
