//! The exponential moving average of a block's parameters.

use super::param::{Param, to_host};
use bloctrain_infer::{NamedTensor, NamedTensors};
use burn_tensor::backend::{AutodiffBackend, Backend};
use burn_tensor::{Tensor, TensorData};

/// An average of every parameter, in their order.
#[derive(Debug, Clone)]
pub struct Average<B: Backend> {
    values: Vec<Tensor<B, 1>>,
}

impl<B: Backend> Average<B> {
    /// One that begins with the parameters as they are.
    pub fn new<A: AutodiffBackend<InnerBackend = B>>(params: &[Param<A>]) -> Self {
        Self { values: params.iter().map(|param| param.value.clone().inner()).collect() }
    }

    /// Moves it towards the parameters: `a += share (w - a)`.
    pub fn follow<A: AutodiffBackend<InnerBackend = B>>(&mut self, params: &[Param<A>], share: f64) {
        for (value, param) in self.values.iter_mut().zip(params) {
            let towards = param.value.clone().inner() - value.clone();
            *value = value.clone() + towards.mul_scalar(share);
        }
    }

    /// Puts the averages in the place of exported parameters, which come first.
    pub fn replace(&self, tensors: &mut [NamedTensor]) {
        for (tensor, value) in tensors.iter_mut().zip(&self.values) {
            tensor.values = to_host(value.clone());
        }
    }

    /// Restores it.
    ///
    /// # Errors
    /// Names the parameter that is missing or has another shape.
    pub fn load<A: AutodiffBackend<InnerBackend = B>>(
        &mut self,
        params: &[Param<A>],
        tensors: &NamedTensors,
    ) -> Result<(), String> {
        for (value, param) in self.values.iter_mut().zip(params) {
            let found = tensors.values(&param.name, &param.shape)?;
            let length = found.len();
            *value = Tensor::from_data(TensorData::new(found, [length]), &value.device());
        }
        Ok(())
    }

    /// The averages as parameters that are trained no further.
    pub fn put<A: AutodiffBackend<InnerBackend = B>>(&self, params: &mut [Param<A>]) {
        for (value, param) in self.values.iter().zip(params) {
            param.value = Tensor::from_inner(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type A = Autodiff<Flex>;

    fn param(values: [f32; 2]) -> Param<A> {
        let value = Tensor::from_data(TensorData::new(values.to_vec(), [2]), &Default::default());
        Param { name: "w".into(), shape: vec![2], value, decay: false }
    }

    fn exported(average: &Average<Flex>) -> Vec<f32> {
        let mut tensors = [NamedTensor { name: "w".into(), shape: vec![2], values: vec![9.0; 2] }];
        average.replace(&mut tensors);
        tensors[0].values.clone()
    }

    #[test]
    fn it_follows_by_hand() {
        let mut average = Average::new(&[param([1.0, -4.0])]);
        assert_eq!(exported(&average), [1.0, -4.0], "it begins with the first values");
        average.follow(&[param([3.0, 0.0])], 0.25);
        assert_eq!(exported(&average), [1.5, -3.0], "a quarter of the way");
        average.follow(&[param([1.5, 1.0])], 0.5);
        assert_eq!(exported(&average), [1.5, -1.0]);
        let mut params = [param([7.0, 7.0])];
        average.put(&mut params);
        assert_eq!(to_host(params[0].value.clone()), [1.5, -1.0]);
    }

    #[test]
    fn it_goes_on_from_what_was_stored() {
        let tensors = NamedTensors {
            tensors: vec![NamedTensor { name: "w".into(), shape: vec![2], values: vec![0.1, 0.2] }],
            ..NamedTensors::default()
        };
        let mut average = Average::new(&[param([1.0, -4.0])]);
        average.load(&[param([0.0, 0.0])], &tensors).expect("fits");
        assert_eq!(exported(&average), [0.1, 0.2]);
        assert!(average.load(&[param([0.0, 0.0])], &NamedTensors::default()).is_err());
    }
}
