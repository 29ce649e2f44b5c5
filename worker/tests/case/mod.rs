//! A body with random parameters and input, and how it is run: for tests of backends against the reference.

use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Body, Lowering, Running};
use bloctrain_shared::spec::{LayerSpec, NeuronSpec, Norm};
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
