//! From a data set's bytes to what is trained on: values and augmentation.

pub mod augment;
pub mod level;
