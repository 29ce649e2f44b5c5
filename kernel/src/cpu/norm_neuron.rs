//! Norm and neuron in one pass over a sample, forward and backward, for one tile of channels.
//!
//! A sample's outputs of a convolution are `[T, P, width]` (or `[P, width]` where the input is the same at every step),
//! P positions. The drive is the sum over branches of `scale * y`, plus a shift. Nothing is kept for the backward pass
//! but the means and scales: membranes are computed again.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::simd::{PAD, Simd, kernel};
use bloctrain_shared::neuron::NeuronRule;
use bloctrain_shared::spec::{Reset, Surrogate};
use std::ops::Range;

/// One branch's outputs for a sample, with its norm.
pub(super) struct Drive<'a> {
    pub(super) y: &'a [f32],
    /// Whether `y` is the same at every step.
    pub(super) constant: bool,
    /// What `y` is multiplied by, `[width]`.
    pub(super) scale: &'a [f32],
    /// Mean that the norm's gradient is centred on, `[width]`.
    pub(super) mean: &'a [f32],
}

/// What does not change within a tile.
pub(super) struct Tile<'a> {
    pub(super) steps: usize,
    pub(super) positions: usize,
    pub(super) width: usize,
    /// Sum of the branches' shifts, `[width]`.
    pub(super) shift: &'a [f32],
    pub(super) leak: f32,
    pub(super) rule: NeuronRule,
}

impl Tile<'_> {
    fn check(&self, drives: &[Drive<'_>]) {
        assert!(self.width.is_multiple_of(PAD) && self.shift.len() == self.width, "a tile of another width");
        for drive in drives {
            let frames = if drive.constant { 1 } else { self.steps };
            assert_eq!(drive.y.len(), frames * self.positions * self.width, "outputs of another shape");
            assert!(drive.scale.len() == self.width && drive.mean.len() == self.width, "a norm of another width");
        }
    }

    /// Drive of the vector at `lane` of position `place` at a step.
    #[inline(always)]
    unsafe fn drive<S: Simd>(&self, drives: &[Drive<'_>], step: usize, place: usize, lane: usize) -> S::V {
        // SAFETY: step, place and lane are inside what `check` has seen.
        unsafe {
            let mut x = S::load(self.shift.as_ptr().add(lane));
            for drive in drives {
                let frame = if drive.constant { 0 } else { step };
                let y = S::load(drive.y.as_ptr().add((frame * self.positions + place) * self.width + lane));
                x = S::fma(y, S::load(drive.scale.as_ptr().add(lane)), x);
            }
            x
        }
    }

    /// Membrane after the reset.
    #[inline(always)]
    unsafe fn reset<S: Simd>(&self, membrane: S::V, fires: u64) -> S::V {
        // SAFETY: the caller has the features.
        unsafe {
            match self.rule.reset {
                Reset::Subtract => S::sub(membrane, S::keep(fires, S::splat(self.rule.threshold))),
                Reset::Zero => S::keep(!fires, membrane),
            }
        }
    }
}

/// Where the spikes of some positions go: one word of each of them at every step.
pub(super) struct Output<'a> {
    /// `[T, positions, words]`.
    pub(super) words: &'a mut [u64],
    pub(super) words_per_position: usize,
    pub(super) word: usize,
}

kernel! {
    /// Spikes of some positions of one sample.
    pub(super) fn forward(tile: &Tile<'_>, drives: &[Drive<'_>], places: Range<usize>, output: Output<'_>) =
        forward_body
}

#[inline(always)]
unsafe fn forward_body<S: Simd>(tile: &Tile<'_>, drives: &[Drive<'_>], places: Range<usize>, mut output: Output<'_>) {
    tile.check(drives);
    assert!(places.start <= places.end && places.end <= tile.positions, "other positions");
    assert_eq!(output.words.len(), tile.steps * places.len() * output.words_per_position, "spikes of another shape");
    assert!(output.word < output.words_per_position, "no such word");
    // SAFETY: the shapes were just checked; a vector is never wider than the padding.
    unsafe {
        let mut lane = 0;
        while lane < tile.width {
            lane += match (tile.width - lane) / S::LANES {
                4.. => forward_of::<S, 4>(tile, drives, &places, &mut output, lane),
                2 | 3 => forward_of::<S, 2>(tile, drives, &places, &mut output, lane),
                _ => forward_of::<S, 1>(tile, drives, &places, &mut output, lane),
            };
        }
    }
}

/// Spikes of `V` vectors of lanes from `lane` on; returns how many lanes these are.
#[inline(always)]
unsafe fn forward_of<S: Simd, const V: usize>(
    tile: &Tile<'_>,
    drives: &[Drive<'_>],
    places: &Range<usize>,
    output: &mut Output<'_>,
    lane: usize,
) -> usize {
    // SAFETY: as for the caller.
    unsafe {
        let NeuronRule { threshold, reset: _, detach_reset: _, surrogate: _, width: _ } = tile.rule;
        let (leak, threshold) = (S::splat(tile.leak), S::splat(threshold));
        let words = output.words.as_mut_ptr().add(output.word);
        for place in places.clone() {
            let mut membranes = [S::splat(0.0); V];
            for step in 0..tile.steps {
                let mut all = 0;
                for vector in 0..V {
                    let lane = lane + vector * S::LANES;
                    let membrane = S::fma(leak, membranes[vector], tile.drive::<S>(drives, step, place, lane));
                    let fires = S::at_least(membrane, threshold);
                    membranes[vector] = tile.reset::<S>(membrane, fires);
                    all |= fires << lane;
                }
                *words.add((step * places.len() + place - places.start) * output.words_per_position) |= all;
            }
        }
    }
    V * S::LANES
}

/// Sums over a sample that the norm's gradient needs, each `[width]`.
pub(super) struct Sums<'a> {
    /// Gradients of the drive.
    pub(super) drive: &'a mut [f32],
    /// For each branch, gradients of the drive times `y - mean`.
    pub(super) centred: Vec<&'a mut [f32]>,
    /// Gradients of the leak.
    pub(super) leak: &'a mut [f32],
}

kernel! {
    /// Turns the gradient of a sample's spikes `[T, P, width]` into that of its drive, in place, and sums it up.
    /// `membranes` is scratch of `steps * PAD` values.
    pub(super) fn backward(tile: &Tile<'_>, drives: &[Drive<'_>], grad: &mut [f32], sums: &mut Sums<'_>,
        membranes: &mut [f32]) = backward_body
}

#[inline(always)]
unsafe fn backward_body<S: Simd>(
    tile: &Tile<'_>,
    drives: &[Drive<'_>],
    grad: &mut [f32],
    sums: &mut Sums<'_>,
    membranes: &mut [f32],
) {
    tile.check(drives);
    assert_eq!(grad.len(), tile.steps * tile.positions * tile.width, "gradient of another shape");
    assert!(membranes.len() >= tile.steps * PAD && sums.centred.len() == drives.len(), "scratch of another shape");
    // SAFETY: the shapes were just checked.
    unsafe {
        let NeuronRule { threshold: _, reset: _, detach_reset: _, surrogate, width } = tile.rule;
        match surrogate {
            Surrogate::Atan => {
                let (a, half) = (S::splat(std::f32::consts::FRAC_PI_2 * width), S::splat(0.5 * width));
                let one = S::splat(1.0);
                backward_with::<S>(tile, drives, grad, sums, membranes, |v| {
                    let scaled = S::mul(a, v);
                    S::div(half, S::fma(scaled, scaled, one))
                });
            }
            Surrogate::FastSigmoid => {
                let (a, one) = (S::splat(width), S::splat(1.0));
                backward_with::<S>(tile, drives, grad, sums, membranes, |v| {
                    let slope = S::fma(a, S::abs(v), one);
                    S::div(one, S::mul(slope, slope))
                });
            }
            Surrogate::Triangle => {
                let (a, one) = (S::splat(width), S::splat(1.0));
                backward_with::<S>(tile, drives, grad, sums, membranes, |v| {
                    S::div(S::max(S::sub(one, S::div(S::abs(v), a)), S::splat(0.0)), a)
                });
            }
            Surrogate::Rectangle => {
                let (a, height) = (S::splat(width), S::splat(0.5 / width));
                backward_with::<S>(tile, drives, grad, sums, membranes, |v| {
                    S::keep(!S::at_least(S::abs(v), a), height)
                });
            }
        }
    }
}

#[inline(always)]
unsafe fn backward_with<S: Simd>(
    tile: &Tile<'_>,
    drives: &[Drive<'_>],
    grad: &mut [f32],
    sums: &mut Sums<'_>,
    membranes: &mut [f32],
    slope: impl Fn(S::V) -> S::V,
) {
    // SAFETY: as for the caller.
    unsafe {
        let (leak, theta, one) = (S::splat(tile.leak), S::splat(tile.rule.threshold), S::splat(1.0));
        let membranes = membranes.as_mut_ptr();
        for place in 0..tile.positions {
            for lane in (0..tile.width).step_by(S::LANES) {
                let mut membrane = S::splat(0.0);
                for step in 0..tile.steps {
                    membrane = S::fma(leak, membrane, tile.drive::<S>(drives, step, place, lane));
                    S::store(membranes.add(step * S::LANES), membrane);
                    membrane = tile.reset::<S>(membrane, S::at_least(membrane, theta));
                }
                let (mut after, mut sum, mut leak_sum) = (S::splat(0.0), S::splat(0.0), S::splat(0.0));
                for step in (0..tile.steps).rev() {
                    let at = grad.as_mut_ptr().add((step * tile.positions + place) * tile.width + lane);
                    let membrane = S::load(membranes.add(step * S::LANES));
                    let slope = slope(S::sub(membrane, theta));
                    let through = if tile.rule.detach_reset { S::splat(0.0) } else { slope };
                    let kept = match tile.rule.reset {
                        Reset::Subtract => S::sub(one, S::mul(theta, through)),
                        Reset::Zero => S::sub(S::keep(!S::at_least(membrane, theta), one), S::mul(membrane, through)),
                    };
                    let value = S::fma(S::load(at), slope, S::mul(after, kept));
                    after = S::mul(leak, value);
                    S::store(at, value);
                    sum = S::add(sum, value);
                    if step > 0 {
                        let before = S::load(membranes.add((step - 1) * S::LANES));
                        leak_sum = S::fma(value, tile.reset::<S>(before, S::at_least(before, theta)), leak_sum);
                    }
                }
                for (drive, centred) in drives.iter().zip(&mut sums.centred) {
                    let y = |step: usize| {
                        S::load(drive.y.as_ptr().add((step * tile.positions + place) * tile.width + lane))
                    };
                    let mean = S::load(drive.mean.as_ptr().add(lane));
                    let mut product = S::splat(0.0);
                    if drive.constant {
                        product = S::mul(sum, S::sub(y(0), mean));
                    } else {
                        for step in 0..tile.steps {
                            let grad = grad.as_ptr().add((step * tile.positions + place) * tile.width + lane);
                            product = S::fma(S::load(grad), S::sub(y(step), mean), product);
                        }
                    }
                    add_to::<S>(&mut centred[lane..lane + S::LANES], product);
                }
                add_to::<S>(&mut sums.drive[lane..lane + S::LANES], sum);
                add_to::<S>(&mut sums.leak[lane..lane + S::LANES], leak_sum);
            }
        }
    }
}

/// Adds a vector to as many values.
#[inline(always)]
unsafe fn add_to<S: Simd>(to: &mut [f32], value: S::V) {
    assert_eq!(to.len(), S::LANES, "not a vector");
    // SAFETY: as for the caller.
    unsafe { S::store(to.as_mut_ptr(), S::add(S::load(to.as_ptr()), value)) }
}

/// Coefficients of a norm's gradient: `dy = a * grad + b * (y - mean) + c`, each `[width]`.
pub(super) struct Coefficients {
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
    pub(super) c: Vec<f32>,
}

/// The rows of a frame that a convolution's gradient is written into, with zeros around them.
pub(super) struct Frame<'a> {
    pub(super) values: &'a mut [f32],
    /// Rows and columns with the zeros.
    pub(super) framed: [usize; 2],
    /// Rows and columns before the first value.
    pub(super) before: [usize; 2],
    /// Rows and columns of values.
    pub(super) inner: [usize; 2],
}

kernel! {
    /// Gradient of one frame of a convolution's output, into the middle of `frame`. `grads` are the drive's gradients
    /// of the frame, or of every step where the outputs are the same at every step; they are added.
    pub(super) fn norm_backward(width: usize, y: &[f32], mean: &[f32], grads: &[&[f32]], coefficients: &Coefficients,
        frame: Frame<'_>) = norm_backward_body
}

#[inline(always)]
unsafe fn norm_backward_body<S: Simd>(
    width: usize,
    y: &[f32],
    mean: &[f32],
    grads: &[&[f32]],
    coefficients: &Coefficients,
    frame: Frame<'_>,
) {
    let [height, columns] = frame.inner;
    assert!(
        y.len() == height * columns * width && grads.iter().all(|grad| grad.len() == y.len()),
        "outputs of another shape"
    );
    assert!(
        frame.before[0] + height <= frame.framed[0] && frame.before[1] + columns <= frame.framed[1],
        "a frame too small"
    );
    assert_eq!(frame.values.len(), frame.framed[0] * frame.framed[1] * width, "a frame of another shape");
    let Coefficients { a, b, c } = coefficients;
    assert!([a.len(), b.len(), c.len(), mean.len()] == [width; 4], "coefficients of another width");
    // SAFETY: the shapes were just checked.
    unsafe {
        for row in 0..height {
            let to = ((row + frame.before[0]) * frame.framed[1] + frame.before[1]) * width;
            for column in 0..columns {
                let from = (row * columns + column) * width;
                for lane in (0..width).step_by(S::LANES) {
                    let mut grad = S::load(grads[0].as_ptr().add(from + lane));
                    for more in &grads[1..] {
                        grad = S::add(grad, S::load(more.as_ptr().add(from + lane)));
                    }
                    let centred = S::sub(S::load(y.as_ptr().add(from + lane)), S::load(mean.as_ptr().add(lane)));
                    let value = S::fma(centred, S::load(b.as_ptr().add(lane)), S::load(c.as_ptr().add(lane)));
                    let value = S::fma(grad, S::load(a.as_ptr().add(lane)), value);
                    S::store(frame.values.as_mut_ptr().add(to + column * width + lane), value);
                }
            }
        }
    }
}

kernel! {
    /// Mean and sum of squares around it over rows `[N, width]`.
    pub(super) fn moments(rows: &[f32], width: usize, mean: &mut [f32], squares: &mut [f32]) = moments_body
}

#[inline(always)]
unsafe fn moments_body<S: Simd>(rows: &[f32], width: usize, mean: &mut [f32], squares: &mut [f32]) {
    assert!(
        rows.len().is_multiple_of(width) && mean.len() == width && squares.len() == width,
        "moments of another width"
    );
    assert!(width.is_multiple_of(PAD), "a tile of another width");
    // SAFETY: the shapes were just checked; a vector is never wider than the padding.
    unsafe {
        let mut lane = 0;
        while lane < width {
            // Sums beside each other hide how long an addition takes.
            lane += match (width - lane) / S::LANES {
                4.. => moments_of::<S, 4>(rows, width, lane, mean, squares),
                2 | 3 => moments_of::<S, 2>(rows, width, lane, mean, squares),
                _ => moments_of::<S, 1>(rows, width, lane, mean, squares),
            };
        }
    }
}

/// Moments of `V` vectors of lanes from `lane` on; returns how many lanes these are.
#[inline(always)]
unsafe fn moments_of<S: Simd, const V: usize>(
    rows: &[f32],
    width: usize,
    lane: usize,
    mean: &mut [f32],
    squares: &mut [f32],
) -> usize {
    // SAFETY: as for the caller.
    unsafe {
        let load = |from: &[f32], vector: usize| S::load(from.as_ptr().add(lane + vector * S::LANES));
        let mut sums = [S::splat(0.0); V];
        for row in rows.chunks_exact(width) {
            for vector in 0..V {
                sums[vector] = S::add(sums[vector], load(row, vector));
            }
        }
        let share = S::splat(1.0 / (rows.len() / width).max(1) as f32);
        let centres = sums.map(|sum| S::mul(sum, share));
        let mut sums = [S::splat(0.0); V];
        for row in rows.chunks_exact(width) {
            for vector in 0..V {
                let from = S::sub(load(row, vector), centres[vector]);
                sums[vector] = S::fma(from, from, sums[vector]);
            }
        }
        for vector in 0..V {
            S::store(mean.as_mut_ptr().add(lane + vector * S::LANES), centres[vector]);
            S::store(squares.as_mut_ptr().add(lane + vector * S::LANES), sums[vector]);
        }
    }
    V * S::LANES
}
