//! The MNIST family: IDX files, plain or gzipped.

use super::{DataError, Dataset, Split, check_labels, registry};
use bloctrain_shared::ImageShape;
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of the four files, without `.gz`.
pub(super) const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [name.to_owned(), format!("{name}.gz")].iter().map(|name| folder.join(name)).find(|path| path.exists())
}

/// Reads the four files of a folder; `None` when there is none of them.
pub(super) fn open(folder: &Path) -> Result<Option<Dataset>, DataError> {
    let found = FILES.map(|name| find(folder, name));
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut contents = Vec::new();
    for (name, path) in FILES.iter().zip(found) {
        let path = path.ok_or_else(|| {
            DataError::read(
                &folder.join(name),
                std::io::Error::new(std::io::ErrorKind::NotFound, "it is missing, with or without .gz"),
            )
        })?;
        let bytes = std::fs::read(&path).map_err(|error| DataError::read(&path, error))?;
        contents.push((path.clone(), unpack(&path, bytes)?));
    }
    let name = registry::idx_name(&contents[0].1);
    dataset(name, &contents).map(Some)
}

fn unpack(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, DataError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut out)
        .map_err(|error| DataError::content(path, format!("its gzip data is cut or damaged ({error}); fetch it again")))?;
    Ok(out)
}

/// A data set from the contents of the four files, in the order of [`FILES`].
pub(super) fn dataset(name: &str, contents: &[(PathBuf, Vec<u8>)]) -> Result<Dataset, DataError> {
    let (train_shape, train_pixels) = images(&contents[0].0, &contents[0].1)?;
    let (test_shape, test_pixels) = images(&contents[2].0, &contents[2].1)?;
    if train_shape != test_shape {
        return Err(DataError::content(
            &contents[2].0,
            format!("its images are {test_shape}, those of the training file {train_shape}"),
        ));
    }
    let (train_labels, test_labels) = (labels(&contents[1].0, &contents[1].1)?, labels(&contents[3].0, &contents[3].1)?);
    let classes = registry::idx_classes(name);
    let split = |at: usize, pixels: Vec<u8>, labels: Vec<u16>| {
        let path = &contents[at].0;
        check_labels(path, &labels, classes.len())?;
        let images = pixels.len() / train_shape.len();
        if images != labels.len() {
            return Err(DataError::content(path, format!("it has {} labels for {images} images", labels.len())));
        }
        Ok(Split::new(labels, pixels, train_shape.len()))
    };
    let (train, test) = (split(1, train_pixels, train_labels)?, split(3, test_pixels, test_labels)?);
    Ok(Dataset::new(name, classes, train_shape, train, test))
}

/// Checks the header and gives the sizes and the data after it.
fn header<'a>(path: &Path, bytes: &'a [u8], dimensions: usize) -> Result<(Vec<usize>, &'a [u8]), DataError> {
    let start = 4 + 4 * dimensions;
    if bytes.len() < start {
        return Err(DataError::content(path, format!("it has {} bytes, its header alone needs {start}", bytes.len())));
    }
    let magic = [0, 0, 8, dimensions as u8];
    if bytes[..4] != magic {
        return Err(DataError::content(
            path,
            format!("it starts with {:02x?}, an IDX file of this kind with {magic:02x?}", &bytes[..4]),
        ));
    }
    let word = |chunk: &[u8]| chunk.iter().fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
    let sizes: Vec<usize> = bytes[4..start].chunks(4).map(word).collect();
    let expected = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let data = &bytes[start..];
    if expected != Some(data.len()) {
        let expected = expected.map_or_else(|| "more than fits in memory".to_owned(), |size| size.to_string());
        return Err(DataError::content(
            path,
            format!("its header promises {expected} bytes of data, it has {}; the file is cut, fetch it again", data.len()),
        ));
    }
    Ok((sizes, data))
}

fn images(path: &Path, bytes: &[u8]) -> Result<(ImageShape, Vec<u8>), DataError> {
    let (sizes, data) = header(path, bytes, 3)?;
    let shape = ImageShape::new(1, sizes[1], sizes[2]);
    if shape.is_empty() {
        return Err(DataError::content(path, "its images have no pixels"));
    }
    Ok((shape, data.to_vec()))
}

fn labels(path: &Path, bytes: &[u8]) -> Result<Vec<u16>, DataError> {
    let (_, data) = header(path, bytes, 1)?;
    Ok(data.iter().map(|&label| u16::from(label)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (images, labels) in [(FILES[0], FILES[1]), (FILES[2], FILES[3])] {
            std::fs::write(folder.path().join(images), idx(&[2, 2, 3], &[7; 12])).expect("written");
            let mut gz = GzEncoder::new(Vec::new(), Compression::default());
            gz.write_all(&idx(&[2], &[4, 9])).expect("packs");
            std::fs::write(folder.path().join(format!("{labels}.gz")), gz.finish().expect("packs")).expect("written");
        }
        folder
    }

    #[test]
    fn plain_and_gzipped_files_are_read() {
        let dataset = Dataset::open(folder().path()).expect("reads");
        assert_eq!(
            (dataset.shape, dataset.train.len(), dataset.train.labels()),
            (ImageShape::new(1, 2, 3), 2, [4, 9].as_slice())
        );
    }

    #[test]
    fn wrong_files_are_named() {
        let broken = |name: &str, bytes: Vec<u8>| {
            let folder = folder();
            std::fs::remove_file(folder.path().join(format!("{name}.gz"))).ok();
            std::fs::write(folder.path().join(name), bytes).expect("written");
            let error = Dataset::open(folder.path()).expect_err("wrong").to_string();
            assert!(error.contains(name), "{error}");
            error
        };
        assert!(broken(FILES[0], idx(&[2, 2, 3], &[7; 11])).contains("promises 12 bytes of data, it has 11"));
        assert!(broken(FILES[1], idx(&[2], &[4, 10])).contains("record 1 has label 10"));
        assert!(broken(FILES[1], idx(&[3], &[4, 1, 1])).contains("3 labels for 2 images"));
        assert!(broken(FILES[0], vec![1, 2, 3, 4, 5]).contains("header"));
        assert!(broken(FILES[1], idx(&[1, 2], &[4, 1])).contains("starts with"));
        assert!(broken(FILES[3], vec![0x1f, 0x8b, 1, 2]).contains("gzip"));
    }
}
