//! A body whose parameters do not change any more.

use super::Input;
use super::forward::{Outcome, forward_again};
use super::kept::Kept;
use crate::call::{Call, Mode, Statistic};
use bloctrain_shared::graph::Body;

/// A body at inference, with its parameters and running statistics. Calls share what is made of the weights.
#[derive(Debug)]
pub struct FrozenBody {
    body: Body,
    params: Vec<f32>,
    running: Vec<Statistic>,
    kept: Kept,
}

impl FrozenBody {
    /// A body with its flat parameters, and running statistics for each of its norms.
    ///
    /// # Panics
    /// When these are not as many as the body has.
    pub fn new(body: Body, params: Vec<f32>, running: Vec<Statistic>) -> Self {
        assert!(params.len() == body.length() && running.len() == body.running.len(), "parameters of another body");
        Self { body, params, running, kept: Kept::default() }
    }

    /// The layers.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Runs it; operations are counted where they are wanted.
    pub fn run(&self, input: Input<'_>, count: bool) -> Outcome {
        let (body, running) = (&self.body, &self.running);
        let call = Call { body, mode: Mode::Eval, running, measure: false, count, average: None, tap: None };
        forward_again(&call, &self.params, input, &self.kept)
    }
}
