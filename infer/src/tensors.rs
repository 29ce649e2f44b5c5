//! Named f32 tensors as safetensors bytes.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};

/// One tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Tensors with text metadata.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NamedTensors {
    /// The tensors.
    pub tensors: Vec<NamedTensor>,
    /// Texts by name.
    pub metadata: BTreeMap<String, String>,
}

/// Bytes that are not safetensors of this project, or tensors that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable safetensors file: {0}")]
pub struct TensorsError(String);

impl NamedTensors {
    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Values of a tensor that has to be there in a shape.
    ///
    /// # Errors
    /// Says that it is not.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let found =
            self.get(name).ok_or_else(|| format!("the parameters do not fit the network: there is no `{name}`"))?;
        if found.shape != shape {
            let problem = format!("`{name}` has shape {:?}, the network needs {shape:?}", found.shape);
            return Err(format!("the parameters do not fit the network: {problem}"));
        }
        Ok(found.values.clone())
    }

    /// The bytes; equal tensors have equal bytes, in whatever order they come.
    ///
    /// # Errors
    /// When a shape does not fit its values.
    pub fn encode(&self) -> Result<Vec<u8>, TensorsError> {
        let mut views = BTreeMap::new();
        let bytes: Vec<Vec<u8>> = self
            .tensors
            .iter()
            .map(|tensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect())
            .collect();
        for (tensor, bytes) in self.tensors.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
            views.insert(tensor.name.clone(), view.map_err(|error| TensorsError(format!("{}: {error}", tensor.name)))?);
        }
        if views.len() != self.tensors.len() {
            return Err(TensorsError("two tensors have one name".into()));
        }
        // The metadata is one text, because the file's own map has no fixed order.
        let metadata = serde_json::to_string(&self.metadata).map_err(|error| TensorsError(error.to_string()))?;
        let metadata = HashMap::from([("bloctrain".to_owned(), metadata)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| TensorsError(error.to_string()))
    }

    /// Reads bytes; tensors come sorted by name.
    ///
    /// # Errors
    /// When the bytes are cut, damaged, or hold anything but f32.
    pub fn decode(bytes: &[u8]) -> Result<Self, TensorsError> {
        let wrong = |error: String| TensorsError(error);
        let file = SafeTensors::deserialize(bytes).map_err(|error| wrong(error.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| wrong(error.to_string()))?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get("bloctrain"));
        let metadata =
            text.map(|text| serde_json::from_str(text)).transpose().map_err(|error| wrong(error.to_string()))?;
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(wrong(format!("`{name}` is {:?}, f32 is expected", view.dtype())));
            }
            let values = view
                .data()
                .chunks_exact(4)
                .map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
                .collect();
            tensors.push(NamedTensor { name, shape: view.shape().to_vec(), values });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { tensors, metadata: metadata.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NamedTensors {
        let tensor = |name: &str, shape: Vec<usize>, values: Vec<f32>| NamedTensor { name: name.into(), shape, values };
        NamedTensors {
            tensors: vec![
                tensor("a", vec![2, 3], vec![1.0, -2.5, f32::MIN, 0.0, -0.0, 1e-40]),
                tensor("b.c", vec![0], vec![]),
            ],
            metadata: BTreeMap::from([("step".into(), "12".into()), ("epoch".into(), "3".into())]),
        }
    }

    #[test]
    fn round_trip_and_equal_bytes() {
        let bytes = sample().encode().expect("encodes");
        assert_eq!(NamedTensors::decode(&bytes), Ok(sample()));
        let mut turned = sample();
        turned.tensors.reverse();
        assert_eq!(turned.encode().expect("encodes"), bytes);
    }

    #[test]
    fn damaged_bytes_are_refused_without_a_panic() {
        let bytes = sample().encode().expect("encodes");
        let allowance = bloctrain_damage::Allowance { least: 1 << 16, each: 64 };
        bloctrain_damage::each("tensors", std::slice::from_ref(&bytes), allowance, |bytes| {
            NamedTensors::decode(bytes).is_ok()
        });
        for length in 0..bytes.len() {
            assert!(NamedTensors::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        let mut tensors = sample();
        tensors.tensors[0].shape = vec![7];
        assert!(tensors.encode().is_err());
    }
}
