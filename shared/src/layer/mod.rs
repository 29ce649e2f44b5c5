//! The layers of a block, one file for each type: its fields in a specification, its checks, and its lowering to nodes
//! of the [graph](crate::graph), which give its shape.

mod conv;
mod dropout;
mod linear;
mod pool;
mod residual;

pub use conv::Conv;
pub use dropout::Dropout;
pub use linear::Linear;
pub use pool::{AvgPool, MaxPool};
pub use residual::Residual;

use crate::ImageShape;
use crate::graph::Lowering;
use serde::{Deserialize, Serialize};

/// One layer. `conv`, `residual` and `linear` end in spiking neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LayerSpec {
    /// See [`Conv`].
    #[serde(rename = "conv")]
    Conv(Conv),
    /// See [`Residual`].
    #[serde(rename = "residual")]
    Residual(Residual),
    /// See [`Linear`].
    #[serde(rename = "linear")]
    Linear(Linear),
    /// See [`AvgPool`].
    #[serde(rename = "avg-pool")]
    AvgPool(AvgPool),
    /// See [`MaxPool`].
    #[serde(rename = "max-pool")]
    MaxPool(MaxPool),
    /// See [`Dropout`].
    #[serde(rename = "dropout")]
    Dropout(Dropout),
}

/// What every type of layer says about itself.
trait Layer {
    /// Its name in specifications.
    fn name(&self) -> &'static str;

    /// Whether `network.norm` changes it.
    fn is_normalised(&self) -> bool;

    /// Says what is impossible about it on an input of this shape.
    fn check(&self, input: ImageShape) -> Result<(), String>;

    /// Adds its nodes and parameters; `index` is its place in the block, from 0. It was checked.
    fn lower(&self, index: usize, lowering: &mut Lowering<'_>);
}

/// The name of a layer's parameters.
fn part(index: usize) -> String {
    format!("layer{}", index + 1)
}

impl LayerSpec {
    /// A convolution.
    pub fn conv(channels: usize, kernel: usize, stride: usize) -> Self {
        Self::Conv(Conv { channels, kernel, stride })
    }

    /// A residual pair.
    pub fn residual(channels: usize, stride: usize) -> Self {
        Self::Residual(Residual { channels, stride })
    }

    /// A fully connected layer.
    pub fn linear(features: usize) -> Self {
        Self::Linear(Linear { features })
    }

    /// Averages over windows.
    pub fn avg_pool(size: usize) -> Self {
        Self::AvgPool(AvgPool { size })
    }

    /// Maxima over windows.
    pub fn max_pool(size: usize) -> Self {
        Self::MaxPool(MaxPool { size })
    }

    /// Dropout.
    pub fn dropout(p: f32) -> Self {
        Self::Dropout(Dropout { p })
    }

    fn own(&self) -> &dyn Layer {
        match self {
            Self::Conv(layer) => layer,
            Self::Residual(layer) => layer,
            Self::Linear(layer) => layer,
            Self::AvgPool(layer) => layer,
            Self::MaxPool(layer) => layer,
            Self::Dropout(layer) => layer,
        }
    }

    /// Its type as written in a specification.
    pub fn name(&self) -> &'static str {
        self.own().name()
    }

    /// Whether `network.norm` changes it.
    pub fn is_normalised(&self) -> bool {
        self.own().is_normalised()
    }

    /// Refuses a layer that cannot be on an input of this shape.
    ///
    /// # Errors
    /// Says what is impossible, and what would be right.
    pub fn check(&self, input: ImageShape) -> Result<(), String> {
        self.own().check(input)
    }

    /// Adds its nodes and parameters to a body, after [`check`](Self::check); `index` is its place in the block, from
    /// 0.
    pub fn lower(&self, index: usize, lowering: &mut Lowering<'_>) {
        self.own().lower(index, lowering);
    }
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

/// Refuses convolutions without channels, and strides that leave the input.
fn check_convolution(input: ImageShape, channels: usize, stride: usize) -> Result<(), String> {
    if channels == 0 || stride == 0 {
        return Err("channels and stride must be at least 1".into());
    }
    if stride > input.height.min(input.width) {
        return Err(format!("stride {stride} is larger than its {}x{} input", input.height, input.width));
    }
    Ok(())
}

/// Refuses windows that do not fit.
fn check_window(input: ImageShape, size: usize) -> Result<(), String> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_written_by_their_type_and_unknown_fields_are_refused() {
        let all = [
            LayerSpec::conv(8, 3, 1),
            LayerSpec::residual(8, 1),
            LayerSpec::linear(5),
            LayerSpec::avg_pool(2),
            LayerSpec::max_pool(2),
            LayerSpec::dropout(0.25),
        ];
        for layer in all {
            let text = serde_json::to_string(&layer).expect("plain data");
            assert!(text.starts_with(&format!("{{\"type\":\"{}\",", layer.name())), "{text}");
            assert_eq!(serde_json::from_str::<LayerSpec>(&text).expect("the same"), layer);
            let more = text.replace('}', ",\"colour\":1}");
            let refused = serde_json::from_str::<LayerSpec>(&more).expect_err("no such field").to_string();
            assert!(refused.contains("colour"), "{refused}");
        }
        let short: LayerSpec = serde_json::from_str("{\"type\":\"conv\",\"channels\":8}").expect("defaults");
        assert_eq!(short, LayerSpec::conv(8, 3, 1));
    }
}
