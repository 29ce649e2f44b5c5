//! `bench step`: a training step on random images, timed.

use super::print_json;
use crate::args::{BenchArgs, BenchCommand, BenchStepArgs};
use crate::failure::Failure;
use bloctrain_shared::spec::{Override, check, parse};
use bloctrain_shared::{ImageShape, RunSpec};
use bloctrain_worker::bench;
use serde::Serialize;

#[derive(Serialize)]
struct StepFigures {
    /// Samples per second: of the whole network end to end, or of one after the other of its blocks.
    images_per_s: f64,
    training_mib: f64,
    firing_rate: f64,
    blocks: Vec<bench::BlockFigures>,
}

pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    let BenchCommand::Step(args) = args.command;
    let spec = spec(&args)?;
    let image = if args.preset == "small" { ImageShape::new(1, 28, 28) } else { ImageShape::new(3, 32, 32) };
    check::check_on(&spec, image).map_err(Failure::usage)?;
    let blocks = bench::step(&spec, image, args.batch as usize, args.iters, &seconds()).map_err(anyhow::Error::msg)?;
    let seconds_per_image: f64 = blocks.iter().map(|block| 1.0 / block.images_per_s).sum();
    let figures = StepFigures {
        images_per_s: 1.0 / seconds_per_image,
        training_mib: blocks.iter().map(|block| block.training_mib).fold(0.0, f64::max),
        firing_rate: blocks.iter().map(|block| block.firing_rate).sum::<f64>() / blocks.len().max(1) as f64,
        blocks,
    };
    if args.json {
        return print_json(&figures);
    }
    println!("{:.1} images/s, {:.1} MiB, firing rate {:.3}", figures.images_per_s, figures.training_mib, figures.firing_rate);
    Ok(())
}

fn spec(args: &BenchStepArgs) -> Result<RunSpec, Failure> {
    let integer = |value: usize| toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let pair = |path: &str, value: toml::Value| Override { path: path.to_owned(), value };
    let mut changes = vec![
        pair("network.preset", args.preset.clone().into()),
        pair("encoding.steps", integer(args.steps)),
        pair("run.end_to_end", args.end_to_end.into()),
    ];
    changes.extend(args.width.map(|width| pair("network.width", integer(width))));
    let spec = parse("", &changes).map_err(Failure::usage)?;
    check::check(&spec).map_err(Failure::usage)?;
    Ok(spec)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn seconds() -> impl Fn() -> f64 {
    let begun = std::time::Instant::now();
    move || begun.elapsed().as_secs_f64()
}
