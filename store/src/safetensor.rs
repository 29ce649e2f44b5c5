//! Named f32 tensors as safetensors bytes.
//!
//! The file is an ordinary one that any reader of the format opens. Its `__metadata__` has the single entry `bloctrain`,
//! a JSON text: safetensors writes several entries in an order that changes from process to process, and equal tensors
//! must have equal bytes.

use bytes::Bytes;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Name of the metadata entry that holds the [`Header`].
const HEADER: &str = "bloctrain";

/// Name that the format keeps for itself.
const RESERVED: &str = "__metadata__";

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
    /// The tensors, in their owner's order.
    pub tensors: Vec<NamedTensor>,
    /// Texts by name.
    pub metadata: BTreeMap<String, String>,
}

/// What the format has no place for.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Header {
    metadata: BTreeMap<String, String>,
    /// For each tensor in its owner's order, its place among the sorted names.
    order: Vec<usize>,
}

/// Bytes that are not safetensors of this project, or tensors that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorError {
    /// Cut, damaged, or something else altogether.
    #[error("not a usable safetensors file: {0}")]
    Unreadable(String),
    /// A tensor of another element type.
    #[error("the tensor `{name}` is {found}, f32 is expected")]
    WrongType {
        /// The tensor.
        name: String,
        /// Its element type.
        found: String,
    },
    /// Tensors that contradict themselves or each other.
    #[error("the tensor `{name}` cannot be written: {problem}")]
    Unwritable {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl NamedTensors {
    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The bytes; equal tensors in equal order have equal bytes.
    ///
    /// # Errors
    /// When a shape does not fit its values, or two tensors have one name.
    pub fn encode(&self) -> Result<Bytes, SafetensorError> {
        self.tensors.iter().try_for_each(check)?;
        let places = self.places()?;
        let data: Vec<Vec<u8>> = self.tensors.iter().map(|tensor| to_bytes(&tensor.values)).collect();
        let mut views = Vec::with_capacity(data.len());
        for (tensor, data) in self.tensors.iter().zip(&data) {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), data);
            views.push((tensor.name.as_str(), view.map_err(|error| unwritable(&tensor.name, &error))?));
        }
        let order = self.tensors.iter().map(|tensor| places[tensor.name.as_str()]).collect();
        let header = serde_json::to_string(&Header { metadata: self.metadata.clone(), order });
        let header = header.map_err(|error| unwritable(RESERVED, &error))?;
        let metadata = HashMap::from([(HEADER.to_owned(), header)]);
        safetensors::serialize(views, Some(metadata)).map(Bytes::from).map_err(|error| unwritable(RESERVED, &error))
    }

    /// Reads bytes. Files of other programs are read too; their tensors come sorted by name.
    ///
    /// # Errors
    /// When the bytes are cut, damaged, or hold anything but f32.
    pub fn decode(bytes: &[u8]) -> Result<Self, SafetensorError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(&error))?;
        let mut sorted = Vec::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(SafetensorError::WrongType { name, found: format!("{:?}", view.dtype()) });
            }
            sorted.push(NamedTensor { name, shape: view.shape().to_vec(), values: from_bytes(view.data()) });
        }
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let (_, file_header) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(&error))?;
        let texts = file_header.metadata().clone().unwrap_or_default();
        let Some(header) = texts.get(HEADER) else {
            return Ok(Self { tensors: sorted, metadata: texts.into_iter().collect() });
        };
        let header: Header = serde_json::from_str(header).map_err(|error| unreadable(&error))?;
        Ok(Self { tensors: arrange(sorted, &header.order)?, metadata: header.metadata })
    }

    /// Each name's place among the sorted names.
    fn places(&self) -> Result<BTreeMap<&str, usize>, SafetensorError> {
        let mut places = BTreeMap::new();
        for tensor in &self.tensors {
            if places.insert(tensor.name.as_str(), 0).is_some() {
                return Err(unwritable(&tensor.name, &"another tensor has the same name"));
            }
        }
        places.values_mut().enumerate().for_each(|(place, value)| *value = place);
        Ok(places)
    }
}

/// Refuses what the format would write wrongly or panic on.
fn check(tensor: &NamedTensor) -> Result<(), SafetensorError> {
    if tensor.name == RESERVED {
        return Err(unwritable(&tensor.name, &"the format keeps this name for itself"));
    }
    let values = tensor.shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if values != Some(tensor.values.len()) {
        return Err(unwritable(
            &tensor.name,
            &format!("its shape {:?} does not hold {} values", tensor.shape, tensor.values.len()),
        ));
    }
    Ok(())
}

/// Puts sorted tensors into their owner's order.
fn arrange(sorted: Vec<NamedTensor>, order: &[usize]) -> Result<Vec<NamedTensor>, SafetensorError> {
    let contradiction = || SafetensorError::Unreadable("its order of tensors contradicts its tensors".into());
    if sorted.len() != order.len() {
        return Err(contradiction());
    }
    let mut sorted: Vec<Option<NamedTensor>> = sorted.into_iter().map(Some).collect();
    order.iter().map(|&place| sorted.get_mut(place).and_then(Option::take).ok_or_else(contradiction)).collect()
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}

fn unreadable(error: &dyn std::fmt::Display) -> SafetensorError {
    SafetensorError::Unreadable(error.to_string())
}

fn unwritable(name: &str, error: &dyn std::fmt::Display) -> SafetensorError {
    SafetensorError::Unwritable { name: name.to_owned(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(name: &str, shape: Vec<usize>, values: Vec<f32>) -> NamedTensor {
        NamedTensor { name: name.into(), shape, values }
    }

    fn sample() -> NamedTensors {
        NamedTensors {
            tensors: vec![
                tensor("b.c", vec![2, 3], vec![1.0, -2.5, f32::MIN, 0.0, -0.0, 1e-40]),
                tensor("a", vec![0], vec![]),
                tensor("scalar", vec![], vec![f32::INFINITY]),
            ],
            metadata: BTreeMap::from([("step".into(), "12".into()), ("epoch".into(), "3".into())]),
        }
    }

    #[test]
    fn round_trip_keeps_order_and_equal_tensors_have_equal_bytes() {
        let bytes = sample().encode().expect("encodes");
        assert_eq!(NamedTensors::decode(&bytes), Ok(sample()));
        assert_eq!(sample().encode().expect("encodes"), bytes);
        assert_eq!(
            NamedTensors::decode(&bytes).expect("decodes").get("scalar").map(|found| found.values[0]),
            Some(f32::INFINITY)
        );
        assert_eq!(NamedTensors::decode(&NamedTensors::default().encode().expect("encodes")), Ok(NamedTensors::default()));
    }

    #[test]
    fn every_bit_of_a_value_survives() {
        let nan = f32::from_bits(0xffc1_2345);
        let one = NamedTensors { tensors: vec![tensor("nan", vec![1], vec![nan])], ..Default::default() };
        let back = NamedTensors::decode(&one.encode().expect("encodes")).expect("decodes");
        assert_eq!(back.tensors[0].values[0].to_bits(), nan.to_bits());
    }

    #[test]
    fn contradictions_are_not_written() {
        let refuse = |tensors: Vec<NamedTensor>| {
            let error = NamedTensors { tensors, ..Default::default() }.encode().expect_err("refused");
            assert!(matches!(error, SafetensorError::Unwritable { .. }), "{error}");
        };
        refuse(vec![tensor("a", vec![7], vec![1.0])]);
        refuse(vec![tensor("a", vec![usize::MAX, 2], vec![])]);
        refuse(vec![tensor("a", vec![1], vec![1.0]), tensor("a", vec![1], vec![2.0])]);
        refuse(vec![tensor(RESERVED, vec![1], vec![1.0])]);
    }

    #[test]
    fn files_of_other_programs_are_read_and_other_types_refused() {
        let text = Some(HashMap::from([("format".to_owned(), "pt".to_owned())]));
        let data = 1.5_f32.to_le_bytes();
        let view = |dtype, shape| TensorView::new(dtype, shape, &data).expect("fits");
        let foreign = safetensors::serialize([("w", view(Dtype::F32, vec![1]))], text).expect("encodes");
        let read = NamedTensors::decode(&foreign).expect("decodes");
        assert_eq!((read.tensors[0].values[0], read.metadata["format"].as_str()), (1.5, "pt"));
        let half = safetensors::serialize([("w", view(Dtype::F16, vec![2]))], None).expect("encodes");
        let error = NamedTensors::decode(&half).expect_err("f16").to_string();
        assert_eq!(error, "the tensor `w` is F16, f32 is expected");
    }

    #[test]
    fn cut_files_are_refused() {
        let bytes = sample().encode().expect("encodes");
        for length in 0..bytes.len() {
            assert!(NamedTensors::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn any_tensors_round_trip(values in prop::collection::vec(prop::collection::vec(-9_f32..9.0, 0..9), 0..6), names in any::<u64>()) {
            let name = |index: usize| format!("{:02x}.{index}", names.rotate_left(index as u32 * 8) as u8);
            let tensors = values.into_iter().enumerate().map(|(index, v)| tensor(&name(index), vec![1, v.len()], v)).collect();
            let sample = NamedTensors { tensors, ..Default::default() };
            prop_assert_eq!(NamedTensors::decode(&sample.encode().expect("encodes")), Ok(sample));
        }

        #[test]
        fn damaged_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample().encode().expect("encodes").to_vec();
            for (at, mask) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            let _ = NamedTensors::decode(&bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(NamedTensors::decode(&bytes).is_err());
        }
    }
}
