//! Labels as files have them.

use super::DataError;
use std::path::Path;

pub(crate) fn check_labels(path: &Path, labels: &[u16], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        Some(index) => Err(DataError::content(
            path,
            format!(
                "record {index} has label {}, but there are {classes} classes (0 to {})",
                labels[index],
                classes - 1
            ),
        )),
        None => Ok(()),
    }
}
