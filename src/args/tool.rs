//! Arguments of commands around the work: tracking, first steps, a look at the machine.

use super::{ConnectArgs, DEFAULT_STORE};
use bloctrain_worker::device::Device;
use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// Tools that are told of a run's epochs.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrackingArgs {
    /// Write TensorBoard event files below this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: Option<PathBuf>,
    /// Tell the MLflow tracking server at this address
    #[arg(long, value_name = "URL")]
    pub(crate) mlflow: Option<String>,
    /// Experiment of the MLflow server
    #[arg(long, value_name = "NAME", default_value = "bloctrain", env = "MLFLOW_EXPERIMENT_NAME")]
    pub(crate) experiment: String,
}

#[derive(Debug, Args)]
pub(crate) struct TrackArgs {
    /// The run's id
    pub(crate) run: String,
    /// Folder or object storage of the run
    #[arg(long, value_name = "URL", default_value = DEFAULT_STORE, env = "BLOCTRAIN_STORE")]
    pub(crate) store: String,
    #[command(flatten)]
    pub(crate) tools: TrackingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// File to write
    #[arg(value_name = "FILE", default_value = "bloctrain.toml")]
    pub(crate) file: PathBuf,
    /// Network by name; the one that fits the images when absent
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Folder with the data set's files; the embedded images when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", env = "BLOCTRAIN_DEVICE")]
    pub(crate) device: Device,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write the pages to; made when absent
    pub(crate) dir: PathBuf,
}
