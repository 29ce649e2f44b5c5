//! Launches of the kernels: how many cubes, what goes in, what comes out.

#![expect(unsafe_code, reason = "launches without bounds checks; each says why its units stay inside their buffers")]

use super::kernels::columns::{self, Window};
use super::kernels::neuron::{self, Form, Slope};
use super::kernels::norm::{self, Kind};
use super::kernels::pool::{self, Windows};
use super::kernels::{LANES, NORM, ROWS};
use super::kernels::{packed, vector};
use super::layout::{Rows, empty, empty_map};
use super::packed::Packed;
use crate::kernel::StepRule;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::EPSILON;
use bloctrain_shared::neuron::NeuronRule;
use bloctrain_shared::spec::{Reset, Surrogate};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::DType;
use cubecl::prelude::{CubeCount, CubeDim, SequenceArg};

/// Most cubes over the sites where every site is on its own.
const MOST: usize = 1 << 14;
/// Most parts of a sum over sites.
const PARTS: usize = 512;
/// Sites that one row of a cube adds up before there is another part.
const PER_PART: usize = 16;

fn dim() -> CubeDim {
    CubeDim::new_2d(LANES, ROWS)
}

fn grid(across: usize, channels: usize) -> CubeCount {
    CubeCount::Static(across as u32, channels.div_ceil(LANES as usize) as u32, 1)
}

fn each(sites: usize, channels: usize) -> CubeCount {
    grid(sites.div_ceil(ROWS as usize).clamp(1, MOST), channels)
}

fn parts(sites: usize) -> usize {
    sites.div_ceil(ROWS as usize * PER_PART).clamp(1, PARTS)
}

fn form(rule: NeuronRule, steps: usize, plain: bool) -> Form {
    // Threshold and width are handed over at every launch.
    let NeuronRule { threshold: _, reset, detach_reset, surrogate, width: _ } = rule;
    let slope = match surrogate {
        Surrogate::Atan => Slope::Atan,
        Surrogate::FastSigmoid => Slope::FastSigmoid,
        Surrogate::Triangle => Slope::Triangle,
        Surrogate::Rectangle => Slope::Rectangle,
    };
    Form { steps, plain, zero: reset == Reset::Zero, detached: detach_reset, slope }
}

/// The output of a convolution that drives neurons.
#[derive(Debug, Clone)]
pub(super) struct Driving<R: CubeRuntime> {
    /// `T B P` rows, or `B P` of one that is constant in time.
    pub(super) rows: Rows<R>,
    /// Whether it is.
    pub(super) constant: bool,
}

impl<R: CubeRuntime> Driving<R> {
    fn over_time(&self, steps: usize) -> CubeTensor<R> {
        if self.constant { self.rows.repeated(steps) } else { self.rows.over_time(steps) }
    }
}

/// What a layer of neurons is driven by.
#[derive(Debug)]
pub(super) struct Layer<'a, R: CubeRuntime> {
    pub(super) branches: &'a [Driving<R>],
    /// `[branches, 4, C]`; none where the drive is taken as it is.
    pub(super) norms: Option<&'a CubeTensor<R>>,
    /// `[1]`.
    pub(super) leak: &'a CubeTensor<R>,
    pub(super) rule: NeuronRule,
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) shape: ImageShape,
}

impl<R: CubeRuntime> Layer<'_, R> {
    fn norms(&self) -> &CubeTensor<R> {
        self.norms.unwrap_or(self.leak)
    }

    fn form(&self) -> Form {
        form(self.rule, self.steps, self.norms.is_none())
    }

    fn dtype(&self) -> DType {
        self.branches[0].over_time(self.steps).dtype
    }

    fn sites(&self) -> usize {
        self.batch * self.shape.area()
    }

    /// Spikes.
    pub(super) fn spikes(&self) -> Packed<R> {
        let near = self.leak;
        let spikes = Packed::empty(near, self.batch, self.steps, self.shape);
        let (sites, channels) = (self.sites(), self.shape.channels);
        let mut branches = SequenceArg::new();
        self.branches.iter().for_each(|branch| branches.push(branch.over_time(self.steps).into_tensor_arg()));
        // SAFETY: units beyond the last site or channel read and write nothing but their own shared memory, and the
        // views of the branches lie inside their buffers by their construction from (steps, sites, channels).
        unsafe {
            neuron::norm_neuron::launch_unchecked(
                &near.client,
                each(sites, channels),
                dim(),
                branches,
                self.norms().clone().into_tensor_arg(),
                self.leak.clone().into_tensor_arg(),
                spikes.words.clone().into_tensor_arg(),
                self.rule.threshold,
                sites,
                self.shape.area(),
                channels,
                self.form(),
                self.dtype().into(),
            );
        }
        spikes
    }

    /// Gradient `[T B, C, H, W]` of the drive and its sums `[parts, 2 + branches, C]` from the gradient of the spikes:
    /// `[T B, C, H, W]`, or `[B, C, H, W]` of one that is the same at every step.
    pub(super) fn backward(&self, grad: &Driving<R>) -> (CubeTensor<R>, CubeTensor<R>) {
        let near = self.leak;
        let (sites, channels) = (self.sites(), self.shape.channels);
        let parts = parts(sites);
        let out = empty_map(near, self.steps * self.batch, self.shape, self.dtype());
        let sums = empty(near, &[parts, 2 + self.branches.len(), channels], DType::F32);
        let mut branches = SequenceArg::new();
        self.branches.iter().for_each(|branch| branches.push(branch.over_time(self.steps).into_tensor_arg()));
        let grad = grad.over_time(self.steps);
        let dtypes = [self.dtype().into(), grad.dtype.into()];
        // SAFETY: as for `spikes`; the cubes across are the parts of `sums`.
        unsafe {
            neuron::norm_neuron_grad::launch_unchecked(
                &near.client,
                grid(parts, channels),
                dim(),
                branches,
                self.norms().clone().into_tensor_arg(),
                self.leak.clone().into_tensor_arg(),
                grad.into_tensor_arg(),
                Rows::of(out.clone()).over_time(self.steps).into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                self.rule.threshold,
                self.rule.width,
                sites,
                channels,
                self.form(),
                dtypes,
            );
        }
        (out, sums)
    }
}

/// Where a norm's parameters and statistics are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offsets {
    /// Where its scales begin.
    pub(super) gamma: usize,
    /// Where its shifts, or its bias, begin.
    pub(super) beta: usize,
    /// Where its statistics begin.
    pub(super) statistic: usize,
    /// Which of the layer's norms it is.
    pub(super) branch: usize,
}

/// Coefficients of every norm of a layer, `[branches, 4, C]`, to be written by [`norm`].
pub(super) fn norms<R: CubeRuntime>(near: &CubeTensor<R>, branches: usize, channels: usize) -> CubeTensor<R> {
    empty(near, &[branches, NORM, channels], DType::F32)
}

/// Writes the coefficients of one norm, and in training its statistics.
pub(super) fn norm<R: CubeRuntime>(
    kind: Kind,
    y: &Rows<R>,
    params: &CubeTensor<R>,
    offsets: Offsets,
    norms: &CubeTensor<R>,
    statistics: &CubeTensor<R>,
) {
    let (count, channels) = (y.count(), y.channels());
    let rows = y.over_time(1);
    let dtype = rows.dtype.into();
    let sums = if kind == Kind::Batch {
        let parts = parts(count);
        let sums = empty(params, &[parts, 2, channels], DType::F32);
        let (y, out) = (rows.clone().into_tensor_arg(), sums.clone().into_tensor_arg());
        // SAFETY: units beyond the last row or channel read and write nothing but their own shared memory.
        unsafe {
            norm::moments::launch_unchecked(
                &params.client,
                grid(parts, channels),
                dim(),
                y,
                out,
                count,
                channels,
                dtype,
            );
        }
        sums
    } else {
        statistics.clone()
    };
    let count = count as f32;
    // SAFETY: every unit works on its own channel below `channels`, and the offsets lie inside the flat parameters and
    // the statistics by the plan.
    unsafe {
        norm::norm::launch_unchecked(
            &params.client,
            grid(1, channels),
            dim(),
            rows.into_tensor_arg(),
            sums.into_tensor_arg(),
            params.clone().into_tensor_arg(),
            norms.clone().into_tensor_arg(),
            statistics.clone().into_tensor_arg(),
            offsets.gamma,
            offsets.beta,
            offsets.statistic,
            offsets.branch,
            channels,
            count,
            count / (count - 1.0).max(1.0),
            EPSILON,
            kind,
            dtype,
        );
    }
}

/// How the gradients of a layer's branches follow from the drive's.
#[derive(Debug)]
pub(super) struct NormGrads<R: CubeRuntime> {
    /// `[branches, 3, C]`.
    back: CubeTensor<R>,
    /// Of scales and shifts of every branch, then of the leak by channel, `[2 branches + 1, C]`.
    pub(super) grads: CubeTensor<R>,
}

/// See [`norm::norm_param_grad`]; `batch` says which branches have batch statistics.
pub(super) fn norm_param_grad<R: CubeRuntime>(
    layer: &Layer<'_, R>,
    norms: &CubeTensor<R>,
    sums: CubeTensor<R>,
    batch: &[bool],
) -> NormGrads<R> {
    let (branches, channels, sites) = (layer.branches.len(), layer.shape.channels, layer.sites());
    let back = empty(norms, &[branches, 3, channels], DType::F32);
    let grads = empty(norms, &[2 * branches + 1, channels], DType::F32);
    let bits =
        |of: &dyn Fn(usize) -> bool| (0..branches).fold(0, |bits, branch| bits | u32::from(of(branch)) << branch);
    // SAFETY: every unit works on its own channel below `channels`.
    unsafe {
        norm::norm_param_grad::launch_unchecked(
            &norms.client,
            grid(1, channels),
            dim(),
            sums.into_tensor_arg(),
            norms.clone().into_tensor_arg(),
            back.clone().into_tensor_arg(),
            grads.clone().into_tensor_arg(),
            channels,
            (sites * layer.steps) as f32,
            sites as f32,
            branches,
            bits(&|branch| batch[branch]),
            bits(&|branch| layer.branches[branch].constant),
        );
    }
    NormGrads { back, grads }
}

/// Gradient of the output of one branch's convolution, in its shape.
pub(super) fn norm_grad<R: CubeRuntime>(
    layer: &Layer<'_, R>,
    norms: &CubeTensor<R>,
    norm_grads: &NormGrads<R>,
    drive_grad: &CubeTensor<R>,
    branch: usize,
) -> CubeTensor<R> {
    let driving = &layer.branches[branch];
    let (sites, channels) = (layer.sites(), layer.shape.channels);
    let steps = if driving.constant { 1 } else { layer.steps };
    let out = empty_map(norms, steps * layer.batch, layer.shape, layer.dtype());
    // SAFETY: units beyond the last site or channel do nothing.
    unsafe {
        norm::norm_grad::launch_unchecked(
            &norms.client,
            each(sites, channels),
            dim(),
            driving.over_time(layer.steps).into_tensor_arg(),
            Rows::of(drive_grad.clone()).over_time(layer.steps).into_tensor_arg(),
            norms.clone().into_tensor_arg(),
            norm_grads.back.clone().into_tensor_arg(),
            Rows::of(out.clone()).over_time(steps).into_tensor_arg(),
            branch,
            layer.steps,
            sites,
            channels,
            driving.constant,
            layer.dtype().into(),
        );
    }
    out
}

/// Values `[T B, C, H, W]` as bits.
pub(super) fn pack<R: CubeRuntime>(x: &Rows<R>, batch: usize, steps: usize, shape: ImageShape) -> Packed<R> {
    let view = x.over_time(steps);
    let spikes = Packed::empty(&view, batch, steps, shape);
    let (sites, dtype) = (batch * shape.area(), view.dtype.into());
    let client = view.client.clone();
    // SAFETY: units beyond the last site or channel write nothing but their own shared memory.
    unsafe {
        packed::pack::launch_unchecked(
            &client,
            each(sites, shape.channels),
            dim(),
            view.into_tensor_arg(),
            spikes.words.clone().into_tensor_arg(),
            sites,
            shape.area(),
            shape.channels,
            steps,
            dtype,
        );
    }
    spikes
}

/// Spikes as values `[T B, C, H, W]`.
pub(super) fn unpack<R: CubeRuntime>(spikes: &Packed<R>, dtype: DType) -> CubeTensor<R> {
    let shape = spikes.shape;
    let (sites, words) = (spikes.batch * shape.area(), &spikes.words);
    let out = empty_map(words, spikes.steps * spikes.batch, shape, dtype);
    // SAFETY: units beyond the last site or channel do nothing.
    unsafe {
        packed::unpack::launch_unchecked(
            &words.client,
            each(sites, shape.channels),
            dim(),
            words.clone().into_tensor_arg(),
            Rows::of(out.clone()).over_time(spikes.steps).into_tensor_arg(),
            spikes.steps,
            sites,
            shape.area(),
            shape.channels,
            spikes.words_per_position,
            dtype.into(),
        );
    }
    out
}

/// Average of spikes over time, `[B, C, H, W]` in f32.
pub(super) fn mean<R: CubeRuntime>(spikes: &Packed<R>) -> CubeTensor<R> {
    let shape = spikes.shape;
    let (sites, words) = (spikes.batch * shape.area(), &spikes.words);
    let out = empty_map(words, spikes.batch, shape, DType::F32);
    // SAFETY: units beyond the last site or channel do nothing.
    unsafe {
        packed::mean::launch_unchecked(
            &words.client,
            each(sites, shape.channels),
            dim(),
            words.clone().into_tensor_arg(),
            Rows::of(out.clone()).over_time(1).into_tensor_arg(),
            spikes.steps,
            sites,
            shape.area(),
            shape.channels,
            spikes.words_per_position,
        );
    }
    out
}

/// Columns `[F H' W', taps C]` of spikes.
pub(super) fn columns_of_spikes<R: CubeRuntime>(spikes: &Packed<R>, window: Window, dtype: DType) -> CubeTensor<R> {
    let (sites, channels) = (spikes.steps * spikes.batch * outputs(window), spikes.shape.channels);
    let out = empty(&spikes.words, &[sites, window.taps() as usize * channels], dtype);
    // SAFETY: units beyond the last site or channel do nothing, and what is read lies inside the map by `input_of`.
    unsafe {
        columns::of_spikes::launch_unchecked(
            &out.client,
            each(sites, channels),
            dim(),
            spikes.words.clone().into_tensor_arg(),
            out.clone().into_tensor_arg(),
            sites,
            channels,
            spikes.batch,
            spikes.steps,
            spikes.words_per_position,
            window,
            dtype.into(),
        );
    }
    out
}

/// Columns `[F H' W', taps C]` of a map `[F, C, H, W]`.
pub(super) fn columns_of_map<R: CubeRuntime>(x: CubeTensor<R>, window: Window) -> CubeTensor<R> {
    let (frames, channels, dtype) = (x.meta.shape()[0], x.meta.shape()[1], x.dtype);
    let sites = frames * outputs(window);
    let out = empty(&x, &[sites, window.taps() as usize * channels], dtype);
    let rows = Rows::of(x).over_time(1).into_tensor_arg();
    // SAFETY: as for `columns_of_spikes`.
    unsafe {
        columns::of_map::launch_unchecked(
            &out.client,
            each(sites, channels),
            dim(),
            rows,
            out.clone().into_tensor_arg(),
            sites,
            channels,
            window,
            dtype.into(),
        );
    }
    out
}

/// The gradient `[F, C, H, W]` of a map from that of its columns.
pub(super) fn fold<R: CubeRuntime>(
    columns: CubeTensor<R>,
    frames: usize,
    shape: ImageShape,
    window: Window,
) -> CubeTensor<R> {
    let out = empty_map(&columns, frames, shape, columns.dtype);
    let (sites, dtype) = (frames * shape.area(), columns.dtype);
    // SAFETY: units beyond the last site or channel do nothing, and what is read lies below the outputs of the window.
    unsafe {
        columns::fold::launch_unchecked(
            &out.client,
            each(sites, shape.channels),
            dim(),
            columns.into_tensor_arg(),
            Rows::of(out.clone()).over_time(1).into_tensor_arg(),
            sites,
            shape.channels,
            window,
            dtype.into(),
        );
    }
    out
}

fn outputs(window: Window) -> usize {
    (window.output[0] * window.output[1]) as usize
}

/// The gradient `[F, C, H, W]` of a map from that of its pooling.
pub(super) fn unpool<R: CubeRuntime>(x: &CubeTensor<R>, grad: CubeTensor<R>, windows: Windows) -> CubeTensor<R> {
    let (frames, channels) = (grad.meta.shape()[0], grad.meta.shape()[1]);
    let shape = ImageShape::new(channels, windows.input[0] as usize, windows.input[1] as usize);
    let out = empty_map(&grad, frames, shape, grad.dtype);
    let (sites, dtypes) = (frames * shape.area(), [x.dtype.into(), grad.dtype.into()]);
    let x = if windows.largest { Rows::of(x.clone()).over_time(1) } else { x.clone() };
    // SAFETY: units beyond the last site or channel do nothing; of an average `x` is not read.
    unsafe {
        pool::unpool::launch_unchecked(
            &out.client,
            each(sites, channels),
            dim(),
            x.into_tensor_arg(),
            Rows::of(grad).over_time(1).into_tensor_arg(),
            Rows::of(out.clone()).over_time(1).into_tensor_arg(),
            sites,
            channels,
            windows,
            dtypes,
        );
    }
    out
}

/// The sum of the values of a vector, or of their squares, `[1]`, in an order that follows from its length alone.
pub(super) fn sum<R: CubeRuntime>(x: CubeTensor<R>, squares: bool) -> CubeTensor<R> {
    let length = x.meta.shape()[0];
    let parts = length.div_ceil(VECTOR * PER_PART).clamp(1, PARTS);
    let out = empty(&x, &[parts], DType::F32);
    // SAFETY: units beyond the last value add nothing, and each cube writes the sum of its own part.
    unsafe {
        vector::sum::launch_unchecked(
            &out.client,
            CubeCount::Static(parts as u32, 1, 1),
            CubeDim::new_1d(VECTOR as u32),
            x.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            length,
            squares,
        );
    }
    if parts == 1 { out } else { sum(out, false) }
}

/// The sum `[M, N]` of matrices `[parts, M, N]` in f32, in their order.
pub(super) fn sum_parts<R: CubeRuntime>(matrices: CubeTensor<R>) -> CubeTensor<R> {
    let shape = matrices.meta.shape();
    let (parts, rows, columns) = (shape[0], shape[1], shape[2]);
    let out = empty(&matrices, &[rows, columns], DType::F32);
    let length = rows * columns;
    // SAFETY: units at or beyond `length` do nothing.
    unsafe {
        vector::sum_parts::launch_unchecked(
            &out.client,
            CubeCount::Static(length.div_ceil(VECTOR) as u32, 1, 1),
            CubeDim::new_1d(VECTOR as u32),
            matrices.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            parts,
            length,
        );
    }
    out
}

/// Units of a cube of a vector.
const VECTOR: usize = 256;

/// New values and moments of a parameter by a step of an optimiser, `[parameter, first, second]`; for SGD `second` is
/// `None`.
pub(super) fn step<R: CubeRuntime>(
    rule: &StepRule,
    [parameter, grad, first]: [CubeTensor<R>; 3],
    second: Option<CubeTensor<R>>,
) -> ([CubeTensor<R>; 2], Option<CubeTensor<R>>) {
    let length = parameter.meta.shape()[0];
    let new = || empty(&grad, &[length], DType::F32);
    let (new_parameter, new_first, new_second) = (new(), new(), second.as_ref().map(|_| new()));
    let ([a, b], keep, rate, share, epsilon, adamw) = match *rule {
        StepRule::Sgd { momentum, decay, rate } => ([momentum, decay], 1.0, rate, 1.0, 0.0, false),
        StepRule::Adamw { betas, keep, rate, share, epsilon } => (betas, keep, rate, share, epsilon, true),
    };
    // SAFETY: units at or beyond `length` do nothing; SGD neither reads nor writes a second moment, and the first
    // stands in.
    unsafe {
        vector::step::launch_unchecked(
            &grad.client,
            CubeCount::Static(length.div_ceil(VECTOR) as u32, 1, 1),
            CubeDim::new_1d(VECTOR as u32),
            parameter.into_tensor_arg(),
            grad.clone().into_tensor_arg(),
            first.clone().into_tensor_arg(),
            second.unwrap_or(first).into_tensor_arg(),
            new_parameter.clone().into_tensor_arg(),
            new_first.clone().into_tensor_arg(),
            new_second.clone().unwrap_or_else(|| new_first.clone()).into_tensor_arg(),
            length,
            a,
            b,
            keep,
            rate,
            share,
            epsilon,
            adamw,
        );
    }
    ([new_parameter, new_first], new_second)
}
