//! From a data set to what is trained on: augmentation.

pub mod augment;
