//! CIFAR-10 and CIFAR-100 as Python programs have them: pickled batches.

use super::dataset::{Dataset, Split};
use super::pickle::Dict;
use super::{DataError, Opened, Options, cifar};
use std::path::{Path, PathBuf};

/// Reads the Python version of CIFAR; `None` when it is not there.
pub(super) fn open(folder: &Path, _: &Options) -> Result<Option<Opened>, DataError> {
    let is_pickle = |name: &str| folder.join(name).is_file();
    if is_pickle("data_batch_1") && is_pickle("test_batch") {
        let files: Vec<PathBuf> = (1..=5).map(|number| folder.join(format!("data_batch_{number}"))).collect();
        let names = names(&folder.join("batches.meta"), "label_names")?;
        let (train, test) =
            (read(&files, "labels", names.len())?, read(&[folder.join("test_batch")], "labels", names.len())?);
        return Ok(Some(opened("cifar10", names, train, test)));
    }
    if is_pickle("meta") && is_pickle("train") && is_pickle("test") {
        let names = names(&folder.join("meta"), "fine_label_names")?;
        let split = |name: &str| read(&[folder.join(name)], "fine_labels", names.len());
        let (train, test) = (split("train")?, split("test")?);
        return Ok(Some(opened("cifar100", names, train, test)));
    }
    Ok(None)
}

fn opened(name: &str, classes: Vec<String>, train: Split, test: Split) -> Opened {
    Opened { dataset: Dataset::new(name, classes, cifar::SHAPE, train, test), notes: Vec::new() }
}

fn dict(path: &Path) -> Result<Dict, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::read(path, error))?;
    Dict::read(&bytes).map_err(|problem| DataError::content(path, format!("it is no pickle of CIFAR: {problem}")))
}

fn names(path: &Path, key: &str) -> Result<Vec<String>, DataError> {
    let names = dict(path)?.texts(key).map_err(|problem| DataError::content(path, problem))?;
    if names.is_empty() { Err(DataError::content(path, format!("its entry `{key}` is empty"))) } else { Ok(names) }
}

fn read(files: &[PathBuf], key: &str, classes: usize) -> Result<Split, DataError> {
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for path in files {
        let dict = dict(path)?;
        let wrong = |problem: String| DataError::content(path, problem);
        let (own, images) = (dict.integers(key).map_err(wrong)?, dict.array("data").map_err(wrong)?);
        if images.shape != [own.len(), cifar::SHAPE.len()] {
            let problem = format!(
                "its images have sizes {:?}, for {} labels [{}, 3072] are needed",
                images.shape,
                own.len(),
                own.len()
            );
            return Err(wrong(problem));
        }
        for (index, label) in own.into_iter().enumerate() {
            let label = u16::try_from(label).ok().filter(|&label| usize::from(label) < classes);
            let problem = || wrong(format!("record {index} has a label that is none of the {classes} classes"));
            labels.push(label.ok_or_else(problem)?);
        }
        pixels.extend_from_slice(&images.data);
    }
    Ok(Split::new(labels, pixels, cifar::SHAPE.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{Options, open};
    use std::path::Path;

    /// A pickle of one image and its label, as Python 2 writes it.
    fn batch(key: &str, label: u8) -> Vec<u8> {
        let mut bytes = b"\x80\x02}(U".to_vec();
        bytes.push(key.len() as u8);
        bytes.extend(key.as_bytes());
        bytes.extend([b']', b'K', label, b'a']);
        bytes.extend(
            b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86",
        );
        bytes.extend(
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00",
        );
        bytes.extend((0..3072).map(|pixel| (pixel % 251) as u8));
        bytes.extend(b"tbu.");
        bytes
    }

    fn names(key: &str) -> Vec<u8> {
        let mut bytes = b"\x80\x02}U".to_vec();
        bytes.push(key.len() as u8);
        bytes.extend(key.as_bytes());
        bytes.extend(b"](U\x03antU\x03beees.");
        bytes
    }

    fn write(folder: &Path, name: &str, bytes: Vec<u8>) {
        std::fs::write(folder.join(name), bytes).expect("written");
    }

    #[test]
    fn both_data_sets_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("cifar-10-batches-py");
        std::fs::create_dir(&inside).expect("made");
        (1..=5).for_each(|number| write(&inside, &format!("data_batch_{number}"), batch("labels", number % 2)));
        write(&inside, "test_batch", batch("labels", 1));
        write(&inside, "batches.meta", names("label_names"));
        let dataset = open(folder.path(), &Options::default()).expect("reads").dataset;
        assert_eq!((dataset.name.as_str(), dataset.classes.join(",")), ("cifar10", "ant,bee".into()));
        assert_eq!(
            (dataset.train.labels(), dataset.test.image(0)[250..252].to_vec()),
            ([1, 0, 1, 0, 1].as_slice(), vec![250, 0])
        );

        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "meta", names("fine_label_names"));
        write(folder.path(), "train", batch("fine_labels", 0));
        write(folder.path(), "test", batch("fine_labels", 2));
        let error = open(folder.path(), &Options::default()).expect_err("label").to_string();
        assert!(error.contains("record 0") && error.contains("2 classes"), "{error}");
        write(folder.path(), "test", batch("labels", 0));
        assert!(
            open(folder.path(), &Options::default()).expect_err("entry").to_string().contains("no entry `fine_labels`")
        );
        write(folder.path(), "test", batch("fine_labels", 1));
        assert_eq!(open(folder.path(), &Options::default()).expect("reads").dataset.name, "cifar100");
    }
}
