//! Convolution, norm, neuron, residual pair, linear, pooling and dropout.

use super::param::{BufferId, ParamId, Store};
use super::pass::{Flow, Mode, Pass, Statistics};
use crate::kernel::{self, ConvRule, NeuronRule, SpikingBackend};
use crate::snn::param::to_host;
use bloctrain_shared::ImageShape;
use bloctrain_shared::geometry::layer_output;
use bloctrain_shared::seed;
use bloctrain_shared::spec::{LayerSpec, NeuronModel, NeuronSpec, Norm};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;

/// Added to the variance in norms, as in PyTorch.
pub const EPSILON: f32 = 1e-5;

/// Convolution and norm.
#[derive(Debug, Clone)]
struct ConvUnit {
    weight: ParamId,
    norm: NormUnit,
    input: ImageShape,
    output: ImageShape,
    kernel: usize,
    rule: ConvRule,
}

#[derive(Debug, Clone)]
enum NormUnit {
    Batch { gamma: ParamId, beta: ParamId, mean: BufferId, variance: BufferId },
    Bias(ParamId),
}

/// A layer of neurons: the rule, and the leak that is fixed or learned.
#[derive(Debug, Clone)]
pub struct NeuronUnit {
    rule: NeuronRule,
    leak: Leak,
}

#[derive(Debug, Clone, Copy)]
enum Leak {
    Fixed(f32),
    /// `leak = sigmoid(w)`.
    Learned(ParamId),
}

impl NeuronUnit {
    /// Neurons of a specification; a learned leak becomes a parameter of `store`.
    pub fn new<B: SpikingBackend>(store: &mut Store<B>, name: &str, spec: &NeuronSpec) -> Self {
        let leak = match spec.model {
            NeuronModel::If => Leak::Fixed(1.0),
            NeuronModel::Lif => Leak::Fixed(spec.leak),
            NeuronModel::Plif => {
                let leak = spec.leak.clamp(1e-3, 1.0 - 1e-3);
                Leak::Learned(store.vector(format!("{name}.leak_logit"), 1, (leak / (1.0 - leak)).ln()))
            }
        };
        Self { rule: NeuronRule::new(spec), leak }
    }

    /// Spikes of neurons driven by `x [T * B, ...]`, in the same shape.
    pub fn forward<B: SpikingBackend, const D: usize>(&self, store: &Store<B>, pass: &mut Pass, x: Tensor<B, D>) -> Tensor<B, D> {
        let shape = x.dims();
        let sites = shape.iter().product::<usize>() / pass.steps;
        let leak = match self.leak {
            Leak::Fixed(leak) => Tensor::from_data(TensorData::new(vec![leak], [1]), store.device()),
            Leak::Learned(id) => sigmoid(store.flat(id)),
        };
        let spikes = kernel::neuron(x.reshape([pass.steps, sites]), leak, self.rule);
        pass.saw_spikes(&spikes);
        spikes.reshape(shape)
    }
}

impl ConvUnit {
    fn new<B: SpikingBackend>(
        store: &mut Store<B>,
        name: &str,
        input: ImageShape,
        spec: &LayerSpec,
        norm: Norm,
        gain: f32,
    ) -> Self {
        let LayerSpec::Conv { channels, kernel, stride } = *spec else { unreachable!("only called with convolutions") };
        let output = layer_output(spec, input).expect("shapes were checked when the spec was");
        let weight = store.weight(format!("{name}.weight"), &[channels, input.channels, kernel, kernel]);
        let norm = match norm {
            Norm::None => NormUnit::Bias(store.vector(format!("{name}.bias"), channels, 0.0)),
            Norm::Batch | Norm::Td => NormUnit::Batch {
                gamma: store.vector(format!("{name}.gamma"), channels, if norm == Norm::Td { gain } else { 1.0 }),
                beta: store.vector(format!("{name}.beta"), channels, 0.0),
                mean: store.buffer(format!("{name}.running_mean"), channels, 0.0),
                variance: store.buffer(format!("{name}.running_variance"), channels, 1.0),
            },
        };
        Self { weight, norm, input, output, kernel, rule: ConvRule { stride, padding: kernel / 2 } }
    }

    /// Normalised convolution of the input, `[T * B, O, H', W']`; a constant input is computed once.
    fn forward<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, input: &Flow<B>) -> Tensor<B, 4> {
        pass.count_conv(input, self.input, self.output.channels, self.kernel, self.rule.stride);
        let (x, constant) = match input {
            Flow::Constant(x) => (x.clone(), true),
            Flow::Changing { x, .. } => (x.clone(), false),
        };
        let y = kernel::conv2d(x, store.get(self.weight), self.rule);
        let y = self.normalise(store, pass, y);
        if !constant {
            return y;
        }
        let [batch, channels, height, width] = y.dims();
        let repeated: Tensor<B, 5> = y.unsqueeze_dim::<5>(0).expand([pass.steps, batch, channels, height, width]);
        repeated.reshape([pass.steps * batch, channels, height, width])
    }

    fn normalise<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, y: Tensor<B, 4>) -> Tensor<B, 4> {
        let channels = self.output.channels;
        match self.norm {
            NormUnit::Bias(bias) => y + store.flat(bias).reshape([1, channels, 1, 1]),
            NormUnit::Batch { gamma, beta, mean, variance } if pass.mode == Mode::Eval => {
                let scale = store.flat(gamma) / store.statistic(variance).add_scalar(EPSILON).sqrt();
                let shift = store.flat(beta) - store.statistic(mean) * scale.clone();
                y * scale.reshape([1, channels, 1, 1]) + shift.reshape([1, channels, 1, 1])
            }
            NormUnit::Batch { gamma, beta, mean, variance } => {
                let [frames, _, height, width] = y.dims();
                let (y, batch_mean, batch_variance) = kernel::batch_norm(y, store.flat(gamma), store.flat(beta), EPSILON);
                let count = (frames * height * width) as f32;
                let unbiased = count / (count - 1.0).max(1.0);
                let variance_values = to_host(batch_variance).into_iter().map(|value| value * unbiased).collect();
                let new =
                    Statistics { mean_id: mean, variance_id: variance, mean: to_host(batch_mean), variance: variance_values };
                pass.statistics.push(new);
                y
            }
        }
    }
}

/// A fully connected layer with bias.
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

    /// `x [N, inputs]` to `[N, outputs]`; `binary` says whether x is zeros and ones, for the count.
    pub fn forward<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, x: Tensor<B, 2>, binary: bool) -> Tensor<B, 2> {
        pass.count_linear(&x, binary, self.outputs);
        x.matmul(store.get::<2>(self.weight).transpose()) + store.flat(self.bias).unsqueeze_dim::<2>(0)
    }
}

/// One layer of a block.
#[derive(Debug, Clone)]
pub struct Layer {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Conv { conv: ConvUnit, neuron: NeuronUnit },
    Residual { first: ConvUnit, first_neuron: NeuronUnit, second: ConvUnit, shortcut: ConvUnit, neuron: NeuronUnit },
    Linear { linear: LinearUnit, neuron: NeuronUnit },
    AvgPool(usize),
    MaxPool(usize),
    Dropout { p: f32, index: u64 },
}

impl Layer {
    /// Builds a layer on `input`, with its parameters in `store`.
    pub fn new<B: SpikingBackend>(
        store: &mut Store<B>,
        index: usize,
        spec: &LayerSpec,
        input: ImageShape,
        norm: Norm,
        neuron: &NeuronSpec,
    ) -> Self {
        let name = format!("layer{}", index + 1);
        let theta = neuron.threshold;
        let kind = match *spec {
            LayerSpec::Conv { .. } => Kind::Conv {
                conv: ConvUnit::new(store, &format!("{name}.conv"), input, spec, norm, theta),
                neuron: NeuronUnit::new(store, &name, neuron),
            },
            LayerSpec::Residual { channels, stride } => {
                let conv = |kernel, stride| LayerSpec::Conv { channels, kernel, stride };
                let half = theta * std::f32::consts::FRAC_1_SQRT_2;
                let first = ConvUnit::new(store, &format!("{name}.conv1"), input, &conv(3, 1), norm, theta);
                let first_neuron = NeuronUnit::new(store, &format!("{name}.neuron1"), neuron);
                let second = ConvUnit::new(store, &format!("{name}.conv2"), first.output, &conv(3, stride), norm, half);
                let shortcut = ConvUnit::new(store, &format!("{name}.shortcut"), input, &conv(1, stride), norm, half);
                Kind::Residual {
                    first,
                    first_neuron,
                    second,
                    shortcut,
                    neuron: NeuronUnit::new(store, &format!("{name}.neuron2"), neuron),
                }
            }
            LayerSpec::Linear { features } => Kind::Linear {
                linear: LinearUnit::new(store, &format!("{name}.linear"), input.len(), features),
                neuron: NeuronUnit::new(store, &name, neuron),
            },
            LayerSpec::AvgPool { size } => Kind::AvgPool(size),
            LayerSpec::MaxPool { size } => Kind::MaxPool(size),
            LayerSpec::Dropout { p } => Kind::Dropout { p, index: index as u64 },
        };
        Self { kind }
    }

    /// Applies the layer.
    pub fn forward<B: SpikingBackend>(&self, store: &Store<B>, pass: &mut Pass, input: Flow<B>) -> Flow<B> {
        match &self.kind {
            Kind::Conv { conv, neuron } => {
                let drive = conv.forward(store, pass, &input);
                spikes(neuron.forward(store, pass, drive))
            }
            Kind::Residual { first, first_neuron, second, shortcut, neuron } => {
                let drive = first.forward(store, pass, &input);
                let inner = spikes(first_neuron.forward(store, pass, drive));
                let drive = second.forward(store, pass, &inner) + shortcut.forward(store, pass, &input);
                spikes(neuron.forward(store, pass, drive))
            }
            Kind::Linear { linear, neuron } => {
                let (x, binary) = changing(input, pass.steps);
                let rows = x.dims()[0];
                let drive = linear.forward(store, pass, x.reshape([rows as i32, -1]), binary);
                let features = drive.dims()[1];
                spikes(neuron.forward(store, pass, drive).reshape([rows, features, 1, 1]))
            }
            Kind::AvgPool(size) => {
                let pool = |x| avg_pool2d(x, [*size; 2], [*size; 2], [0, 0], false, false);
                match input {
                    Flow::Constant(x) => Flow::Constant(pool(x)),
                    Flow::Changing { x, .. } => Flow::Changing { x: pool(x), binary: false },
                }
            }
            Kind::MaxPool(size) => {
                let pool = |x| max_pool2d(x, [*size; 2], [*size; 2], [0, 0], [1, 1], false);
                match input {
                    Flow::Constant(x) => Flow::Constant(pool(x)),
                    Flow::Changing { x, binary } => Flow::Changing { x: pool(x), binary },
                }
            }
            Kind::Dropout { p, index } => match pass.mode {
                Mode::Train { seed } if *p > 0.0 => dropout(pass.steps, pass.batch, input, *p, seed, *index),
                _ => input,
            },
        }
    }
}

fn spikes<B: SpikingBackend>(x: Tensor<B, 4>) -> Flow<B> {
    Flow::Changing { x, binary: true }
}

/// The values over time, `[T * B, C, H, W]`, and whether they are binary.
fn changing<B: SpikingBackend>(flow: Flow<B>, steps: usize) -> (Tensor<B, 4>, bool) {
    match flow {
        Flow::Changing { x, binary } => (x, binary),
        Flow::Constant(x) => {
            let [batch, channels, height, width] = x.dims();
            let repeated: Tensor<B, 5> = x.unsqueeze_dim::<5>(0).expand([steps, batch, channels, height, width]);
            (repeated.reshape([steps * batch, channels, height, width]), false)
        }
    }
}

/// Zeroes values with probability `p` and scales the others by `1 / (1 - p)`; the mask is the same at every step.
fn dropout<B: SpikingBackend>(steps: usize, batch: usize, input: Flow<B>, p: f32, step_seed: u64, index: u64) -> Flow<B> {
    let masked = |x: Tensor<B, 4>, repeats: usize| {
        let [_, channels, height, width] = x.dims();
        let mut rng = seed::rng(step_seed, "dropout", &[index]);
        let keep = 1.0 / (1.0 - p);
        let mask: Vec<f32> =
            (0..batch * channels * height * width).map(|_| if rng.random::<f32>() < p { 0.0 } else { keep }).collect();
        let sites = batch * channels * height * width;
        let mask: Tensor<B, 2> = Tensor::from_data(TensorData::new(mask, [1, sites]), &x.device());
        (x.reshape([repeats, sites]) * mask).reshape([repeats * batch, channels, height, width])
    };
    match input {
        Flow::Constant(x) => Flow::Constant(masked(x, 1)),
        Flow::Changing { x, .. } => Flow::Changing { x: masked(x, steps), binary: false },
    }
}
