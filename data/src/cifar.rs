//! CIFAR-10 and CIFAR-100 in their binary form: one or two label bytes, then 3072 pixel bytes, channels first.

use super::dataset::{Dataset, Split};
use super::label::check_labels;
use super::{DataError, Opened, Options};
use bloctrain_shared::ImageShape;
use std::path::{Path, PathBuf};

/// Shape of every image.
pub(super) const SHAPE: ImageShape = ImageShape::new(3, 32, 32);
const CIFAR10: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Reads the binary version of CIFAR; `None` when it is not there.
pub(super) fn open(folder: &Path, _: &Options) -> Result<Option<Opened>, DataError> {
    let has = |name: &str| folder.join(name).exists();
    let opened = |name: &str, classes: Vec<String>, train: Split, test: Split| Opened {
        dataset: Dataset::new(name, classes, SHAPE, train, test),
        notes: Vec::new(),
    };
    if has("data_batch_1.bin") || has("test_batch.bin") {
        let files: Vec<PathBuf> = (1..=5).map(|number| folder.join(format!("data_batch_{number}.bin"))).collect();
        let names = names(&folder.join("batches.meta.txt")).unwrap_or_else(|| CIFAR10.map(str::to_owned).to_vec());
        let train = read(&files, 1, names.len())?;
        let test = read(&[folder.join("test_batch.bin")], 1, names.len())?;
        return Ok(Some(opened("cifar10", names, train, test)));
    }
    if has("train.bin") && has("test.bin") {
        let names = names(&folder.join("fine_label_names.txt"));
        let names = names.unwrap_or_else(|| (0..100).map(|class| format!("class{class}")).collect());
        let train = read(&[folder.join("train.bin")], 2, names.len())?;
        let test = read(&[folder.join("test.bin")], 2, names.len())?;
        return Ok(Some(opened("cifar100", names, train, test)));
    }
    Ok(None)
}

fn names(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

/// Reads records of `label_bytes` label bytes, the last of which counts, and one image.
fn read(files: &[PathBuf], label_bytes: usize, classes: usize) -> Result<Split, DataError> {
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for path in files {
        let bytes = std::fs::read(path).map_err(|error| DataError::read(path, error))?;
        labels.extend(records(path, &bytes, label_bytes, classes)?);
        let record = label_bytes + SHAPE.len();
        bytes.chunks_exact(record).for_each(|record| pixels.extend_from_slice(&record[label_bytes..]));
    }
    Ok(Split::new(labels, pixels, SHAPE.len()))
}

/// The labels of a file of whole records.
pub(super) fn records(path: &Path, bytes: &[u8], label_bytes: usize, classes: usize) -> Result<Vec<u16>, DataError> {
    let record = label_bytes + SHAPE.len();
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let whole = bytes.len() / record;
        let problem = format!(
            "it has {} bytes, not a whole number of {record}-byte records ({whole} are complete); the file is cut, \
            fetch it again",
            bytes.len()
        );
        return Err(DataError::content(path, problem));
    }
    let labels: Vec<u16> = bytes.chunks_exact(record).map(|record| u16::from(record[label_bytes - 1])).collect();
    check_labels(path, &labels, classes)?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Result<Dataset, DataError> {
        crate::open(folder, &Options::default()).map(|opened| opened.dataset)
    }

    fn write(folder: &Path, records: usize, change: impl Fn(&mut Vec<u8>)) {
        let file = |name: &str| {
            let mut bytes: Vec<u8> = (0..records)
                .flat_map(|record| std::iter::once((record % 10) as u8).chain((0..3072).map(|i| (i % 251) as u8)))
                .collect();
            change(&mut bytes);
            std::fs::write(folder.join(name), bytes).expect("written");
        };
        (1..=5).for_each(|number| file(&format!("data_batch_{number}.bin")));
        file("test_batch.bin");
    }

    #[test]
    fn records_are_read_and_wrong_ones_named() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), 3, |_| ());
        let dataset = read(folder.path()).expect("reads");
        assert_eq!((dataset.train.len(), dataset.test.len(), dataset.train.label(1)), (15, 3, 1));
        assert_eq!(dataset.train.image(0)[..3], [0, 1, 2]);
        write(folder.path(), 3, |bytes| bytes.truncate(5000));
        let error = read(folder.path()).expect_err("cut").to_string();
        assert!(error.contains("data_batch_1.bin") && error.contains("5000 bytes"), "{error}");
        write(folder.path(), 3, |bytes| bytes[3073] = 12);
        let error = read(folder.path()).expect_err("label").to_string();
        assert!(error.contains("record 1 has label 12"), "{error}");
        std::fs::remove_file(folder.path().join("data_batch_3.bin")).expect("removed");
        write(folder.path(), 3, |_| ());
        std::fs::remove_file(folder.path().join("test_batch.bin")).expect("removed");
        let error = read(folder.path()).expect_err("missing").to_string();
        assert!(error.contains("test_batch.bin"), "{error}");
    }
}
