//! Convolutions as products of matrices: the inputs of every output side by side (`kernels::columns`), times the
//! weights.
//!
//! Products are cubek's, by an algorithm that is written down here instead of chosen by measurement at the first call:
//! measuring tries some hundred kernels for a network, and each takes NVRTC a second. bf16 and f16 go to matrix units
//! where the device has them, with sums in f32; f32 stays f32, without the rounding of tf32.

use super::Cube;
use super::kernels::columns::Window;
use super::launch;
use super::layout::{Rows, empty};
use super::packed::Packed;
use crate::kernel::pool;
use crate::kernel::{lift, lower};
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{AdaptivePool, Conv};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::{DType, Shape, Tensor};
use cubecl::client::ComputeClient;
use cubecl::ir::features::Tma;
use cubecl::ir::{ElemType, FloatKind, StorageType};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

/// Products of a weight gradient that run beside each other, at least, where there are enough sites to sum over: a
/// gradient has few outputs, and one product would leave most of a large device idle.
const CUBES: usize = 264;
/// Outputs of a product that one cube works out, about.
const TILE: usize = 128;
/// Sites that one part of a weight gradient sums over, at least.
const PART: usize = 512;

/// An algorithm for products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Sums in registers of units, f32 without rounding.
    Unit,
    /// Matrix units by CUDA's `wmma`.
    Cmma,
    /// Matrix units by `mma` instructions.
    Mma,
    /// The same, with one stage loaded while the other is worked on.
    DoubleCmma,
    /// The same by `mma`.
    DoubleMma,
    /// The same, the left matrix in order.
    OrderedMma,
    /// Loaded by Hopper's copy engine.
    TmaMma,
    /// The same, with two stages.
    DoubleTmaMma,
    /// The same, by planes of their own.
    SpecializedTmaMma,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unit,
        Self::Cmma,
        Self::Mma,
        Self::DoubleCmma,
        Self::DoubleMma,
        Self::OrderedMma,
        Self::TmaMma,
        Self::DoubleTmaMma,
        Self::SpecializedTmaMma,
    ];

    fn strategy(self) -> Strategy {
        match self {
            Self::Unit => Strategy::SimpleUnit(Default::default()),
            Self::Cmma => Strategy::SimpleCyclicCmma(Default::default()),
            Self::Mma => Strategy::SimpleCyclicMma(Default::default()),
            Self::DoubleCmma => Strategy::DoubleCyclicCmma(Default::default()),
            Self::DoubleMma => Strategy::DoubleCyclicMma(Default::default()),
            Self::OrderedMma => Strategy::OrderedDoubleMma(Default::default()),
            Self::TmaMma => Strategy::SimpleTmaMma(Default::default()),
            Self::DoubleTmaMma => Strategy::DoubleTmaMma(Default::default()),
            Self::SpecializedTmaMma => Strategy::SpecializedTmaMma(Default::default()),
        }
    }

    /// Those that are tried for a product, in this order: the first that takes the shape.
    fn of<R: CubeRuntime>(x: &CubeTensor<R>) -> &'static [Self] {
        // Where a kernel needs what the card has not, its launch succeeds all the same, and the next read fails: so
        // what a card has is asked for here.
        if x.dtype == DType::F32 || !has_units(&x.client, x.dtype) {
            &[Self::Unit]
        } else if x.client.features().tma.contains(Tma::Base) {
            &[Self::SpecializedTmaMma, Self::DoubleMma, Self::Mma, Self::Cmma, Self::Unit]
        } else {
            &[Self::DoubleMma, Self::Mma, Self::Cmma, Self::Unit]
        }
    }
}

/// Whether the device has matrix units for an element, with sums in f32.
pub(super) fn has_units<R: CubeRuntime>(client: &ComputeClient<R>, element: DType) -> bool {
    let (element, sum) = (StorageType::from(element), StorageType::from(ElemType::Float(FloatKind::F32)));
    let features = client.features();
    // CubeCL 0.10 has bf16 on the matrix units of every card, but Turing's do not take it. Asynchronous copies came
    // with bf16, in compute capability 8.0.
    if element == StorageType::from(DType::BF16) && !features.copy_async {
        return false;
    }
    features
        .matmul
        .cmma
        .iter()
        .any(|config| config.a_type == element && config.b_type == element && config.cd_type == sum)
}

/// What a convolution reads.
#[derive(Debug, Clone)]
pub(super) enum Input<R: CubeRuntime> {
    /// A map `[F, C, H, W]`.
    Map(CubeTensor<R>),
    /// Packed spikes, to be taken in this element.
    Spikes(Packed<R>, DType),
}

impl<R: CubeRuntime> Input<R> {
    fn frames(&self) -> usize {
        match self {
            Self::Map(x) => x.meta.shape()[0],
            Self::Spikes(spikes, _) => spikes.steps * spikes.batch,
        }
    }

    /// `[F H' W', taps C]`.
    fn columns(self, conv: Conv) -> CubeTensor<R> {
        match self {
            Self::Map(x) if is_plain(conv) => {
                let rows = Rows::of(x);
                into_contiguous(matrix(rows.over_time(1), [rows.count(), rows.channels()]))
            }
            Self::Map(x) => launch::columns_of_map(x, window(conv)),
            Self::Spikes(spikes, dtype) => launch::columns_of_spikes(&spikes, window(conv), dtype),
        }
    }
}

/// Whether every output reads the one input at its own position.
fn is_plain(conv: Conv) -> bool {
    conv.taps() == 1 && conv.stride == 1 && conv.padding == [0; 2]
}

fn window(conv: Conv) -> Window {
    let (input, output) = (conv.input, conv.output());
    Window {
        input: [input.height as u32, input.width as u32],
        output: [output.height as u32, output.width as u32],
        kernel: conv.kernel.map(|size| size as u32),
        stride: conv.stride as u32,
        padding: conv.padding.map(|size| size as u32),
    }
}

/// The outputs `[F, O, H', W']` of a convolution with `weight [O, C, kh, kw]`.
pub(super) fn forward<R: CubeRuntime>(input: Input<R>, weight: CubeTensor<R>, conv: Conv) -> CubeTensor<R> {
    forward_by(None, input, weight, conv).expect(UNIT_TAKES_ALL)
}

/// The gradient `[O, C, kh, kw]` of a convolution's weights, in f32, from that of its outputs `[F, O, H', W']`.
pub(super) fn weight_grad<R: CubeRuntime>(input: Input<R>, grad: CubeTensor<R>, conv: Conv) -> CubeTensor<R> {
    weight_grad_by(None, input, grad, conv).expect(UNIT_TAKES_ALL)
}

/// The gradient `[F, C, H, W]` of a convolution's input from that of its outputs `[F, O, H', W']`.
pub(super) fn input_grad<R: CubeRuntime>(grad: CubeTensor<R>, weight: CubeTensor<R>, conv: Conv) -> CubeTensor<R> {
    input_grad_by(None, grad, weight, conv).expect(UNIT_TAKES_ALL)
}

const UNIT_TAKES_ALL: &str = "products in registers take all shapes";

/// A direction of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Outputs of inputs and weights.
    Forward,
    /// Gradient of the inputs.
    InputGrad,
    /// Gradient of the weights.
    WeightGrad,
}

/// A direction by one algorithm, if it takes the shape: for benchmarks. `x` is `[F, C, H, W]`, `weight [O, C, kh, kw]`
/// and `grad [F, O, H', W']`.
pub fn by<R: CubeRuntime>(
    (direction, algorithm): (Direction, Algorithm),
    [x, weight, grad]: [&CubeTensor<R>; 3],
    conv: Conv,
) -> Option<CubeTensor<R>> {
    let (algorithm, input) = (Some(algorithm), Input::Map(x.clone()));
    match direction {
        Direction::Forward => forward_by(algorithm, input, weight.clone(), conv),
        Direction::InputGrad => input_grad_by(algorithm, grad.clone(), weight.clone(), conv),
        Direction::WeightGrad => weight_grad_by(algorithm, input, grad.clone(), conv),
    }
}

fn forward_by<R: CubeRuntime>(
    algorithm: Option<Algorithm>,
    input: Input<R>,
    weight: CubeTensor<R>,
    conv: Conv,
) -> Option<CubeTensor<R>> {
    let frames = input.frames();
    let columns = input.columns(conv);
    let out = product(algorithm, columns.clone(), transposed(weights(weight, conv)), columns.dtype)?;
    Some(map(out, frames, conv.output()))
}

fn weight_grad_by<R: CubeRuntime>(
    algorithm: Option<Algorithm>,
    input: Input<R>,
    grad: CubeTensor<R>,
    conv: Conv,
) -> Option<CubeTensor<R>> {
    let columns = input.columns(conv);
    let grad = rows(grad);
    let (sites, width) = (grad.meta.shape()[0], conv.weights() / conv.outputs);
    let parts = parts(sites, conv.outputs.div_ceil(TILE) * width.div_ceil(TILE));
    let each = sites / parts;
    let grad = transposed(view(grad, &[parts, each, conv.outputs]));
    let columns = view(columns, &[parts, each, width]);
    let sums = product(algorithm, grad, columns, DType::F32)?;
    let sum = if parts == 1 { view(sums, &[conv.outputs, width]) } else { launch::sum_parts(sums) };
    let [kh, kw] = conv.kernel;
    let mut weights = view(sum, &[conv.outputs, kh, kw, conv.input.channels]);
    weights.meta.permute(&[0, 3, 1, 2]).expect("weights have four axes");
    Some(weights)
}

/// Parts of the sites whose sums are worked out beside each other: a power of two that divides them.
fn parts(sites: usize, tiles: usize) -> usize {
    let most = (CUBES / tiles.max(1)).min(sites / PART).max(1);
    let mut parts = 1;
    while 2 * parts <= most && sites.is_multiple_of(2 * parts * 16) {
        parts *= 2;
    }
    parts
}

fn input_grad_by<R: CubeRuntime>(
    algorithm: Option<Algorithm>,
    grad: CubeTensor<R>,
    weight: CubeTensor<R>,
    conv: Conv,
) -> Option<CubeTensor<R>> {
    let (frames, dtype) = (grad.meta.shape()[0], grad.dtype);
    let columns = product(algorithm, rows(grad), weights(weight, conv), dtype)?;
    Some(if is_plain(conv) {
        map(columns, frames, conv.input)
    } else {
        launch::fold(columns, frames, conv.input, window(conv))
    })
}

/// The product `[.., M, N]` of `[.., M, K]` and `[.., K, N]`, each in order or a transposed view.
fn product<R: CubeRuntime>(
    algorithm: Option<Algorithm>,
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    out: DType,
) -> Option<CubeTensor<R>> {
    let mut shape: Vec<usize> = lhs.meta.shape().iter().copied().collect();
    let last = shape.len() - 1;
    shape[last] = rhs.meta.shape()[last];
    let target = empty(&lhs, &shape, out);
    let asked = algorithm.as_ref().map(std::slice::from_ref);
    let taken = asked.unwrap_or_else(|| Algorithm::of(&lhs)).iter().any(|algorithm| {
        let bind = |x: &CubeTensor<R>| InputBinding::new(x.clone().binding(), x.dtype.into());
        let elements = MatmulGlobalElems { lhs: lhs.dtype.into(), rhs: rhs.dtype.into(), out: out.into() };
        let mut elements = MatmulElems::from_globals(&elements);
        let target = target.clone().binding();
        launch_ref(&algorithm.strategy(), &lhs.client, bind(&lhs), bind(&rhs), target, &mut elements).is_ok()
    });
    taken.then_some(target)
}

/// A product in f32 that rounds as f32, where burn's would round to tf32. Either may be a transposed view.
pub(super) fn matmul<R: CubeRuntime, B: Cube<R>>(lhs: Tensor<B, 2>, rhs: Tensor<B, 2>) -> Tensor<B, 2> {
    lift(product(None, lower(lhs), lower(rhs), DType::F32).expect(UNIT_TAKES_ALL))
}

/// The averages `[N, C, h, w]` of a pooling.
pub(super) fn pool<R: CubeRuntime, B: Cube<R>>(pool: &AdaptivePool, x: Tensor<B, 4>) -> Tensor<B, 4> {
    if pool.is_identity() {
        return x;
    }
    let ([frames, channels, ..], ImageShape { height, width, .. }) = (x.dims(), pool.output());
    let matrix = pool::matrix(pool, &x.device());
    matmul(x.reshape([frames * channels, pool.input().area()]), matrix).reshape([frames, channels, height, width])
}

/// The gradient `[N, C, H, W]` of what is pooled.
pub(super) fn unpool<R: CubeRuntime, B: Cube<R>>(pool: &AdaptivePool, grad: Tensor<B, 4>) -> Tensor<B, 4> {
    if pool.is_identity() {
        return grad;
    }
    let ([frames, channels, ..], ImageShape { height, width, .. }) = (grad.dims(), pool.input());
    let matrix = pool::matrix(pool, &grad.device()).transpose();
    matmul(grad.reshape([frames * channels, pool.output().area()]), matrix).reshape([frames, channels, height, width])
}

/// Weights `[O, C, kh, kw]` as `[O, taps C]`.
fn weights<R: CubeRuntime>(mut weight: CubeTensor<R>, conv: Conv) -> CubeTensor<R> {
    weight.meta.permute(&[0, 2, 3, 1]).expect("weights have four axes");
    view(into_contiguous(weight), &[conv.outputs, conv.weights() / conv.outputs])
}

/// A map `[F, C, H, W]` as its rows `[F H W, C]`, in order.
fn rows<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let rows = Rows::of(x);
    into_contiguous(matrix(rows.over_time(1), [rows.count(), rows.channels()]))
}

/// Rows as a map, channels last.
fn map<R: CubeRuntime>(rows: CubeTensor<R>, frames: usize, shape: ImageShape) -> CubeTensor<R> {
    let mut map = view(rows, &[frames, shape.height, shape.width, shape.channels]);
    map.meta.permute(&[0, 3, 1, 2]).expect("a map has four axes");
    map
}

/// `[1, N, C]` as `[N, C]`, with its row stride.
fn matrix<R: CubeRuntime>(mut rows: CubeTensor<R>, shape: [usize; 2]) -> CubeTensor<R> {
    let pitch = rows.meta.strides()[1];
    *rows.meta = Metadata::new(Shape::from(shape), [pitch, 1]);
    rows
}

/// A tensor that lies in order in another shape.
fn view<R: CubeRuntime>(mut x: CubeTensor<R>, shape: &[usize]) -> CubeTensor<R> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len() - 1).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    *x.meta = Metadata::new(Shape::from(shape.to_vec()), strides);
    x
}

/// The last two axes exchanged.
fn transposed<R: CubeRuntime>(mut x: CubeTensor<R>) -> CubeTensor<R> {
    let last = x.meta.shape().num_dims() - 1;
    let mut axes: Vec<usize> = (0..=last).collect();
    axes.swap(last - 1, last);
    x.meta.permute(&axes).expect("a matrix has two axes");
    x
}
