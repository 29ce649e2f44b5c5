//! From the layers of a specification to the plan that backends run, with its parameters.

use super::frozen::{FrozenLinear, FrozenNeuron};
use super::param::{BufferId, ParamId, Store, to_host};
use super::pass::Pass;
use crate::kernel::plan::{Body, Branch, Conv, Leak, Node, Norm as PlanNorm, Pool, Precision, Spiking};
use crate::kernel::{self, NeuronRule, SpikingBackend};
use bloctrain_shared::ImageShape;
use bloctrain_shared::spec::{LayerSpec, NeuronModel, NeuronSpec, Norm};
use burn::tensor::Tensor;
use burn::tensor::TensorData;
use burn::tensor::activation::sigmoid;

/// Where a norm keeps its running mean and variance.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Mean by channel.
    pub mean: BufferId,
    /// Unbiased variance by channel.
    pub variance: BufferId,
}

/// Builds a body: parameters go into a store that is empty at first, so their places in the flat vector are known.
pub struct Builder<'a, B: SpikingBackend> {
    store: &'a mut Store<B>,
    norm: Norm,
    neuron: &'a NeuronSpec,
    body: Body,
    running: Vec<Running>,
}

impl<'a, B: SpikingBackend> Builder<'a, B> {
    /// A body without layers.
    pub fn new(store: &'a mut Store<B>, input: ImageShape, steps: usize, norm: Norm, neuron: &'a NeuronSpec) -> Self {
        let body = Body { steps, input, nodes: Vec::new(), parameters: 0, statistics: Vec::new(), precision: Precision::Auto };
        Self { store, norm, neuron, body, running: Vec::new() }
    }

    /// Adds layer `index` (from 0). Shapes were checked when the specification was.
    pub fn layer(&mut self, index: usize, spec: &LayerSpec) {
        let name = format!("layer{}", index + 1);
        let source = self.body.output();
        let input = self.body.shape(source);
        let theta = self.neuron.threshold;
        match *spec {
            LayerSpec::Conv { channels, kernel, stride } => {
                let conv = Conv::square(input, channels, kernel, stride);
                let branch = self.convolution(&format!("{name}.conv"), source, conv, theta);
                self.spiking(&name, vec![branch]);
            }
            LayerSpec::Residual { channels, stride } => {
                let half = theta * std::f32::consts::FRAC_1_SQRT_2;
                let first = self.convolution(&format!("{name}.conv1"), source, Conv::square(input, channels, 3, 1), theta);
                self.spiking(&format!("{name}.neuron1"), vec![first]);
                let inner = self.body.output();
                let conv = Conv::square(self.body.shape(inner), channels, 3, stride);
                let second = self.convolution(&format!("{name}.conv2"), inner, conv, half);
                let conv = Conv::square(input, channels, 1, stride);
                let shortcut = self.convolution(&format!("{name}.shortcut"), source, conv, half);
                self.spiking(&format!("{name}.neuron2"), vec![second, shortcut]);
            }
            LayerSpec::Linear { features } => {
                let weight = self.store.parameters();
                self.store.weight(format!("{name}.linear.weight"), &[features, input.len()]);
                let bias = self.store.parameters();
                self.store.vector(format!("{name}.linear.bias"), features, 0.0);
                let branch = Branch { source, conv: Conv::full(input, features), weight, norm: PlanNorm::Bias(bias) };
                self.spiking(&name, vec![branch]);
            }
            LayerSpec::AvgPool { size } => self.body.nodes.push(Node::AvgPool(Pool { source, size, input })),
            LayerSpec::MaxPool { size } => self.body.nodes.push(Node::MaxPool(Pool { source, size, input })),
            LayerSpec::Dropout { p } => {
                self.body.nodes.push(Node::Dropout { source, p, index: index as u64, shape: input });
            }
        }
    }

    /// A convolution with its norm; tdBN starts its scale at `gain`.
    fn convolution(&mut self, name: &str, source: usize, conv: Conv, gain: f32) -> Branch {
        let channels = conv.outputs;
        let weight = self.store.parameters();
        self.store.weight(format!("{name}.weight"), &[channels, conv.input.channels, conv.kernel[0], conv.kernel[1]]);
        let at = self.store.parameters();
        if self.norm == Norm::None {
            self.store.vector(format!("{name}.bias"), channels, 0.0);
            return Branch { source, conv, weight, norm: PlanNorm::Bias(at) };
        }
        self.store.vector(format!("{name}.gamma"), channels, if self.norm == Norm::Td { gain } else { 1.0 });
        self.store.vector(format!("{name}.beta"), channels, 0.0);
        let mean = self.store.buffer(format!("{name}.running_mean"), channels, 0.0);
        let variance = self.store.buffer(format!("{name}.running_variance"), channels, 1.0);
        let statistic = self.running.len();
        self.running.push(Running { mean, variance });
        self.body.statistics.push(channels);
        Branch { source, conv, weight, norm: PlanNorm::Batch { gamma: at, beta: at + channels, statistic } }
    }

    fn spiking(&mut self, name: &str, branches: Vec<Branch>) {
        let output = branches[0].conv.output();
        let leak = match self.neuron.model {
            NeuronModel::If => Leak::Fixed(1.0),
            NeuronModel::Lif => Leak::Fixed(self.neuron.leak),
            NeuronModel::Plif => {
                let at = self.store.parameters();
                self.store.vector(format!("{name}.leak_logit"), 1, leak_logit(self.neuron));
                Leak::Learned(at)
            }
        };
        let rule = NeuronRule::new(self.neuron);
        self.body.nodes.push(Node::Spiking(Spiking { branches, rule, leak, output }));
    }

    /// The body and where its norms keep their running statistics.
    pub fn finish(mut self) -> (Body, Vec<Running>) {
        self.body.parameters = self.store.parameters();
        (self.body, self.running)
    }
}

/// The parameter whose sigmoid is the initial leak.
fn leak_logit(spec: &NeuronSpec) -> f32 {
    let leak = spec.leak.clamp(1e-3, 1.0 - 1e-3);
    (leak / (1.0 - leak)).ln()
}

/// Neurons outside a body: the rule, and the leak that is fixed or learned.
#[derive(Debug, Clone)]
pub struct NeuronUnit {
    rule: NeuronRule,
    leak: UnitLeak,
}

#[derive(Debug, Clone, Copy)]
enum UnitLeak {
    Fixed(f32),
    Learned(ParamId),
}

impl NeuronUnit {
    /// Neurons of a specification; a learned leak becomes a parameter of `store`.
    pub fn new<B: SpikingBackend>(store: &mut Store<B>, name: &str, spec: &NeuronSpec) -> Self {
        let leak = match spec.model {
            NeuronModel::If => UnitLeak::Fixed(1.0),
            NeuronModel::Lif => UnitLeak::Fixed(spec.leak),
            NeuronModel::Plif => UnitLeak::Learned(store.vector(format!("{name}.leak_logit"), 1, leak_logit(spec))),
        };
        Self { rule: NeuronRule::new(spec), leak }
    }

    /// The same with its leak as it is now.
    pub fn freeze<B: SpikingBackend>(&self, store: &Store<B>) -> FrozenNeuron {
        let leak = match self.leak {
            UnitLeak::Fixed(leak) => leak,
            UnitLeak::Learned(id) => to_host(sigmoid(store.flat(id)))[0],
        };
        FrozenNeuron { rule: self.rule, leak }
    }

    /// Spikes of neurons driven by `x [T * B, features]`, in the same shape.
    pub fn forward<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let shape = x.dims();
        let sites = shape.iter().product::<usize>() / pass.steps;
        let leak = match self.leak {
            UnitLeak::Fixed(leak) => Tensor::from_data(TensorData::new(vec![leak], [1]), store.device()),
            UnitLeak::Learned(id) => sigmoid(store.flat(id)),
        };
        let spikes = kernel::neuron(x.reshape([pass.steps, sites]), leak, self.rule);
        pass.saw_spikes(&spikes);
        spikes.reshape(shape)
    }
}

/// A fully connected layer with bias, outside a body.
#[derive(Debug, Clone)]
pub struct LinearUnit {
    weight: ParamId,
    bias: ParamId,
    outputs: usize,
}

impl LinearUnit {
    /// A layer from `inputs` to `outputs` features.
    pub fn new<B: SpikingBackend>(store: &mut Store<B>, name: &str, inputs: usize, outputs: usize) -> Self {
        let weight = store.weight(format!("{name}.weight"), &[outputs, inputs]);
        let bias = store.vector(format!("{name}.bias"), outputs, 0.0);
        Self { weight, bias, outputs }
    }

    /// The same with its weights as they are now.
    pub fn freeze<B: SpikingBackend>(&self, store: &Store<B>) -> FrozenLinear {
        FrozenLinear::new(&to_host(store.flat(self.weight)), to_host(store.flat(self.bias)))
    }

    /// `x [N, inputs]` to `[N, outputs]`; `binary` says whether x is zeros and ones, for the count.
    pub fn forward<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, x: Tensor<B, 2>, binary: bool) -> Tensor<B, 2> {
        pass.count_linear(&x, binary, self.outputs);
        B::fully_connected(x, store.get::<2>(self.weight)) + store.flat(self.bias).unsqueeze_dim::<2>(0)
    }
}
