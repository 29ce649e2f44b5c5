//! Vectors: a step of an optimiser on one parameter in one pass, and sums of parts.

use cubecl::prelude::*;

/// The rules of [`StepRule`](crate::kernel::StepRule) on vectors. Of SGD `a` is the momentum, `b` the decay and `rate`
/// the learning rate; of AdamW `a` and `b` are the decay rates of the moments. `second` is not written for SGD.
#[cube(launch_unchecked)]
pub fn step(
    parameter: &Tensor<f32>,
    grad: &Tensor<f32>,
    first: &Tensor<f32>,
    second: &Tensor<f32>,
    new_parameter: &mut Tensor<f32>,
    new_first: &mut Tensor<f32>,
    new_second: &mut Tensor<f32>,
    length: usize,
    a: f32,
    b: f32,
    keep: f32,
    rate: f32,
    share: f32,
    epsilon: f32,
    #[comptime] adamw: bool,
) {
    let at = ABSOLUTE_POS;
    if at < length {
        let value = parameter[at];
        let slope = grad[at];
        if comptime!(adamw) {
            let moment = first[at] * a + slope * (1.0f32 - a);
            let square = second[at] * b + (slope * slope) * (1.0f32 - b);
            new_first[at] = moment;
            new_second[at] = square;
            new_parameter[at] = value * keep - moment / ((square * share).sqrt() + epsilon) * rate;
        } else {
            let velocity = first[at] * a + (slope + value * b);
            new_first[at] = velocity;
            new_parameter[at] = value - velocity * rate;
        }
    }
}

/// The sum of `parts` vectors that lie one after another, in their order.
#[cube(launch_unchecked)]
pub fn sum_parts(vectors: &Tensor<f32>, out: &mut Tensor<f32>, parts: usize, length: usize) {
    let at = ABSOLUTE_POS;
    if at < length {
        let mut sum = 0.0f32.runtime();
        for part in 0..parts {
            sum += vectors[part * length + at];
        }
        out[at] = sum;
    }
}

/// Units of a cube of [`sum`].
const UNITS: usize = 256;

/// The sum of the values, or of their squares, that each cube meets.
#[cube(launch_unchecked)]
pub fn sum(x: &Tensor<f32>, out: &mut Tensor<f32>, length: usize, #[comptime] squares: bool) {
    let mut scratch = SharedMemory::<f32>::new(UNITS);
    let step = CUBE_COUNT_X as usize * UNITS;
    let own = UNIT_POS_X as usize;
    let mut sum = 0.0f32.runtime();
    for round in 0..length.div_ceil(step) {
        let at = round * step + CUBE_POS_X as usize * UNITS + own;
        if at < length {
            let value = x[at];
            sum += if comptime!(squares) { value * value } else { value };
        }
    }
    scratch[own] = sum;
    #[unroll]
    for halving in 0..8u32 {
        let half = comptime!(128usize >> halving);
        sync_cube();
        if own < half {
            scratch[own] = scratch[own] + scratch[own + half];
        }
    }
    if own == 0 {
        out[CUBE_POS_X as usize] = scratch[0];
    }
}
