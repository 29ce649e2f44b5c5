//! `init`: a specification to start from, with what its fields mean.

use super::{data, spec};
use crate::args::InitArgs;
use crate::failure::Failure;
use bloctrain_data::{Dataset, embedded};
use bloctrain_memory::{self as memory, mebibytes};
use bloctrain_shared::RunSpec;
use bloctrain_shared::graph::Graph;
use bloctrain_shared::spec::{Override, check, preset, written};
use std::path::Path;

/// The widest network that is suggested for training on processors, by preset.
const WIDTH: usize = 16;

/// Samples of a class up to which a data set is taken to be small.
const FEW: usize = 500;

pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    if let Some(name) = &args.preset
        && preset::find(name).is_none()
    {
        let names = preset::PRESETS.map(|preset| preset.name).join(", ");
        return Err(Failure::Usage(anyhow::anyhow!("there is no preset `{name}`; there are {names}")));
    }
    let folder = args.data.as_deref().map(|folder| spec::place(&folder.to_string_lossy(), Path::new("")));
    let mut looked_at = RunSpec::default();
    looked_at.data.dir.clone_from(&folder);
    let dataset = data::open(&looked_at)?;
    let text = text(args, folder.as_deref(), &dataset);
    // What is written has to work.
    let given = written::read(&text, &[] as &[Override]).map_err(Failure::usage)?;
    check::check(&given.spec).map_err(Failure::usage)?;
    let graph = Graph::new(&given.spec, dataset.shape).map_err(Failure::usage)?;
    let file = args.file.display();
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).create_new(!args.force);
        std::io::Write::write_all(&mut options.open(&args.file)?, text.as_bytes())
    };
    write().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::Usage(anyhow::anyhow!(
            "{file} is there already; name another file, or give --force to write over it"
        )),
        _ => Failure::Failed(anyhow::Error::from(error).context(format!("cannot write {file}"))),
    })?;
    let estimates = memory::estimate(&given.spec, &graph, dataset.classes.len(), spec::threads());
    let most = estimates.iter().map(|estimate| estimate.bytes).max().unwrap_or(0);
    tell!("{file}");
    say!(
        "{} blocks; training takes about {}. Next: bloctrain spec check {file}, bloctrain train {file} --dry-run, \
        bloctrain train {file}",
        graph.blocks.len(),
        mebibytes(most)
    );
    Ok(())
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn text(args: &InitArgs, folder: Option<&str>, dataset: &Dataset) -> String {
    let shape = dataset.shape;
    let (side, classes) = (shape.width.min(shape.height), dataset.classes.len());
    let own = args.preset.as_deref().unwrap_or(if side <= 28 && shape.channels == 1 { "small" } else { "resnet9" });
    let width = preset::find(own).map_or(WIDTH, |preset| preset.width.min(WIDTH));
    let train = dataset.train.len();
    let epochs = if train < FEW * classes { 40 } else { 15 };
    let augment = if shape.channels == 3 { "[\"crop\", \"flip\"]" } else { "[]" };
    let data = match folder {
        Some(folder) => format!("dir = {}", quoted(folder)),
        None => {
            format!(
                "# The images that are in the program; `dir = \"FOLDER\"` reads yours.\nname = {}",
                quoted(embedded::NAME)
            )
        }
    };
    let (name, test) = (dataset.name.escape_default(), dataset.test.len());
    format!(
        "# A run of bloctrain on {name}: {classes} classes, {train} images to train on and {test} to test on,
# {} x {} pixels with {} channels.
#
#     bloctrain spec check FILE      # every field with its default, shapes, memory
#     bloctrain train FILE --dry-run # one batch through every stage, in seconds
#     bloctrain train FILE           # Ctrl-C, and the same command goes on
#
# Fields that are left out have their defaults. What each means: docs/spec.md.

[data]
{data}
# Share of the training images that decides hard classes and exits. Test images decide nothing.
validation_fraction = 0.1
# Augmented versions of every image: \"crop\", \"flip\", \"cutout\". The spike cache keeps `views` of each; with 0 every
# epoch computes its own.
augment = {augment}
# views = 4

[network]
# `bloctrain spec presets` lists them; a network can be written out, layer by layer (docs/spec.md).
preset = {}
# Channels of the first layers: accuracy, time and memory grow with it.
width = {width}

[neuron]
# \"lif\" leaks, \"if\" does not, \"plif\" learns how much.
model = \"lif\"

[encoding]
# Time steps: each costs the same again.
steps = 4

[train]
epochs = {epochs}
batch = 64
# The preset's own for blocks, 0.004 end to end, unless it is written.
# learning_rate = 0.004
# Stop a block when validation has not become better for so many epochs; 0 trains all of them.
patience = 0

# What trains the next block, if not what the preset has: the inputs that a block is least sure of,
# [hard_inputs]
# fraction = 0.5
# or those of some classes: the ones below a threshold, \"bottom-k\", \"bottom-fraction\" or \"all\".
# [hard_classes]
# policy = \"threshold\"
# threshold = 0.9

[exit]
# Accuracy on validation data that leaving early may cost. Frozen blocks are kept: another value costs seconds.
max_accuracy_drop = 0.01

[run]
# Another seed is another run.
seed = 1
",
        shape.width,
        shape.height,
        shape.channels,
        quoted(own),
    )
}
