//! Where the taps of a convolution reach, worked out once per layer.
//!
//! A fully connected layer on spikes is a 1x1 convolution over one row of T positions whose channels are all sites of
//! the map; on an image, over a single position. So there is one set of kernels.

use super::value::tile_width;
use super::{polyphase, winograd};
use crate::spikes::WORD;
use bloctrain_shared::graph::Conv;

/// Positions of a band.
pub(super) const BAND: usize = WORD;

/// Positions that the same taps reach, in a framed map.
#[derive(Debug)]
pub(super) struct Class {
    /// Each tap with its offset in the map.
    pub(super) taps: Vec<(usize, usize)>,
    /// Each position: its place in the map without a tap's offset, and its index among the results.
    pub(super) positions: Vec<(usize, usize)>,
    /// The last place of the map that is read.
    pub(super) last_place: usize,
    pub(super) last_tap: usize,
    pub(super) last_result: usize,
}

impl Class {
    fn new(taps: Vec<(usize, usize)>, positions: Vec<(usize, usize)>) -> Self {
        let last =
            |pairs: &[(usize, usize)], pick: fn(&(usize, usize)) -> usize| pairs.iter().map(pick).max().unwrap_or(0);
        let last_place = last(&taps, |tap| tap.1) + last(&positions, |position| position.0);
        let (last_tap, last_result) = (last(&taps, |tap| tap.0), last(&positions, |position| position.1));
        Self { taps, positions, last_place, last_tap, last_result }
    }
}

/// How the gradient of a convolution's input is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputGradAlgorithm {
    /// A dense product.
    Product,
    /// In the transform domain of [`winograd`].
    Winograd,
    /// In the transform domain of [`polyphase`].
    Polyphase,
}

/// Sizes of a convolution as the kernels see it.
#[derive(Debug)]
pub(super) struct Geometry {
    /// Frames of a sample.
    pub(super) frames: usize,
    /// Rows and columns of the input.
    pub(super) input: [usize; 2],
    /// Rows and columns of the output.
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    pub(super) padding: [usize; 2],
    /// Words of one input position.
    pub(super) words: usize,
    /// Weight rows of one tap.
    pub(super) rows: usize,
    /// Rows and columns of the output with the frame of zeros that all taps stay inside.
    pub(super) framed: [usize; 2],
    /// Zeros before the first row and column.
    pub(super) before: [usize; 2],
    /// Input positions and the output gradients that their taps reach. With stride 1 there is one class; with stride 2
    /// there are four.
    pub(super) classes: Vec<Class>,
    /// Rows and columns of the input with the zeros that taps may reach.
    pub(super) map: [usize; 2],
    /// Output positions and the inputs that their taps reach.
    pub(super) reach: Class,
    /// Each output position: its place in the framed input without a tap's offset, and in the framed gradient.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Whether [`winograd`] computes it with fewer products.
    pub(super) winograd: bool,
    /// Whether [`polyphase`] computes the input's gradient with fewer products.
    polyphase: bool,
    pub(super) conv: Conv,
    /// A fully connected layer on bits.
    pub(super) flat: bool,
}

impl Geometry {
    /// The geometry over `steps` steps of bits, or of images that are the same at every step.
    pub(super) fn new(conv: Conv, steps: usize, analogue: bool) -> Self {
        let words = conv.input.channels.div_ceil(WORD);
        let area = conv.input.area();
        let flat = conv.is_full() && !analogue;
        let (input, output, kernel, padding, frames, words, rows) = match (conv.is_full(), analogue) {
            (true, true) => ([1, 1], [1, 1], [1, 1], [0, 0], 1, 0, conv.input.len()),
            (true, false) => ([1, steps], [1, steps], [1, 1], [0, 0], 1, area * words, area * words * WORD),
            (false, _) => {
                let output = conv.output();
                let frames = if analogue { 1 } else { steps };
                let (input, output) = ([conv.input.height, conv.input.width], [output.height, output.width]);
                (input, output, conv.kernel, conv.padding, frames, words, conv.input.channels)
            }
        };
        let stride = if conv.is_full() { 1 } else { conv.stride };
        let before = [0, 1].map(|axis| (kernel[axis] - 1 - padding[axis]).div_ceil(stride));
        let after = [0, 1].map(|axis| ((input[axis] - 1 + padding[axis]) / stride).saturating_sub(output[axis] - 1));
        let framed = [0, 1].map(|axis| before[axis] + output[axis] + after[axis]);
        let map = [0, 1].map(|axis| (output[axis] - 1) * stride + kernel[axis]);
        let reach = Class::new(Vec::new(), Vec::new());
        let winograd = kernel == [3, 3] && stride == 1 && padding == [1, 1] && winograd::pays(output);
        let mut geometry = Self {
            frames,
            input,
            output,
            kernel,
            stride,
            padding,
            words,
            rows,
            framed,
            before,
            classes: Vec::new(),
            map,
            reach,
            pairs: Vec::new(),
            winograd,
            polyphase: false,
            conv,
            flat,
        };
        geometry.classes = (0..stride * stride).map(|class| geometry.class(class / stride, class % stride)).collect();
        let taps = geometry.classes.iter().map(|class| class.taps.len() * class.positions.len()).sum();
        geometry.polyphase = kernel == [3, 3] && stride == 2 && padding == [1, 1] && polyphase::pays(output, taps);
        geometry.reach = geometry.reach();
        let framed_place = |output: usize| {
            (output / geometry.output[1] + before[0]) * framed[1] + output % geometry.output[1] + before[1]
        };
        geometry.pairs =
            geometry.reach.positions.iter().map(|&(place, output)| (place, framed_place(output))).collect();
        geometry
    }

    fn reach(&self) -> Class {
        let taps =
            (0..self.taps()).map(|tap| (tap, tap / self.kernel[1] * self.map[1] + tap % self.kernel[1])).collect();
        let place = |at: usize| at / self.output[1] * self.stride * self.map[1] + at % self.output[1] * self.stride;
        Class::new(taps, (0..self.output_area()).map(|at| (place(at), at)).collect())
    }

    pub(super) fn map_area(&self) -> usize {
        self.map[0] * self.map[1]
    }

    /// Frames that are worked on together, so that there is enough to do where maps are small.
    pub(super) fn frames_at_once(&self) -> usize {
        let full = BAND * self.stride * self.stride / self.input_area().max(1);
        let tiles = match (self.winograd, self.polyphase) {
            (true, _) => winograd::AT_ONCE,
            (_, true) => polyphase::AT_ONCE,
            _ => 0,
        };
        full.max(tiles / winograd::tiles(self.output)).clamp(1, self.frames)
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn input_area(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_area(&self) -> usize {
        self.output[0] * self.output[1]
    }

    pub(super) fn framed_area(&self) -> usize {
        self.framed[0] * self.framed[1]
    }

    /// Shift of the output for a tap from input rows (columns) of remainder `rest`; `None` when it reaches none of
    /// them.
    fn shift(&self, axis: usize, rest: usize, tap: usize) -> Option<usize> {
        // Positive by adding the frame before dividing.
        let reach = rest + self.padding[axis] + self.before[axis] * self.stride;
        let reach = reach.checked_sub(tap)?;
        (reach % self.stride == 0).then_some(reach / self.stride)
    }

    fn class(&self, rest_y: usize, rest_x: usize) -> Class {
        let mut taps = Vec::new();
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                if let (Some(dy), Some(dx)) = (self.shift(0, rest_y, ky), self.shift(1, rest_x, kx)) {
                    taps.push((ky * self.kernel[1] + kx, dy * self.framed[1] + dx));
                }
            }
        }
        let mut positions = Vec::new();
        for y in (rest_y..self.input[0]).step_by(self.stride) {
            for x in (rest_x..self.input[1]).step_by(self.stride) {
                positions.push((y / self.stride * self.framed[1] + x / self.stride, y * self.input[1] + x));
            }
        }
        Class::new(taps, positions)
    }

    /// Channels of an output tile.
    pub(super) fn outputs(&self, tile: usize) -> usize {
        (self.conv.outputs - tile * WORD).min(WORD)
    }

    /// Tiles of the input's gradient as the kernels see them.
    pub(super) fn input_tiles(&self) -> usize {
        if self.flat { self.words } else { self.conv.input.channels.div_ceil(WORD) }
    }

    /// Where tile `tile` of the kernels lies in the gradient of the input: its tile, where it starts in a frame (a
    /// sample, for a fully connected layer), and its row stride.
    pub(super) fn input_tile(&self, tile: usize) -> (usize, usize, usize) {
        if !self.flat {
            let width = tile_width(self.conv.input.channels, tile);
            return (tile, 0, width);
        }
        let words = self.conv.input.channels.div_ceil(WORD);
        let (position, word) = (tile / words, tile % words);
        let width = tile_width(self.conv.input.channels, word);
        (word, position * width, self.conv.input.area() * width)
    }

    /// How the gradient of the input is computed, for an output tile.
    pub(super) fn input_grad_algorithm(&self, tile: usize) -> InputGradAlgorithm {
        match self.outputs(tile) >= winograd::FEWEST {
            true if self.winograd => InputGradAlgorithm::Winograd,
            true if self.polyphase => InputGradAlgorithm::Polyphase,
            _ => InputGradAlgorithm::Product,
        }
    }
}
