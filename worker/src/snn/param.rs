//! Parameters and running statistics: flat tensors with a name, a shape, and a place in a checkpoint.

pub use crate::kernel::to_host;
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_shared::graph::{Initial, Parameter, Running};
use bloctrain_shared::seed;
use burn_tensor::backend::Backend;
use burn_tensor::{Tensor, TensorData};
use rand::RngExt;

/// One trainable tensor, stored flat.
#[derive(Debug, Clone)]
pub struct Param<B: Backend> {
    /// Name in checkpoints.
    pub name: String,
    /// Shape of the tensor that it stands for.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub value: Tensor<B, 1>,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// One running statistic, kept on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// Name in checkpoints.
    pub name: String,
    /// One value per channel.
    pub values: Vec<f32>,
}

/// All parameters and running statistics of a network part, in a fixed order.
#[derive(Debug, Clone)]
pub struct Store<B: Backend> {
    /// Trainable tensors.
    pub params: Vec<Param<B>>,
    /// Running statistics.
    pub buffers: Vec<Buffer>,
    device: B::Device,
    seed: u64,
    part: u64,
}

/// Tensors that do not fit the network they are loaded into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

impl<B: Backend> Store<B> {
    /// An empty store whose initial values derive from (seed, part).
    pub fn new(device: &B::Device, seed: u64, part: u64) -> Self {
        Self { params: Vec::new(), buffers: Vec::new(), device: device.clone(), seed, part }
    }

    /// The device that the parameters are on.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Adds parameters with their first values, and says at which index they begin.
    pub fn add(&mut self, parameters: &[Parameter]) -> usize {
        let first = self.params.len();
        for Parameter { name, shape, initial, decay } in parameters {
            let length = shape.iter().product();
            let values: Vec<f32> = match *initial {
                Initial::HeUniform => {
                    let fan_in: usize = shape.iter().skip(1).product();
                    let bound = (6.0 / fan_in.max(1) as f32).sqrt();
                    let mut rng = seed::rng(self.seed, "init", &[self.part, self.params.len() as u64]);
                    (0..length).map(|_| rng.random_range(-bound..bound)).collect()
                }
                Initial::Constant(value) => vec![value; length],
            };
            let value = Tensor::from_data(TensorData::new(values, [length]), &self.device);
            self.params.push(Param { name: name.clone(), shape: shape.clone(), value, decay: *decay });
        }
        first
    }

    /// Adds the running statistics of norms: of each a mean, and behind it a variance.
    pub fn add_running(&mut self, running: &[Running]) {
        for norm in running {
            self.buffers.push(Buffer { name: norm.mean(), values: vec![0.0; norm.channels] });
            self.buffers.push(Buffer { name: norm.variance(), values: vec![1.0; norm.channels] });
        }
    }

    /// A parameter as a flat tensor.
    pub fn flat(&self, index: usize) -> Tensor<B, 1> {
        self.params[index].value.clone()
    }

    /// A parameter in its shape.
    pub fn get<const D: usize>(&self, index: usize) -> Tensor<B, D> {
        let param = &self.params[index];
        let shape: [usize; D] = std::array::from_fn(|axis| param.shape[axis]);
        param.value.clone().reshape(shape)
    }

    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        self.params.iter().map(|param| param.shape.iter().product::<usize>()).sum()
    }

    /// Everything by name, on the host.
    pub fn export(&self) -> Vec<NamedTensor> {
        let param = |param: &Param<B>| NamedTensor {
            name: param.name.clone(),
            shape: param.shape.clone(),
            values: to_host(param.value.clone()),
        };
        let buffer = |buffer: &Buffer| NamedTensor {
            name: buffer.name.clone(),
            shape: vec![buffer.values.len()],
            values: buffer.values.clone(),
        };
        self.params.iter().map(param).chain(self.buffers.iter().map(buffer)).collect()
    }

    /// Replaces every value by the tensor of its name.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(&mut self, tensors: &NamedTensors) -> Result<(), LoadError> {
        for param in &mut self.params {
            let values = tensors.values(&param.name, &param.shape).map_err(LoadError)?;
            let length = values.len();
            param.value = Tensor::from_data(TensorData::new(values, [length]), &self.device);
        }
        for buffer in &mut self.buffers {
            buffer.values = tensors.values(&buffer.name, &[buffer.values.len()]).map_err(LoadError)?;
        }
        Ok(())
    }
}
