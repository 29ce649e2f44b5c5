//! `bench`: parts of the program, timed.

use crate::args::{BenchArgs, BenchCommand, BenchNetwork, BenchStepArgs};
use crate::failure::Failure;
use bloctrain_shared::RunSpec;
use bloctrain_shared::spec::check;
use bloctrain_worker::bench::{Images, step};
use serde::Serialize;

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.command {
        BenchCommand::Step(args) => step(&args),
    }
}

/// The network of some arguments with images that fit it.
fn network(args: &BenchNetwork, end_to_end: bool) -> Result<(RunSpec, Images), Failure> {
    let spec = args.spec(end_to_end).map_err(Failure::usage)?;
    check::check(&spec).map_err(Failure::usage)?;
    let images = match &args.data {
        None if args.preset != "small" => Images::enlarged()?,
        folder => Images::open(folder.as_deref())?,
    };
    check::check_on(&spec, images.shape()).map_err(Failure::usage)?;
    Ok((spec, images))
}

/// One JSON object on its own line.
fn print_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

#[derive(Serialize)]
struct StepFigures {
    bench: &'static str,
    /// Samples per second: of the whole network end to end, or of one after the other of its blocks.
    images_per_s: f64,
    training_mib: f64,
    firing_rate: f64,
    batch: u32,
    steps: usize,
    train_steps: u32,
    blocks: Vec<step::BlockFigures>,
}

fn step(args: &BenchStepArgs) -> Result<(), Failure> {
    let (spec, images) = network(&args.network, args.end_to_end)?;
    let options = step::Options {
        batch: args.batch as usize,
        train_steps: args.train_steps as usize,
        iters: args.iters as usize,
    };
    let blocks = step::step(&spec, &images, options, &clock()).map_err(anyhow::Error::msg)?;
    let seconds_per_image: f64 = blocks.iter().map(|block| 1.0 / block.images_per_s).sum();
    let figures = StepFigures {
        bench: "step",
        images_per_s: 1.0 / seconds_per_image,
        training_mib: blocks.iter().map(|block| block.training_mib).fold(0.0, f64::max),
        firing_rate: blocks.iter().map(|block| block.firing_rate).sum::<f64>() / blocks.len().max(1) as f64,
        batch: args.batch,
        steps: args.network.steps,
        train_steps: args.train_steps,
        blocks,
    };
    if args.json {
        return print_line(&figures);
    }
    println!("{:.1} images/s, {:.1} MiB, firing rate {:.3}", figures.images_per_s, figures.training_mib, figures.firing_rate);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> impl Fn() -> f64 {
    let begun = std::time::Instant::now();
    move || begun.elapsed().as_secs_f64()
}
