//! Training steps, for `bench step`.
//!
//! Blocks are trained for some steps first, each on the spikes of the frozen one before, so that the neurons fire as
//! they do in training and not as they do at random initial weights.

use super::{Clock, Images, MIB, SEED, WARM_UP, image_tensor, median};
use crate::device::{Device, failure};
use crate::kernel::{BodyInput, Mode};
use crate::model::network::load_block;
use crate::snn::block::{BlockConfig, BlockNet};
use crate::snn::pass::Pass;
use crate::snn::trainer::{MicroBatch, StepMetrics, Trainer, TrainingBackend};
use bloctrain_infer::NamedTensors;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::RunSpec;
use bloctrain_shared::graph::Graph;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::backend::AutodiffBackend;
use serde::Serialize;

/// Learning rate of all steps.
const RATE: f64 = 1e-3;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Samples in a step.
    pub batch: usize,
    /// Steps that train each block before the clock runs.
    pub train_steps: usize,
    /// Steps that are timed.
    pub iters: usize,
}

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
    /// Share of ones in the spikes that enter it; `null` for images.
    pub input_rate: Option<f64>,
    /// Mean loss of the last timed step.
    pub loss: f64,
}

/// Times training steps of every block of a network (of one, end to end) on a device (after [`Device::resolve`]).
///
/// # Errors
/// When the network cannot be built on the images.
pub fn step(
    spec: &RunSpec,
    images: &Images,
    device: Device,
    options: Options,
    clock: Clock<'_>,
) -> Result<Vec<BlockFigures>, String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => {
            let device = burn_cuda::CudaDevice::new(number);
            let blocks = || blocks::<Autodiff<burn_cuda::Cuda>>(spec, images, &device, options, clock);
            failure::guarded(blocks).map(|(figures, _)| figures)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu => {
            let device = Default::default();
            blocks::<Autodiff<burn_wgpu::Wgpu>>(spec, images, &device, options, clock).map(|(figures, _)| figures)
        }
        _ => blocks::<Autodiff<Flex>>(spec, images, &Default::default(), options, clock).map(|(figures, _)| figures),
    }
}

/// The blocks of a network, each trained for some steps on the spikes of the ones before.
pub(super) fn trained(spec: &RunSpec, images: &Images, train_steps: usize) -> Result<Vec<BlockNet<Flex>>, String> {
    let options = Options { batch: 32, train_steps, iters: 0 };
    blocks::<Autodiff<Flex>>(spec, images, &Default::default(), options, &|| 0.0).map(|(_, nets)| nets)
}

/// Figures of every block, and the blocks.
type Blocks<B> = (Vec<BlockFigures>, Vec<BlockNet<<B as AutodiffBackend>::InnerBackend>>);

fn blocks<B: TrainingBackend>(
    spec: &RunSpec,
    images: &Images,
    device: &B::Device,
    options: Options,
    clock: Clock<'_>,
) -> Result<Blocks<B>, String> {
    let config =
        |block: u32| BlockConfig::new(spec, images.shape(), block, images.classes()).map_err(|error| error.to_string());
    let blocks = Graph::new(spec, images.shape()).map_err(|error| error.to_string())?.blocks.len();
    let blocks = u32::try_from(blocks).map_err(|error| error.to_string())?;
    let mut source = Source::<B> { images, device: device.clone(), frozen: Vec::new() };
    let mut figures = Vec::new();
    for block in 1..=blocks {
        let config = config(block)?;
        let mut trainer = Trainer::<B>::new(&config, &spec.train, device);
        figures.push(measure(block, &mut trainer, &source, options, clock)?);
        let weights = NamedTensors { tensors: trainer.net.store.export(), ..NamedTensors::default() };
        source.frozen.push(load_block(spec, images.shape(), block, images.classes(), &weights, device)?);
    }
    Ok((figures, source.frozen))
}

fn measure<B: TrainingBackend>(
    block: u32,
    trainer: &mut Trainer<B>,
    source: &Source<'_, B>,
    options: Options,
    clock: Clock<'_>,
) -> Result<BlockFigures, String> {
    let untimed = options.train_steps + WARM_UP as usize;
    let (mut times, mut peak, mut last, mut input_rate) = (Vec::new(), 0, StepMetrics::default(), None);
    for number in 0..untimed + options.iters {
        let (input, labels) = source.batch(options.batch, number);
        input_rate = if let BodyInput::Spikes(spikes) = &input { Some(spikes.rate()) } else { None };
        let micro_batch = std::iter::once(Ok::<_, String>(MicroBatch { input, labels, mixed: Vec::new() }));
        let measure = number + 1 == untimed + options.iters;
        if measure {
            trainer.settle(&mut StepMetrics::default());
        }
        finish::<B>(&source.device)?;
        let begun = clock();
        let mut metrics = trainer.step(micro_batch, options.batch, RATE, number as u64, measure)?;
        finish::<B>(&source.device)?;
        if number >= untimed {
            times.push(clock() - begun);
            peak = peak.max(metrics.working_bytes);
        }
        if measure {
            trainer.settle(&mut metrics);
        }
        last = metrics;
    }
    Ok(BlockFigures {
        block,
        images_per_s: options.batch as f64 / median(times),
        training_mib: (peak + trainer.state_bytes()) as f64 / MIB,
        firing_rate: last.firing_rate.unwrap_or(0.0),
        input_rate,
        loss: last.loss_sum / last.samples.max(1) as f64,
    })
}

/// Waits until the device has done what was asked of it.
fn finish<B: TrainingBackend>(device: &B::Device) -> Result<(), String> {
    let synced = B::sync(device).map_err(|error| failure::brief(&format!("the device failed: {error:?}")));
    failure::take().map_or(synced, Err)
}

/// Input of a block: images, through the frozen blocks before it.
struct Source<'a, B: TrainingBackend> {
    images: &'a Images,
    device: B::Device,
    frozen: Vec<BlockNet<B::InnerBackend>>,
}

impl<B: TrainingBackend> Source<'_, B> {
    fn batch(&self, batch: usize, number: usize) -> (BodyInput<B>, Vec<usize>) {
        let (values, labels) = self.images.batch(batch, number);
        let image = image_tensor::<B::InnerBackend>(values, self.images.shape(), &self.device);
        let mut spikes: Option<Spikes> = None;
        for net in &self.frozen {
            let input = spikes.map_or_else(|| BodyInput::Image(image.clone()), BodyInput::Spikes);
            // Statistics of the batch: the running ones are not worth much after few steps.
            let mut pass = Pass::new(net.steps(), batch, Mode::Train { seed: SEED });
            spikes = Some(net.body(input, &mut pass).into_spikes(batch));
        }
        let input = match spikes {
            Some(spikes) => BodyInput::Spikes(spikes),
            None => BodyInput::Image(burn_tensor::Tensor::from_inner(image)),
        };
        (input, labels)
    }
}
