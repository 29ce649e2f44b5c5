//! Values that the device may still be working on.

use super::to_host;
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;
use std::fmt;
use std::sync::Arc;

/// A vector on a device, read when it is needed: reading waits for all work that was queued before.
#[derive(Clone)]
pub struct Later(Arc<dyn Fn() -> Vec<f32> + Send + Sync>);

impl Later {
    /// To be read from a tensor.
    pub fn new<B: Backend>(x: Tensor<B, 1>) -> Self {
        Self(Arc::new(move || to_host(x.clone())))
    }

    /// The values.
    pub fn read(&self) -> Vec<f32> {
        (self.0)()
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}
