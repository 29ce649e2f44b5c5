//! Shapes of everything that flows through a network, worked out before anything is allocated.

use crate::spec::network::{BlockSpec, HeadSpec, LayerSpec, Network};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Channels, height and width of an image or of a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// A shape from its three sizes.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Number of values.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether the shape holds no value.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of one channel.
    pub const fn area(&self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// A layer that cannot be built on the shape that reaches it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network block {block}, {layer}: {problem}")]
pub struct ShapeError {
    /// The block, counted from 1.
    pub block: usize,
    /// The layer, in words (`layer 2 (conv)`, `classifier`).
    pub layer: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Shapes of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockGeometry {
    /// What enters the block.
    pub input: ImageShape,
    /// What leaves each layer.
    pub layers: Vec<ImageShape>,
    /// What leaves the block.
    pub output: ImageShape,
}

/// Shapes of every block for an input shape.
///
/// # Errors
/// Names the first layer that cannot be built, and why.
pub fn trace(network: &Network, input: ImageShape) -> Result<Vec<BlockGeometry>, ShapeError> {
    if network.blocks.is_empty() {
        return Err(ShapeError { block: 1, layer: "layers".into(), problem: "a network needs at least one block".into() });
    }
    let mut geometries: Vec<BlockGeometry> = Vec::new();
    let mut shape = input;
    for (index, block) in network.blocks.iter().enumerate() {
        let geometry = trace_block(index + 1, block, network.head_of(index), shape)?;
        shape = geometry.output;
        geometries.push(geometry);
    }
    Ok(geometries)
}

fn trace_block(number: usize, block: &BlockSpec, head: &HeadSpec, input: ImageShape) -> Result<BlockGeometry, ShapeError> {
    let at = |layer: String, problem: String| ShapeError { block: number, layer, problem };
    let mut layers = Vec::with_capacity(block.layers.len());
    let mut shape = input;
    for (index, layer) in block.layers.iter().enumerate() {
        let name = format!("layer {} ({})", index + 1, layer_name(layer));
        shape = layer_output(layer, shape).map_err(|problem| at(name, problem))?;
        layers.push(shape);
    }
    if !block.layers.iter().any(LayerSpec::has_neurons) {
        let problem = "a block needs at least one layer with neurons: conv, residual or linear".to_owned();
        return Err(at("layers".into(), problem));
    }
    let after_neurons = block.layers.iter().rev().take_while(|layer| !layer.has_neurons());
    if let Some(layer) = after_neurons.into_iter().find(|layer| !layer.keeps_spikes()) {
        let problem = format!(
            "a block must end in spikes, but {} makes them fractions; move it to the start of the next block, or end with conv, residual, linear or max-pool",
            layer_name(layer)
        );
        return Err(at("end".into(), problem));
    }
    if head.hidden.contains(&0) {
        return Err(at("classifier".into(), "a hidden layer needs at least 1 feature".into()));
    }
    Ok(BlockGeometry { input, layers, output: shape })
}

/// The kind of a layer as written in a spec.
pub fn layer_name(layer: &LayerSpec) -> &'static str {
    match layer {
        LayerSpec::Conv { .. } => "conv",
        LayerSpec::Residual { .. } => "residual",
        LayerSpec::Linear { .. } => "linear",
        LayerSpec::AvgPool { .. } => "avg-pool",
        LayerSpec::MaxPool { .. } => "max-pool",
        LayerSpec::Dropout { .. } => "dropout",
    }
}

/// Output positions of a convolution along one axis, with padding `kernel / 2`: `(n + 2p - k) / s + 1`.
pub const fn conv_positions(size: usize, kernel: usize, stride: usize) -> usize {
    (size + 2 * (kernel / 2) - kernel) / stride + 1
}

/// The shape that leaves a layer.
///
/// # Errors
/// Says what is impossible about the layer on this input.
pub fn layer_output(layer: &LayerSpec, input: ImageShape) -> Result<ImageShape, String> {
    match *layer {
        LayerSpec::Conv { channels, kernel, stride } => {
            if kernel % 2 == 0 {
                return Err(format!("kernel {kernel} is even; use an odd side such as 3"));
            }
            convolve(input, channels, kernel, stride)
        }
        LayerSpec::Residual { channels, stride } => convolve(input, channels, 3, stride),
        LayerSpec::Linear { features: 0 } => Err("features must be at least 1".into()),
        LayerSpec::Linear { features } => Ok(ImageShape::new(features, 1, 1)),
        LayerSpec::AvgPool { size } | LayerSpec::MaxPool { size } => pool(input, size),
        LayerSpec::Dropout { p } if !(0.0..1.0).contains(&p) => Err(format!("p = {p} is not a probability in [0, 1)")),
        LayerSpec::Dropout { .. } => Ok(input),
    }
}

fn convolve(input: ImageShape, channels: usize, kernel: usize, stride: usize) -> Result<ImageShape, String> {
    if channels == 0 || stride == 0 {
        return Err("channels and stride must be at least 1".into());
    }
    if stride > input.height.min(input.width) {
        return Err(format!("stride {stride} is larger than its {}x{} input", input.height, input.width));
    }
    let positions = |size| conv_positions(size, kernel, stride);
    Ok(ImageShape::new(channels, positions(input.height), positions(input.width)))
}

fn pool(input: ImageShape, size: usize) -> Result<ImageShape, String> {
    if size == 0 {
        return Err("size must be at least 1".into());
    }
    if input.height < size || input.width < size {
        let reason = format!(
            "a window of {size}x{size} does not fit its {}x{} input; remove a pooling or a stride before it",
            input.height, input.width
        );
        return Err(reason);
    }
    Ok(ImageShape::new(input.channels, input.height / size, input.width / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NetworkSpec;

    fn preset(name: &str, width: usize) -> Network {
        NetworkSpec { preset: Some(name.into()), width: Some(width), ..NetworkSpec::default() }.resolve().expect("a preset")
    }

    #[test]
    fn resnet9_ends_in_8w_by_4_by_4() {
        let geometry = trace(&preset("resnet9", 16), ImageShape::new(3, 32, 32)).expect("fits");
        let outputs: Vec<_> = geometry.iter().map(|block| block.output).collect();
        assert_eq!(outputs, [ImageShape::new(32, 16, 16), ImageShape::new(64, 8, 8), ImageShape::new(128, 4, 4)]);
    }

    #[test]
    fn an_impossible_layer_is_named() {
        let error = trace(&preset("vgg16", 8), ImageShape::new(3, 20, 20)).expect_err("20 pixels do not halve five times");
        assert_eq!((error.block, error.layer.as_str()), (5, "layer 4 (max-pool)"));
    }

    #[test]
    fn a_block_may_not_end_in_fractions() {
        let layers = vec![LayerSpec::Conv { channels: 4, kernel: 3, stride: 1 }, LayerSpec::AvgPool { size: 2 }];
        let spec = NetworkSpec { block: vec![BlockSpec { layers }], ..NetworkSpec::default() };
        let error = trace(&spec.resolve().expect("resolves"), ImageShape::new(1, 8, 8)).expect_err("not binary");
        assert!(error.problem.contains("avg-pool"), "{error}");
    }
}
