//! A trained network on any backend: inference as it is, with the blocks' own layers on the backend's device.

use crate::kernel::{BodyInput, ConvPrecision, SpikingBackend};
use crate::snn::block::{BlockConfig, BlockNet};
use bloctrain_infer::{BlockParts, Layers, LoadError, NamedTensors, Network};
use bloctrain_kernel::count::Count;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::spec::RunSpec;
use burn_tensor::{Tensor, TensorData};

/// The own layers of a frozen block on a backend. On the CPU they are those of inference.
#[derive(Debug)]
pub struct OnDevice<B: SpikingBackend>(B::Frozen);

impl<B: SpikingBackend> Layers for OnDevice<B> {
    type Input = BodyInput<B>;

    fn samples(input: &BodyInput<B>) -> usize {
        input.batch()
    }

    fn run(&self, input: BodyInput<B>, count: bool) -> (Spikes, Count) {
        let batch = input.batch();
        let (emitted, count) = B::run_frozen(&self.0, input, count);
        (emitted.into_spikes(batch), count)
    }
}

/// The network of a specification with given parameters.
///
/// # Errors
/// When parameters do not fit the network.
pub fn load_network<B: SpikingBackend>(
    spec: &RunSpec,
    image: ImageShape,
    parts: &[BlockParts],
    device: &B::Device,
) -> Result<Network<OnDevice<B>>, LoadError> {
    let precision = ConvPrecision::from(spec.train.precision);
    Network::on(spec, image, parts, |body, params, running| {
        let length = params.len();
        let params = Tensor::from_data(TensorData::new(params, [length]), device);
        OnDevice(B::freeze(body, params, running, precision))
    })
}

/// Block `number` (from 1) with given parameters.
///
/// # Errors
/// When the parameters do not fit.
pub fn load_block<B: SpikingBackend>(
    spec: &RunSpec,
    image: ImageShape,
    number: u32,
    classes: usize,
    weights: &NamedTensors,
    device: &B::Device,
) -> Result<BlockNet<B>, LoadError> {
    let config =
        BlockConfig::new(spec, image, number, classes).map_err(|error| LoadError::Network(error.to_string()))?;
    let mut net = BlockNet::new(&config, device);
    net.store.load(weights).map_err(|error| LoadError::Block { block: number, problem: error.to_string() })?;
    Ok(net)
}
