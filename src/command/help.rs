//! `completions` and `man`: what shells and `man` know of the command.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use anyhow::Context;
use clap::CommandFactory;

/// Name of the command.
const NAME: &str = "bloctrain";

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end()).map(drop)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&args.dir)?;
        clap_mangen::generate_to(Cli::command(), &args.dir)
    };
    write().with_context(|| {
        format!("cannot write pages to {}; name a folder that you may write to", args.dir.display())
    })?;
    tell!("{}", args.dir.display());
    Ok(())
}
