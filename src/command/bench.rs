//! `bench`: parts of the program, timed.

use super::model::test_data;
#[cfg(feature = "cuda")]
use crate::args::BenchConvolutionArgs;
use crate::args::{
    BenchArgs, BenchCacheArgs, BenchCommand, BenchInferenceArgs, BenchLayerArgs, BenchNetwork, BenchStepArgs,
};
use crate::failure::Failure;
use crate::table::percent;
use anyhow::Context;
use bloctrain_shared::spec::check;
use bloctrain_shared::{ImageShape, RunSpec};
use bloctrain_store::Artefacts;
use bloctrain_worker::bench::{Images, cache, inference, layer, step};
use bloctrain_worker::model::place::Place;
use bloctrain_worker::stage::io::Io;
use serde::Serialize;
use std::path::Path;

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.command {
        BenchCommand::Step(args) => step(&args),
        BenchCommand::Layer(args) => layer(&args),
        #[cfg(feature = "cuda")]
        BenchCommand::Convolution(args) => convolution(&args),
        BenchCommand::Inference(args) => inference(&args),
        BenchCommand::Cache(args) => cache(&args),
    }
}

/// The network of some arguments with images that fit it.
fn network(args: &BenchNetwork, end_to_end: bool) -> Result<(RunSpec, Images), Failure> {
    let given = args.given(end_to_end).map_err(Failure::usage)?;
    check::check(&given.spec).map_err(Failure::usage)?;
    given.check_read().map_err(Failure::usage)?;
    let spec = given.spec;
    let images = match &args.data {
        None if args.preset != "small" => Images::enlarged()?,
        folder => Images::open(folder.as_deref())?,
    };
    check::check_on(&spec, images.shape()).map_err(Failure::usage)?;
    Ok((spec, images))
}

/// One JSON object on its own line.
fn print_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    tell!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Figures with what they are of, as one JSON object.
#[derive(Serialize)]
struct Line<'a, Asked: Serialize, Found: Serialize> {
    bench: &'static str,
    #[serde(flatten)]
    asked: &'a Asked,
    #[serde(flatten)]
    found: &'a Found,
}

#[derive(Serialize)]
struct StepAsked<'a> {
    preset: &'a str,
    width: Option<usize>,
    steps: usize,
    batch: u32,
    end_to_end: bool,
    train_steps: u32,
    device: String,
}

#[derive(Serialize)]
struct StepFigures {
    /// Samples per second: of the whole network end to end, or of one after the other of its blocks.
    images_per_s: f64,
    training_mib: f64,
    firing_rate: f64,
    blocks: Vec<step::BlockFigures>,
}

fn step(args: &BenchStepArgs) -> Result<(), Failure> {
    let (spec, images) = network(&args.network, args.end_to_end)?;
    let options = step::Options {
        batch: args.batch as usize,
        train_steps: args.train_steps as usize,
        iters: args.iters as usize,
    };
    let device = args.device.resolve().map_err(Failure::usage)?;
    let blocks = step::step(&spec, &images, device, options, &clock()).map_err(anyhow::Error::msg)?;
    let seconds_per_image: f64 = blocks.iter().map(|block| 1.0 / block.images_per_s).sum();
    let figures = StepFigures {
        images_per_s: 1.0 / seconds_per_image,
        training_mib: blocks.iter().map(|block| block.training_mib).fold(0.0, f64::max),
        firing_rate: blocks.iter().map(|block| block.firing_rate).sum::<f64>() / blocks.len().max(1) as f64,
        blocks,
    };
    if args.json {
        let BenchNetwork { preset, width, steps, .. } = &args.network;
        let (batch, end_to_end, train_steps) = (args.batch, args.end_to_end, args.train_steps);
        let asked = StepAsked {
            preset,
            width: *width,
            steps: *steps,
            batch,
            end_to_end,
            train_steps,
            device: device.to_string(),
        };
        return print_line(&Line { bench: "step", asked: &asked, found: &figures });
    }
    tell!("block   images/s   training memory   firing rate");
    for block in &figures.blocks {
        let rate = percent(block.firing_rate);
        tell!("{:>5} {:>10.1} {:>13.1} MiB {:>13}", block.block, block.images_per_s, block.training_mib, rate);
    }
    let rate = percent(figures.firing_rate);
    tell!("  all {:>10.1} {:>13.1} MiB {:>13}", figures.images_per_s, figures.training_mib, rate);
    Ok(())
}

#[derive(Serialize)]
struct LayerAsked {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    side: usize,
    steps: usize,
    batch: usize,
}

fn layer(args: &BenchLayerArgs) -> Result<(), Failure> {
    let (kernel, stride, side) = (usize::from(args.kernel), usize::from(args.stride), usize::from(args.side));
    if kernel % 2 == 0 {
        return Err(Failure::usage(anyhow::anyhow!("--kernel {kernel} is even; use an odd side such as 3")));
    }
    if stride > side {
        return Err(Failure::usage(anyhow::anyhow!("--stride {stride} is larger than --side {side}")));
    }
    let (inputs, outputs) = (usize::from(args.inputs), usize::from(args.outputs));
    let (steps, batch) = (usize::from(args.steps), args.batch as usize);
    if !args.json {
        tell!("input rate   images/s   forward ms   backward ms   input gradient ms   Gadd/s   GMAC/s   reference");
    }
    for &rate in &args.rates {
        let input = ImageShape::new(inputs, side, side);
        let options = layer::Options { input, outputs, kernel, stride, steps, batch, rate, iters: args.iters };
        let found = layer::layer(options, &clock());
        if args.json {
            let asked = LayerAsked { inputs, outputs, kernel, stride, side, steps, batch };
            print_line(&Line { bench: "layer", asked: &asked, found: &found })?;
            continue;
        }
        let ms = |seconds: f64| format!("{:.2}", 1e3 * seconds);
        let noise = || "noise".to_owned();
        tell!(
            "{:>10} {:>10.1} {:>12} {:>13} {:>19} {:>8.1} {:>8} {:>10.1}x",
            percent(found.rate),
            found.images_per_s,
            ms(found.forward_s),
            ms(found.backward_s),
            found.input_gradient_s.map_or_else(noise, ms),
            found.forward_gadd_per_s,
            found.input_gradient_gmac_per_s.map_or_else(noise, |speed| format!("{speed:.1}")),
            found.reference_ratio
        );
    }
    Ok(())
}

/// One JSON object a line, as they are found.
#[cfg(feature = "cuda")]
fn convolution(args: &BenchConvolutionArgs) -> Result<(), Failure> {
    use bloctrain_worker::bench::convolution::{Figures, convolutions};
    let (spec, images) = network(&args.network, true)?;
    let device = args.device.resolve().map_err(Failure::usage)?;
    let amount = (args.batch as usize, args.iters as usize);
    let mut printed = Ok(());
    let print = |found: Figures| {
        if let Err(failure) = print_line(&found) {
            printed = Err(failure);
        }
    };
    convolutions(&spec, &images, device, amount, &clock(), print).map_err(anyhow::Error::msg)?;
    printed
}

#[derive(Serialize)]
struct InferenceAsked<'a> {
    network: &'a str,
    width: Option<usize>,
    steps: usize,
    batch: u32,
}

fn inference(args: &BenchInferenceArgs) -> Result<(), Failure> {
    let options = inference::Options { batch: args.batch as usize, iters: args.iters };
    let (asked, figures) = match &args.model {
        Some(model) => {
            let package = Place::of(model)?.package()?;
            let dataset = test_data(&package, args.network.data.as_deref())?;
            let spec = &package.manifest.spec;
            let (width, steps) = (spec.network.width, spec.encoding.steps);
            let asked = InferenceAsked { network: &package.manifest.run.clone(), width, steps, batch: args.batch };
            (serde_json::to_value(asked)?, inference::model(&package, &dataset, options, &clock()))
        }
        None => {
            let (spec, images) = network(&args.network, args.end_to_end)?;
            let BenchNetwork { preset, width, steps, .. } = &args.network;
            let asked = InferenceAsked { network: preset, width: *width, steps: *steps, batch: args.batch };
            let train_steps = args.train_steps as usize;
            let found = inference::preset(&spec, &images, options, train_steps, args.exit_fraction, &clock());
            (serde_json::to_value(asked)?, found)
        }
    };
    let figures = figures.map_err(anyhow::Error::msg)?;
    if !args.json {
        tell!("exits     images/s   leave at each block");
    }
    for found in &figures {
        if args.json {
            print_line(&Line { bench: "inference", asked: &asked, found })?;
            continue;
        }
        let fractions: Vec<String> = found.exit_fraction.iter().map(|&fraction| percent(fraction)).collect();
        tell!("{:7} {:>10.1}   {}", found.exits.name(), found.images_per_s, fractions.join("  "));
    }
    Ok(())
}

fn cache(args: &BenchCacheArgs) -> Result<(), Failure> {
    let (spec, images) = network(&args.network, false)?;
    let temporary = tempfile::tempdir().context("cannot make a temporary folder; give one with --store")?;
    let folder: &Path = args.store.as_deref().unwrap_or(temporary.path());
    let artefacts = Artefacts::open(&folder.to_string_lossy())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let io = Io::new(artefacts, runtime.handle().clone());
    let amount = (args.shards, args.train_steps as usize);
    let found = cache::cache(&spec, &images, amount, (&io, folder), &clock()).map_err(anyhow::Error::msg)?;
    if args.json {
        let BenchNetwork { preset, width, steps, .. } = &args.network;
        let asked = serde_json::json!({ "preset": preset, "width": width, "steps": steps, "shards": args.shards });
        return print_line(&Line { bench: "cache", asked: &asked, found: &found });
    }
    tell!("GB/s of spikes before compression    write     read");
    tell!("cache                             {:>8.3} {:>8.3}", found.write_gb_per_s, found.read_gb_per_s);
    tell!("disk (the compressed bytes)       {:>8.3} {:>8.3}", found.disk_write_gb_per_s, found.disk_read_gb_per_s);
    tell!(
        "zstd                              {:>8.3} {:>8.3}",
        found.zstd_compress_gb_per_s,
        found.zstd_decompress_gb_per_s
    );
    tell!(
        "{} bytes, compressed {:.2} times, {} ones",
        found.bytes,
        found.compression_ratio,
        percent(found.firing_rate)
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> impl Fn() -> f64 {
    let begun = std::time::Instant::now();
    move || begun.elapsed().as_secs_f64()
}
