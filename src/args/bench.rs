//! Arguments of `bench`.

use bloctrain_shared::RunSpec;
use bloctrain_shared::spec::parse::ParseError;
use bloctrain_shared::spec::{Override, parse};
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
}

impl BenchNetwork {
    /// The specification of the network.
    pub(crate) fn spec(&self, end_to_end: bool) -> Result<RunSpec, ParseError> {
        let integer = |value: usize| toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let pair = |path: &str, value: toml::Value| Override { path: path.to_owned(), value };
        let mut changes = vec![
            pair("network.preset", self.preset.clone().into()),
            pair("encoding.steps", integer(self.steps)),
            pair("run.end_to_end", end_to_end.into()),
        ];
        changes.extend(self.width.map(|width| pair("network.width", integer(width))));
        parse("", &changes)
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
