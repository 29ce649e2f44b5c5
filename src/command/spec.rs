//! `spec check` and `spec presets`.

use super::{data, machine};
use crate::args::{SpecArgs, SpecCommand, SpecSource};
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_data::Dataset;
use bloctrain_memory::{self as memory, Machine, mebibytes};
use bloctrain_shared::RunSpec;
use bloctrain_shared::graph::Graph;
use bloctrain_shared::rounds::{Rounds, batch_count};
use bloctrain_shared::spec::sweep::{self, Sweep};
use bloctrain_shared::spec::written::{self, Given};
use bloctrain_shared::spec::{Override, TrainSpec, check, preset};
use bloctrain_worker::stage::prepared::Prepared;
use bytesize::ByteSize;
use std::path::Path;

pub(crate) fn run(args: SpecArgs) -> Result<(), Failure> {
    match args.command {
        SpecCommand::Check(source) => {
            let spec = read(&source)?;
            let prepared = Prepared::new(data::open(&spec)?, &spec);
            let (dataset, samples) = (&prepared.dataset, prepared.info().train);
            let graph = check::check_on(&spec, dataset.shape).map_err(Failure::usage)?;
            check::check_replicas(&spec.train, samples).map_err(Failure::usage)?;
            tell!("{}", spec.printed().trim_end());
            let estimates = memory::estimate(&spec, &graph, dataset.classes.len(), threads());
            for (block, estimate) in graph.blocks.iter().zip(estimates) {
                let (taken, micro_batch) = (mebibytes(estimate.bytes), estimate.micro_batch);
                say!(
                    "block {}: {} -> {}, training takes about {taken} with micro-batches of {micro_batch}",
                    estimate.block,
                    block.input(),
                    block.output()
                );
            }
            explain_replicas(&spec.train, samples);
            admit(&spec, dataset, source.memory)
        }
        SpecCommand::Presets => {
            for preset in preset::PRESETS {
                tell!("{:10} width {:3}  {}", preset.name, preset.width, preset.title);
                for (whose, recipe) in [("blocks", preset.blocks), ("end to end", preset.end_to_end)] {
                    if !recipe.is_empty() {
                        tell!("{:22}{whose}: {}", "", preset::settings(recipe).join(", "));
                    }
                }
            }
            Ok(())
        }
    }
}

/// Says how an epoch of all samples is cut into rounds.
fn explain_replicas(train: &TrainSpec, samples: usize) {
    let (replicas, batches) = (train.replicas, batch_count(samples, train));
    if replicas < 2 {
        return;
    }
    let rounds = Rounds::of(train, batches);
    let steps = |replica| (0..rounds.per_epoch()).map(|round| rounds.slice(round, replica).own.count()).sum::<usize>();
    say!(
        "{replicas} replicas: {batches} batches of an epoch in {} rounds, about {} steps of each replica instead of \
         {batches}; after every round an outer step at rate {} with momentum {}",
        rounds.per_epoch(),
        steps(1),
        train.outer_learning_rate,
        train.outer_momentum,
    );
}

/// Refuses a network whose training on the processor takes more memory than it may, or than the machine has free.
pub(crate) fn admit(spec: &RunSpec, dataset: &Dataset, allowed: Option<ByteSize>) -> Result<(), Failure> {
    let graph = Graph::new(spec, dataset.shape).map_err(Failure::usage)?;
    let available = allowed.map_or_else(machine::free_memory, |size| size.as_u64());
    let own = Machine { threads: threads(), available };
    memory::admit(spec, &graph, dataset.classes.len(), own).map_err(Failure::usage)?;
    Ok(())
}

/// Threads that this process may use.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The text of a command line's spec file, and the changes to it: preset, then `--set`, then the other flags.
fn given(source: &SpecSource) -> Result<(String, Vec<Override>), Failure> {
    let text = match &source.spec {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the spec {}", path.display()))
            .map_err(Failure::Usage)?,
        None => String::new(),
    };
    let pair = |path: &str, value: toml::Value| Override { path: path.to_owned(), value };
    let preset = source.preset.iter().map(|name| pair("network.preset", name.clone().into()));
    let mut changes: Vec<Override> = preset.chain(source.sets.iter().cloned()).collect();
    changes.extend(source.data.iter().map(|folder| pair("data.dir", folder.to_string_lossy().into_owned().into())));
    if source.end_to_end {
        changes.push(pair("run.end_to_end", true.into()));
    }
    for change in changes.iter_mut().filter(|change| change.path == "data.dir") {
        if let toml::Value::String(folder) = &mut change.value {
            *folder = place(folder, Path::new(""));
        }
    }
    let own = folder_of(&text, source.spec.as_deref()).map(|folder| pair("data.dir", folder.into()));
    Ok((text, own.into_iter().chain(changes).collect()))
}

/// A folder as it is meant: `~` is the user's home, and what is relative begins at `base`.
pub(super) fn place(folder: &str, base: &Path) -> String {
    let at_home = folder.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = match (at_home, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
        _ => base.join(folder),
    };
    std::path::absolute(&path).unwrap_or(path).to_string_lossy().into_owned()
}

/// The folder that a spec file names, which is relative to the file; one on the command line is to where that runs.
fn folder_of(text: &str, file: Option<&Path>) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let folder = table.get("data")?.get("dir")?.as_str()?;
    // A pipe has no folder of its own.
    let base = file.filter(|file| file.is_file()).and_then(Path::parent).unwrap_or(Path::new(""));
    Some(place(folder, base))
}

/// What a command line asks for.
pub(crate) enum Asked {
    /// One run.
    Run(Box<RunSpec>),
    /// The text of a sweep, and the changes to its base.
    Sweep(String, Vec<Override>),
}

/// The spec or the sweep of a command line. Its file is read once: it may be a pipe.
pub(crate) fn asked(source: &SpecSource) -> Result<Asked, Failure> {
    let (text, changes) = given(source)?;
    if sweep::is_sweep(&text) {
        return Ok(Asked::Sweep(text, changes));
    }
    let Given { spec, written } = written::read(&text, &changes).map_err(Failure::usage)?;
    check::check(&spec).map_err(Failure::usage)?;
    // The flag is for comparing: it takes the specification of a network that is trained block by block.
    let mut in_blocks = spec.clone();
    in_blocks.run.end_to_end &= !source.end_to_end;
    let written = if source.end_to_end { written.without("run.end_to_end") } else { written };
    written.check([&spec, &in_blocks]).map_err(Failure::usage)?;
    Ok(Asked::Run(Box::new(spec)))
}

/// The spec of a command line that is about one run.
pub(crate) fn read(source: &SpecSource) -> Result<RunSpec, Failure> {
    match asked(source)? {
        Asked::Run(spec) => Ok(*spec),
        Asked::Sweep(..) => {
            let file = source.spec.as_deref().unwrap_or(Path::new("SPEC.toml")).display();
            let problem = format!(
                "{file} is a sweep, and this command takes one run: give the sweep to a fleet with `bloctrain submit \
                {file}`"
            );
            Err(Failure::Usage(anyhow::anyhow!(problem)))
        }
    }
}

/// All runs of a sweep, which without a name of its own has its file's.
pub(crate) fn sweep(source: &SpecSource, text: &str, changes: &[Override], max_runs: usize) -> Result<Sweep, Failure> {
    let stem = source.spec.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    let fallback = stem.unwrap_or_else(|| "sweep".into());
    sweep::parse_sweep(text, changes, &fallback, max_runs).map_err(Failure::usage)
}
