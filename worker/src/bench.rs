//! Training steps on random images, for `bench step`.

use crate::kernel::BodyInput;
use crate::kernel::spikes::Spikes;
use crate::snn::block::BlockConfig;
use crate::snn::trainer::{Batch, Trainer};
use bloctrain_shared::geometry::trace;
use bloctrain_shared::{ImageShape, RunSpec, seed};
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use serde::Serialize;

/// Steps before the clock counts.
const WARM_UP: u32 = 2;

/// Share of positions at which a random input spikes.
const INPUT_RATE: f32 = 0.15;

/// Figures of one block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlockFigures {
    /// The block, from 1.
    pub block: u32,
    /// Samples per second of a full training step, by the median step.
    pub images_per_s: f64,
    /// Largest live memory of a step: parameters, optimiser state and everything that the step makes.
    pub training_mib: f64,
    /// Mean firing rate over its spiking layers in the last step.
    pub firing_rate: f64,
}

/// Times `iters` training steps of every block of a network (one, end to end) with `batch` samples.
///
/// # Errors
/// When the network cannot be built on the image shape.
pub fn step(
    spec: &RunSpec,
    image: ImageShape,
    batch: usize,
    iters: u32,
    seconds: &dyn Fn() -> f64,
) -> Result<Vec<BlockFigures>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let network = BlockConfig::new(spec, image, 1, 10).map_err(|error| text(&error))?.network;
    let geometry = trace(&network, image).map_err(|error| text(&error))?;
    let mut figures = Vec::with_capacity(geometry.len());
    for (index, shapes) in geometry.iter().enumerate() {
        let block = index as u32 + 1;
        let config = BlockConfig::new(spec, image, block, 10).map_err(|error| text(&error))?;
        let device = Default::default();
        let mut trainer = Trainer::<Autodiff<Flex>>::new(&config, &spec.train, &device).map_err(|error| text(&error))?;
        let (mut times, mut peak, mut firing_rate) = (Vec::new(), 0, 0.0);
        for iteration in 0..WARM_UP + iters {
            let input = random_input(shapes.input, block, spec.encoding.steps, batch, iteration.into());
            let labels = (0..batch).map(|sample| sample % 10).collect();
            let begun = seconds();
            let micro_batch = std::iter::once(Ok::<_, String>(Batch { input, labels }));
            let last = iteration + 1 == WARM_UP + iters;
            let metrics = trainer.step(micro_batch, batch, 1e-3, iteration.into(), last)?;
            if iteration >= WARM_UP {
                times.push(seconds() - begun);
            }
            peak = peak.max(metrics.working_bytes + trainer.state_bytes());
            firing_rate = metrics.firing_rate.unwrap_or(firing_rate);
        }
        times.sort_by(f64::total_cmp);
        let images_per_s = batch as f64 / times[times.len() / 2].max(1e-9);
        figures.push(BlockFigures { block, images_per_s, training_mib: peak as f64 / f64::from(1 << 20), firing_rate });
    }
    Ok(figures)
}

fn random_input(shape: ImageShape, block: u32, steps: usize, batch: usize, iteration: u64) -> BodyInput<Autodiff<Flex>> {
    let mut rng = seed::rng(1, "bench", &[block.into(), iteration]);
    let device = Default::default();
    let ImageShape { channels, height, width } = shape;
    if block == 1 {
        let values: Vec<f32> = (0..batch * shape.len()).map(|_| rng.random_range(-1.7..1.7)).collect();
        return BodyInput::Image(Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), &device));
    }
    let values: Vec<f32> =
        (0..steps * batch * shape.len()).map(|_| f32::from(u8::from(rng.random::<f32>() < INPUT_RATE))).collect();
    BodyInput::Spikes(Spikes::from_values(&values, batch, steps, shape))
}
