//! Bodies of every kind of layer, with odd sizes, all surrogates and resets: parameters, input, and how they are run.

use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Body, Lowering, Running};
use bloctrain_shared::spec::{LayerSpec, NeuronModel, NeuronSpec, Norm, Reset, Surrogate};
use bloctrain_shared::{ImageShape, seed};
use bloctrain_worker::kernel::{
    BodyCall, BodyInput, BodyOutput, BodyRecord, Call, ConvPrecision, Mode, SpikingBackend, Statistic, Tap,
};
use bloctrain_worker::snn::param::{Store, to_host};
use bloctrain_worker::snn::trainer::TrainingBackend;
use burn_flex::Flex;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};
use rand::{Rng, RngExt};

pub(crate) fn tensor<B: Backend, const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Default::default())
}

pub(crate) fn uniform(rng: &mut impl Rng, count: usize, range: std::ops::Range<f32>) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(range.clone())).collect()
}

/// Every surrogate with every reset.
pub(crate) fn rules() -> Vec<NeuronSpec> {
    let mut rules = Vec::new();
    for surrogate in [Surrogate::Atan, Surrogate::FastSigmoid, Surrogate::Triangle, Surrogate::Rectangle] {
        for (reset, detach_reset) in
            [(Reset::Subtract, true), (Reset::Subtract, false), (Reset::Zero, true), (Reset::Zero, false)]
        {
            let model = NeuronModel::ALL[rules.len() % NeuronModel::ALL.len()];
            rules.push(NeuronSpec {
                model,
                leak: 0.7,
                threshold: 0.8,
                reset,
                detach_reset,
                surrogate,
                surrogate_width: 1.3,
            });
        }
    }
    rules
}

/// A body with random parameters and input.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) body: Body,
    pub(crate) precision: ConvPrecision,
    params: Vec<f32>,
    input: Input,
    batch: usize,
    grad: Vec<f32>,
}

#[derive(Clone)]
enum Input {
    Image(Vec<f32>, ImageShape),
    Spikes(Spikes),
}

/// What a case is made of besides its layers.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) seed: u64,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) norm: Norm,
    pub(crate) neuron: NeuronSpec,
    /// Share of ones in the input; `None` for images.
    pub(crate) rate: Option<f32>,
}

pub(crate) fn kind(seed: u64) -> Kind {
    Kind { seed, batch: 3, steps: 3, norm: Norm::Batch, neuron: NeuronSpec::default(), rate: Some(0.3) }
}

impl Case {
    pub(crate) fn new(name: &str, layers: &[LayerSpec], [channels, height, width]: [usize; 3], kind: Kind) -> Self {
        let shape = ImageShape::new(channels, height, width);
        let mut rng = seed::rng(kind.seed, "case", &[]);
        let mut lowering = Lowering::new(shape, kind.steps, kind.norm, &kind.neuron);
        layers.iter().enumerate().for_each(|(index, layer)| layer.lower(index, &mut lowering));
        let body = lowering.finish();
        let mut store = Store::<Flex>::new(&Default::default(), kind.seed, 0);
        store.add(&body.parameters);
        let mut params = Vec::new();
        for param in &store.params {
            let noise = if param.name.ends_with("weight") { 0.0 } else { 0.2 };
            params.extend(
                to_host(param.value.clone()).into_iter().map(|value| value + noise * rng.random_range(-1.0_f32..1.0)),
            );
        }
        let input = match kind.rate {
            None => Input::Image(uniform(&mut rng, kind.batch * shape.len(), -1.5..1.5), shape),
            Some(rate) => {
                let count = kind.steps * kind.batch * shape.len();
                let values: Vec<f32> = (0..count).map(|_| f32::from(u8::from(rng.random::<f32>() < rate))).collect();
                Input::Spikes(Spikes::from_values(&values, kind.batch, kind.steps, shape))
            }
        };
        let sites = kind.steps * kind.batch * body.shape(body.output()).len();
        let grad = uniform(&mut rng, sites, -1.0..1.0);
        Self { name: name.into(), body, precision: ConvPrecision::F32, params, input, batch: kind.batch, grad }
    }

    fn input<B: Backend>(&self) -> BodyInput<B> {
        match &self.input {
            Input::Image(values, shape) => {
                BodyInput::Image(tensor(values, [self.batch, shape.channels, shape.height, shape.width]))
            }
            Input::Spikes(spikes) => BodyInput::Spikes(spikes.clone()),
        }
    }

    /// A pooling of what leaves.
    pub(crate) fn pool(&self, side: usize) -> AdaptivePool {
        AdaptivePool::new(self.body.shape(self.body.output()), side)
    }

    fn call<'a>(&'a self, mode: Mode, average: Option<&'a AdaptivePool>, tap: Option<Tap<'a>>) -> BodyCall<'a> {
        let call = Call { body: &self.body, mode, running: &[], measure: true, count: true, average, tap };
        BodyCall { call, precision: self.precision }
    }

    /// Spikes that leave (or averages of them), those of the tap first, record, and gradients of `sum(grad * spikes)`.
    pub(crate) fn train<B: TrainingBackend>(
        &self,
        average: Option<&AdaptivePool>,
        tap: Option<Tap<'_>>,
        run: Run<B>,
    ) -> (Vec<f32>, BodyRecord, Vec<f32>) {
        let params = tensor::<B, 1>(&self.params, [self.params.len()]).require_grad();
        let output = run(&self.call(Mode::Train { seed: 5 }, average, tap), params.clone(), self.input());
        let spikes = super::leaving::flat(&output, average, tap, self.body.steps);
        let weights: Vec<f32> = self.grad.iter().cycle().copied().take(spikes.dims()[0]).collect();
        let weights = tensor(&weights, spikes.dims());
        let grads = (spikes.clone() * weights).sum().backward();
        (to_host(spikes.inner()), output.record, to_host(params.grad(&grads).expect("tracked")))
    }

    /// Spikes and record with running statistics.
    pub(crate) fn infer<B: SpikingBackend>(&self, run: Run<B>) -> (Spikes, BodyRecord) {
        let mut rng = seed::rng(9, "running", &[]);
        let running = |&Running { channels, .. }: &Running| Statistic {
            mean: uniform(&mut rng, channels, -0.3..0.3),
            variance: uniform(&mut rng, channels, 0.2..1.5),
        };
        let running: Vec<Statistic> = self.body.running.iter().map(running).collect();
        let BodyCall { call, precision } = self.call(Mode::Eval, None, None);
        let call = BodyCall { call: Call { running: &running, ..call }, precision };
        let output = run(&call, tensor(&self.params, [self.params.len()]), self.input());
        (output.emitted.into_spikes(self.batch), output.record)
    }
}

pub(crate) type Run<B> = fn(&BodyCall<'_>, Tensor<B, 1>, BodyInput<B>) -> BodyOutput<B>;

pub(crate) fn cases() -> Vec<Case> {
    let [avg_pool, max_pool, linear] = [LayerSpec::avg_pool, LayerSpec::max_pool, LayerSpec::linear];
    let dropout = LayerSpec::dropout;
    let (conv, residual) = (LayerSpec::conv, LayerSpec::residual);
    let image = |seed| Kind { rate: None, ..kind(seed) };
    let mut cases = vec![
        Case::new("one channel", &[conv(1, 1, 1)], [1, 1, 2], kind(1)),
        Case::new("odd sizes", &[conv(7, 3, 1), conv(5, 5, 2)], [3, 7, 6], kind(2)),
        Case::new("wide", &[conv(70, 3, 1), conv(130, 3, 2)], [65, 5, 9], kind(3)),
        Case::new("stride 3", &[conv(4, 3, 3), conv(6, 1, 2)], [20, 11, 10], kind(4)),
        Case::new("residual", &[residual(17, 2), residual(9, 1)], [6, 8, 7], kind(5)),
        Case::new("image", &[conv(8, 3, 1), avg_pool(2), residual(12, 1)], [3, 9, 8], image(6)),
        Case::new("residual on an image", &[residual(8, 2)], [2, 6, 6], image(7)),
        Case::new("pools", &[conv(5, 3, 1), avg_pool(3), conv(6, 3, 1), max_pool(2)], [4, 13, 12], kind(8)),
        Case::new("pool of a pool", &[avg_pool(2), max_pool(2), conv(5, 3, 1)], [4, 8, 9], kind(9)),
        Case::new("pooled image", &[max_pool(2), avg_pool(2), conv(5, 3, 1)], [4, 8, 9], image(10)),
        Case::new("average at the end", &[conv(40, 3, 1), avg_pool(2)], [4, 8, 9], kind(11)),
        Case::new(
            "dropout",
            &[conv(6, 3, 1), dropout(0.4), conv(4, 3, 1), dropout(0.2), avg_pool(2), conv(66, 3, 1)],
            [3, 6, 6],
            kind(12),
        ),
        Case::new("dropout of an image", &[dropout(0.3), conv(4, 3, 1), dropout(0.3)], [3, 6, 6], image(13)),
        Case::new("linear", &[conv(67, 3, 1), linear(21), linear(5)], [2, 4, 3], kind(14)),
        Case::new("linear on an image", &[linear(70), linear(33)], [2, 4, 3], image(15)),
        Case::new("bias", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { norm: Norm::None, ..kind(16) }),
        Case::new("tdBN", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { norm: Norm::Td, ..kind(17) }),
        Case::new("one step", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { steps: 1, ..kind(18) }),
        Case::new("many steps", &[conv(9, 3, 1)], [3, 6, 5], Kind { steps: 40, batch: 2, ..kind(19) }),
        Case::new("no spike", &[conv(9, 3, 1)], [3, 6, 5], Kind { rate: Some(0.0), norm: Norm::None, ..kind(20) }),
        Case::new("all spikes", &[conv(9, 3, 1)], [3, 6, 5], Kind { rate: Some(1.0), ..kind(21) }),
        // Sizes that matrix units and wide loads like.
        Case::new("aligned", &[conv(32, 3, 1), residual(64, 2), conv(64, 1, 1)], [16, 16, 16], kind(23)),
        Case::new("large map", &[conv(3, 3, 1), conv(4, 3, 2)], [1, 40, 37], Kind { batch: 2, steps: 2, ..kind(22) }),
        // Sums over many parts.
        Case::new("large batch", &[conv(40, 3, 1)], [8, 28, 28], Kind { batch: 32, ..kind(24) }),
        Case::new("large batch of images", &[conv(16, 3, 2)], [1, 28, 28], Kind { batch: 32, ..image(25) }),
    ];
    for (index, neuron) in rules().into_iter().enumerate() {
        let name = format!("{:?} {:?} {:?} {}", neuron.model, neuron.surrogate, neuron.reset, neuron.detach_reset);
        let kind = Kind { neuron, steps: 5, ..kind(31 + index as u64) };
        cases.push(Case::new(&name, &[conv(6, 3, 1), residual(10, 2)], [4, 6, 6], kind));
    }
    cases
}
