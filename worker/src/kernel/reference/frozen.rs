//! A frozen body of a backend that keeps nothing of its own for it.

use super::super::{BodyCall, BodyInput, Call, ConvPrecision, Emitted, Mode, SpikingBackend, Statistic};
use bloctrain_kernel::count::Count;
use bloctrain_shared::graph::Body;
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;

/// A body with its flat parameters and running statistics.
#[derive(Debug)]
pub struct FrozenBody<B: Backend> {
    body: Body,
    params: Tensor<B, 1>,
    running: Vec<Statistic>,
    precision: ConvPrecision,
}

impl<B: SpikingBackend> FrozenBody<B> {
    /// See [`SpikingBackend::freeze`].
    pub fn new(body: &Body, params: Tensor<B, 1>, running: Vec<Statistic>, precision: ConvPrecision) -> Self {
        Self { body: body.clone(), params, running, precision }
    }

    /// See [`SpikingBackend::run_frozen`].
    pub fn run(&self, input: BodyInput<B>, count: bool) -> (Emitted<B>, Count) {
        let call = BodyCall {
            call: Call {
                body: &self.body,
                mode: Mode::Eval,
                running: &self.running,
                measure: false,
                count,
                average: None,
                tap: None,
            },
            precision: self.precision,
        };
        let output = B::body(&call, self.params.clone(), input);
        (output.emitted, output.record.count)
    }
}
