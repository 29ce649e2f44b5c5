//! Arguments of `bench`.

use super::parse_override;
use bloctrain_shared::spec::parse::ParseError;
use bloctrain_shared::spec::written::{Given, Written, read};
use bloctrain_shared::spec::{Override, parse};
use bloctrain_worker::device::Device;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time training steps of a network on images, after some that train it
    Step(BenchStepArgs),
    /// Time one spiking layer forward and backward, and the plain reference
    Layer(BenchLayerArgs),
    /// Time the convolutions of a network on a GPU, by every algorithm
    #[cfg(feature = "cuda")]
    Convolution(BenchConvolutionArgs),
    /// Time answers of a network, with and without early exits
    Inference(BenchInferenceArgs),
    /// Time the spike cache beside the disk and zstd alone
    Cache(BenchCacheArgs),
}

/// Which network, on what.
#[derive(Debug, Args)]
pub(crate) struct BenchNetwork {
    /// Network by name
    #[arg(long, default_value = "resnet9")]
    pub(crate) preset: String,
    /// Its width
    #[arg(long)]
    pub(crate) width: Option<usize>,
    /// Time steps
    #[arg(long, default_value_t = 4)]
    pub(crate) steps: usize,
    /// Folder with images; without it the embedded ones, enlarged to 3x32x32 for networks that need it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// With what the preset trains best with, as `train` has it
    #[arg(long)]
    pub(crate) recipe: bool,
    /// Change a field of the spec
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    pub(crate) sets: Vec<Override>,
}

impl BenchNetwork {
    /// The specification of the network, and what of it was written.
    pub(crate) fn given(&self, end_to_end: bool) -> Result<Given, ParseError> {
        let integer = |value: usize| toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let pair = |path: &str, value: toml::Value| Override { path: path.to_owned(), value };
        let mut changes = vec![
            pair("network.preset", self.preset.clone().into()),
            pair("encoding.steps", integer(self.steps)),
            pair("run.end_to_end", end_to_end.into()),
        ];
        changes.extend(self.width.map(|width| pair("network.width", integer(width))));
        changes.extend(self.sets.iter().cloned());
        if self.recipe {
            return read("", &changes);
        }
        Ok(Given { spec: parse("", &changes)?, written: Written::new(changes.into_iter().map(|change| change.path)) })
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchStepArgs {
    #[command(flatten)]
    pub(crate) network: BenchNetwork,
    /// Samples in a step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch: u32,
    /// The whole network at once instead of block by block
    #[arg(long)]
    pub(crate) end_to_end: bool,
    /// Steps that train each block before the clock runs, so that neurons fire as in training
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) train_steps: u32,
    /// Timed steps
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) iters: u32,
    /// Device: auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    pub(crate) device: Device,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchLayerArgs {
    /// Input channels
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) inputs: u16,
    /// Output channels
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) outputs: u16,
    /// Side of the kernel, odd
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=31))]
    pub(crate) kernel: u16,
    /// Step between output positions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) stride: u16,
    /// Rows and columns of the input
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) side: u16,
    /// Time steps
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) steps: u16,
    /// Samples
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch: u32,
    /// Share of ones in the input; may be given several times
    #[arg(long = "rate", value_name = "R", default_values_t = [0.05, 0.1, 0.2], value_parser = share)]
    pub(crate) rates: Vec<f64>,
    /// Timed passes in each direction
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) iters: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchInferenceArgs {
    #[command(flatten)]
    pub(crate) network: BenchNetwork,
    /// Samples in a batch
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch: u32,
    /// Share of the samples that reach a block and are made to leave there, by thresholds on its confidence
    #[arg(long, value_name = "F", default_value_t = 0.5, value_parser = share)]
    pub(crate) exit_fraction: f64,
    /// The whole network without blocks, and so without exits
    #[arg(long)]
    pub(crate) end_to_end: bool,
    /// Steps that train each block first, so that neurons fire as in training
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) train_steps: u32,
    /// A trained model on its test data instead, with its own exits
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "preset", "width", "steps", "recipe", "sets", "exit_fraction", "end_to_end", "train_steps",
    ])]
    pub(crate) model: Option<String>,
    /// Timed batches
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) iters: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchCacheArgs {
    #[command(flatten)]
    pub(crate) network: BenchNetwork,
    /// Shards of 1024 samples
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) shards: u32,
    /// Steps that train the block first, so that neurons fire as in training
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) train_steps: u32,
    /// Folder to write to; a temporary one when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(feature = "cuda")]
#[derive(Debug, Args)]
pub(crate) struct BenchConvolutionArgs {
    #[command(flatten)]
    pub(crate) network: BenchNetwork,
    /// Samples in a batch
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch: u32,
    /// Device: cuda:N
    #[arg(long, default_value = "cuda:0")]
    pub(crate) device: Device,
    /// Timed calls
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) iters: u32,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("it must lie in [0, 1]".into()) }
}
