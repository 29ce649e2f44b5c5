//! Forward over the nodes.

use super::super::convolution;
use super::super::kernels::norm::Kind;
use super::super::launch::{self, Driving, Layer, Offsets};
use super::super::layout::{Rows, empty};
use super::super::packed::Packed;
use super::super::{leak, observe};
use super::{Computed, Cube, Tape, Value};
use crate::kernel::later::Later;
use crate::kernel::{BodyInput, BodyRecord, Call, Emitted, Mode, lift, lower, mean_over_time, planes_to_host};
use bloctrain_kernel::call::dropout_mask;
use bloctrain_kernel::count::{Count, Counted};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Branch, BranchNorm, Content, Node, Running, Spiking};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::{Bytes, DType, FloatDType, Shape, Tensor};

/// What a pass gives.
pub(in super::super) struct Outcome<R: CubeRuntime, B: Cube<R>> {
    pub(in super::super) emitted: Emitted<B>,
    pub(in super::super) tapped: Option<Emitted<B>>,
    pub(in super::super) record: BodyRecord,
    pub(in super::super) tape: Tape<R>,
}

struct Forward<'a, R: CubeRuntime, B: Cube<R>> {
    call: &'a Call<'a>,
    params: Tensor<B, 1>,
    batch: usize,
    dtype: FloatDType,
    /// Means and variances of all norms one after another.
    statistics: CubeTensor<R>,
    values: Vec<Value<R>>,
    /// What the numbers of each value are.
    contents: Vec<Content>,
    record: BodyRecord,
}

/// Runs a body.
pub(in super::super) fn forward<R: CubeRuntime, B: Cube<R>>(
    call: &Call<'_>,
    params: Tensor<B, 1>,
    input: BodyInput<B>,
    dtype: FloatDType,
) -> Outcome<R, B> {
    let (batch, device) = (input.batch(), params.device());
    let (start, enters) = match input {
        BodyInput::Image(x) => (Value::Image(lower(x)), Content::Fractions),
        BodyInput::Spikes(spikes) => (Value::Spikes(Packed::upload(&spikes, &device)), Content::Spikes),
    };
    let contents = call.body.contents(enters, call.mode.trains());
    let near = lower(params.clone());
    let record = BodyRecord { count: Count::new(batch), ..BodyRecord::default() };
    let statistics = statistics(call, &near);
    let mut state = Forward { call, params, batch, dtype, statistics, values: vec![start], contents, record };
    let norms = call.body.nodes.iter().map(|node| state.node(node)).collect();
    if matches!(call.mode, Mode::Train { .. }) && !call.body.running.is_empty() {
        state.record.queued = Some(Later::new(lift::<B, 1>(state.statistics.clone())));
    }
    let computed = state.computed();
    let dense = |value: usize| computed.dense(value, FloatDType::F32).x;
    let emit = |value: usize, average: Option<&AdaptivePool>| match (average, &state.values[value]) {
        (Some(pool), Value::Spikes(spikes)) => Emitted::Average(convolution::pool(pool, lift(launch::mean(spikes)))),
        (Some(pool), _) => Emitted::Average(convolution::pool(pool, mean_over_time(dense(value), call.body.steps))),
        (None, _) => Emitted::Tensor(dense(value)),
    };
    let emitted = emit(call.body.output(), call.average);
    let tapped = call.tap.map(|tap| emit(tap.value, tap.average));
    let Forward { values, record, .. } = state;
    let tape = Tape { body: call.body.clone(), batch, left: call.left(), dtype, measure: call.measure, values, norms };
    Outcome { emitted, tapped, record, tape }
}

/// Channels of some norms.
fn channels(running: &[Running]) -> usize {
    running.iter().map(|running| running.channels).sum()
}

/// Room for the statistics of a training pass, or the running ones.
fn statistics<R: CubeRuntime>(call: &Call<'_>, near: &CubeTensor<R>) -> CubeTensor<R> {
    let values: Vec<f32> =
        call.running.iter().flat_map(|statistic| statistic.mean.iter().chain(&statistic.variance).copied()).collect();
    let length = 2 * channels(&call.body.running);
    if call.mode != Mode::Eval || values.is_empty() {
        return empty(near, &[length.max(1)], DType::F32);
    }
    let handle = near.client.create(Bytes::from_elems(values));
    CubeTensor::new_contiguous(near.client.clone(), near.device.clone(), Shape::from([length]), handle, DType::F32)
}

impl<R: CubeRuntime, B: Cube<R>> Forward<'_, R, B> {
    fn computed(&self) -> Computed<'_, R, B> {
        Computed { body: self.call.body, params: self.params.clone(), dtype: self.dtype, values: &self.values }
    }

    /// Computes a node and keeps what it emits; gives the coefficients of its norms.
    fn node(&mut self, node: &Node) -> Option<CubeTensor<R>> {
        let (value, norms) = match node {
            Node::Spiking(spiking) => {
                let (spikes, norms) = self.spiking(spiking);
                (Value::Spikes(spikes), Some(norms))
            }
            Node::Pool(_) => (Value::Derived(None), None),
            Node::Dropout { p, index, shape, .. } => match self.call.mode {
                Mode::Train { seed } if *p > 0.0 => {
                    let kept = dropout_mask(seed, *index, *p, self.batch * shape.len());
                    let kept: Vec<f32> = kept.into_iter().map(|kept| f32::from(u8::from(kept))).collect();
                    let mask =
                        Packed::upload(&Spikes::from_values(&kept, self.batch, 1, *shape), &self.params.device());
                    (Value::Derived(Some(mask)), None)
                }
                _ => (Value::Derived(None), None),
            },
        };
        self.values.push(value);
        norms
    }

    fn spiking(&mut self, spiking: &Spiking) -> (Packed<R>, CubeTensor<R>) {
        let near = lower(self.params.clone());
        let norms = launch::norms(&near, spiking.branches.len(), spiking.output.channels);
        let mut branches = Vec::with_capacity(spiking.branches.len());
        for (index, branch) in spiking.branches.iter().enumerate() {
            self.count(branch);
            let driving: Driving<R> = self.computed().convolve(branch).driving();
            self.norm(branch, index, &driving.rows, &norms);
            branches.push(driving);
        }
        let leak = leak(spiking.leak, &self.params);
        let spikes = Layer {
            branches: &branches,
            norms: Some(&norms),
            leak: &leak,
            rule: spiking.rule,
            steps: self.call.body.steps,
            batch: self.batch,
            shape: spiking.output,
        }
        .spikes();
        if self.call.measure {
            observe(&near.client);
            let rate = lift::<B, 4>(launch::mean(&spikes)).mean();
            self.record.rates.extend(crate::kernel::to_host(rate).into_iter().map(f64::from));
        }
        (spikes, norms)
    }

    fn norm(&self, branch: &Branch, index: usize, y: &Rows<R>, norms: &CubeTensor<R>) {
        let params = lower(self.params.clone());
        let (kind, offsets) = match branch.norm {
            BranchNorm::Bias(at) => (Kind::Bias, Offsets { gamma: at, beta: at, statistic: 0, branch: index }),
            BranchNorm::Batch { gamma, beta, statistic } => {
                let kind = if self.call.mode == Mode::Eval { Kind::Given } else { Kind::Batch };
                let at = 2 * channels(&self.call.body.running[..statistic]);
                (kind, Offsets { gamma, beta, statistic: at, branch: index })
            }
        };
        launch::norm(kind, y, &params, offsets, norms, &self.statistics);
    }

    fn count(&mut self, branch: &Branch) {
        if !self.call.count {
            return;
        }
        let planes = match self.contents[branch.source] {
            Content::Fractions => return self.record.count.add(branch.conv, Counted::Image),
            Content::Counts { digits, unit } => {
                planes_to_host(self.computed().dense(branch.source, FloatDType::F32).x, self.batch, unit, digits)
            }
            Content::Spikes => vec![self.download(branch)],
        };
        self.record.count.add(branch.conv, Counted::Spikes(&planes));
    }

    /// The spikes that a branch reads.
    fn download(&self, branch: &Branch) -> Spikes {
        match &self.values[branch.source] {
            Value::Spikes(spikes) => spikes.download(),
            Value::Image(_) | Value::Derived(_) => {
                let rows = Rows::of(lower(self.computed().dense(branch.source, FloatDType::F32).x));
                launch::pack(&rows, self.batch, self.call.body.steps, branch.conv.input).download()
            }
        }
    }
}
