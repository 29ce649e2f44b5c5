//! Parameters and running statistics: flat tensors with a name, a shape, and a place in a checkpoint.

pub use crate::kernel::to_host;
use bloctrain_shared::seed;
use bloctrain_store::safetensor::{NamedTensor, NamedTensors};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
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
#[error("the parameters do not fit the network: {0}")]
pub struct LoadError(String);

/// Handle of a parameter in its [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamId(usize);

/// Handle of a running statistic in its [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferId(pub(crate) usize);

impl<B: Backend> Store<B> {
    /// An empty store whose initial values derive from (seed, part).
    pub fn new(device: &B::Device, seed: u64, part: u64) -> Self {
        Self { params: Vec::new(), buffers: Vec::new(), device: device.clone(), seed, part }
    }

    /// The device that the parameters are on.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    fn add(&mut self, name: String, shape: &[usize], values: Vec<f32>, decay: bool) -> ParamId {
        let value = Tensor::from_data(TensorData::new(values, [shape.iter().product::<usize>()]), &self.device);
        self.params.push(Param { name, shape: shape.to_vec(), value, decay });
        ParamId(self.params.len() - 1)
    }

    /// Weights drawn uniformly from `±sqrt(6 / fan_in)` (He et al. 2015), subject to decay.
    pub fn weight(&mut self, name: String, shape: &[usize]) -> ParamId {
        let fan_in: usize = shape[1..].iter().product();
        let bound = (6.0 / fan_in.max(1) as f32).sqrt();
        let mut rng = seed::rng(self.seed, "init", &[self.part, self.params.len() as u64]);
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
        self.add(name, shape, values, true)
    }

    /// A vector of one value, exempt from decay.
    pub fn vector(&mut self, name: String, length: usize, value: f32) -> ParamId {
        self.add(name, &[length], vec![value; length], false)
    }

    /// A running statistic of one value.
    pub fn buffer(&mut self, name: String, length: usize, value: f32) -> BufferId {
        self.buffers.push(Buffer { name, values: vec![value; length] });
        BufferId(self.buffers.len() - 1)
    }

    /// A parameter as a flat tensor.
    pub fn flat(&self, id: ParamId) -> Tensor<B, 1> {
        self.params[id.0].value.clone()
    }

    /// A parameter in its shape.
    pub fn get<const D: usize>(&self, id: ParamId) -> Tensor<B, D> {
        let param = &self.params[id.0];
        let shape: [usize; D] = std::array::from_fn(|axis| param.shape[axis]);
        param.value.clone().reshape(shape)
    }

    /// A running statistic as a tensor.
    pub fn statistic(&self, id: BufferId) -> Tensor<B, 1> {
        let values = self.buffers[id.0].values.clone();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &self.device)
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
        let find = |name: &str, shape: &[usize]| {
            let found = tensors.get(name).ok_or_else(|| LoadError(format!("there is no `{name}`")))?;
            if found.shape != shape {
                return Err(LoadError(format!("`{name}` has shape {:?}, the network needs {shape:?}", found.shape)));
            }
            Ok(found.values.clone())
        };
        for param in &mut self.params {
            let values = find(&param.name, &param.shape)?;
            let length = values.len();
            param.value = Tensor::from_data(TensorData::new(values, [length]), &self.device);
        }
        for buffer in &mut self.buffers {
            buffer.values = find(&buffer.name, &[buffer.values.len()])?;
        }
        Ok(())
    }
}
