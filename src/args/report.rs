//! Arguments of commands that show what runs came to.

use super::{DEFAULT_STORE, ReadArgs};
use bloctrain_report::Energy;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run's id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Show the course of training: a line for every epoch of every block
    #[arg(long)]
    pub(crate) history: bool,
    /// With --history: comma-separated values
    #[arg(long, requires = "history", conflicts_with = "json")]
    pub(crate) csv: bool,
}

fn parse_energy(text: &str) -> Result<Energy, String> {
    Energy::parse(text).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Ids of finished runs, or folders or addresses of their packages; several are shown side by side
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Folder or object storage of the runs
    #[arg(long, value_name = "URL", default_value = DEFAULT_STORE, env = "BLOCTRAIN_STORE")]
    pub(crate) store: String,
    /// A run to compare with, such as the same network trained with --end-to-end
    #[arg(long, value_name = "RUN")]
    pub(crate) baseline: Option<String>,
    /// File to write, or - for standard output; report-RUN.html in this folder when absent
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write Markdown, without pictures
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Constants of the energy model, such as synop=0.1,mac=1.5; the report names all of them
    #[arg(long, value_name = "NAME=NUMBER,...", default_value = "", hide_default_value = true, value_parser =
        parse_energy)]
    pub(crate) energy: Energy,
}
