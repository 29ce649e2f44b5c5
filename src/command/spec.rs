//! `spec check` and `spec presets`.

use crate::args::{SpecArgs, SpecCommand, SpecSource};
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_shared::RunSpec;
use bloctrain_shared::spec::{Override, check, parse, preset};
use bloctrain_worker::stage::prepared;

pub(crate) fn run(args: SpecArgs) -> Result<(), Failure> {
    match args.command {
        SpecCommand::Check(source) => {
            let spec = read(&source)?;
            let dataset = prepared::open(&spec)?;
            let blocks = check::check_on(&spec, dataset.shape).map_err(Failure::usage)?;
            print!("{}", toml::to_string(&spec)?);
            for (index, block) in blocks.iter().enumerate() {
                eprintln!("block {}: {} -> {}", index + 1, block.input, block.output);
            }
            Ok(())
        }
        SpecCommand::Presets => {
            for preset in preset::PRESETS {
                println!("{:10} width {:3}  {}", preset.name, preset.width, preset.title);
            }
            Ok(())
        }
    }
}

/// The spec of a command line: file or preset, then `--set`, then the other flags.
pub(crate) fn read(source: &SpecSource) -> Result<RunSpec, Failure> {
    let text = match &source.spec {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the spec {}", path.display()))
            .map_err(Failure::Usage)?,
        None => String::new(),
    };
    let pair = |path: &str, value: toml::Value| Override { path: path.to_owned(), value };
    let mut changes: Vec<Override> = source.preset.iter().map(|name| pair("network.preset", name.clone().into())).collect();
    changes.extend(source.sets.iter().cloned());
    changes.extend(source.data.iter().map(|folder| pair("data.dir", folder.to_string_lossy().into_owned().into())));
    if source.end_to_end {
        changes.push(pair("run.end_to_end", true.into()));
    }
    let spec = parse(&text, &changes).map_err(Failure::usage)?;
    check::check(&spec).map_err(Failure::usage)?;
    Ok(spec)
}
