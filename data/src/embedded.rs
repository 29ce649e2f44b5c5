//! The data set that is part of the program: a class-balanced subset of Fashion-MNIST (MIT licence, Zalando SE).

use super::{DataError, Dataset, idx};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::PathBuf;

/// Its name in `data.name`.
pub const NAME: &str = "fashion-mnist-mini";

const FILES: [&[u8]; 4] = [
    include_bytes!("../assets/fashion-mnist/train-images-idx3-ubyte.gz"),
    include_bytes!("../assets/fashion-mnist/train-labels-idx1-ubyte.gz"),
    include_bytes!("../assets/fashion-mnist/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../assets/fashion-mnist/t10k-labels-idx1-ubyte.gz"),
];

/// Unpacks it.
///
/// # Errors
/// When the program itself is damaged.
pub fn load() -> Result<Dataset, DataError> {
    let mut contents = Vec::new();
    for (name, packed) in idx::FILES.iter().zip(FILES) {
        let path = PathBuf::from(format!("(embedded) {name}"));
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes).map_err(|error| DataError::read(&path, error))?;
        contents.push((path, bytes));
    }
    idx::dataset(NAME, None, &contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_class_balanced_and_small() {
        let dataset = load().expect("unpacks");
        assert_eq!((dataset.train.len(), dataset.test.len(), dataset.classes.len()), (6800, 1900, 10));
        for (split, each) in [(&dataset.train, 680), (&dataset.test, 190)] {
            for class in 0..10 {
                assert_eq!(split.labels().iter().filter(|&&label| label == class).count(), each);
            }
        }
        assert!(FILES.iter().map(|file| file.len()).sum::<usize>() < 4 << 20);
    }
}
