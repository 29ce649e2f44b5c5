//! The MNIST family: IDX files, plain or gzipped, as MNIST, Fashion-MNIST, Kuzushiji-MNIST and EMNIST are published.
//!
//! Names are understood with a dot or a dash before the kind (`train-images.idx3-ubyte`), and with a prefix
//! (`emnist-letters-train-images-idx3-ubyte.gz`). EMNIST's images lie on their side in its files, and its letters are
//! counted from 1 (Cohen et al. 2017): both are put right.

use super::dataset::{Dataset, Split};
use super::{DataError, Opened, Options, folder, registry};
use bloctrain_shared::ImageShape;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of the four files, without `.gz`.
pub(super) const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// A file's name without packing, its prefix, and which of the four it is.
fn role(name: &str) -> Option<(String, usize)> {
    let name = name.strip_suffix(".gz").unwrap_or(name).replace('.', "-");
    let found = |(role, file): (usize, &&str)| {
        let other = file.replace("t10k", "test");
        let prefix = name.strip_suffix(*file).or_else(|| name.strip_suffix(&other))?;
        Some((prefix.to_owned(), role))
    };
    FILES.iter().enumerate().find_map(found)
}

/// Reads the four files of a folder; `None` when there is none of them.
pub(super) fn open(folder: &Path, _: &Options) -> Result<Option<Opened>, DataError> {
    let mut sets: BTreeMap<String, [Option<PathBuf>; 4]> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| DataError::read(folder, error))?.flatten() {
        let found = entry.file_name().to_str().filter(|_| entry.path().is_file()).and_then(role);
        if let Some((prefix, role)) = found {
            let file = &mut sets.entry(prefix).or_default()[role];
            // Of a file and its packed form the plain one, which comes first in the order of names.
            *file = file.take().into_iter().chain([entry.path()]).min();
        }
    }
    let Some((prefix, files)) = sets.pop_first() else { return Ok(None) };
    if let Some((other, _)) = sets.pop_first() {
        let problem = format!(
            "it holds more than one data set (`{prefix}...` and `{other}...`); keep one in a folder of its own"
        );
        return Err(DataError::content(folder, problem));
    }
    let mut contents = Vec::new();
    for (name, path) in FILES.iter().zip(files) {
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "it is missing, with or without .gz");
        let path = path.ok_or_else(|| DataError::read(&folder.join(format!("{prefix}{name}")), missing()))?;
        let bytes = std::fs::read(&path).map_err(|error| DataError::read(&path, error))?;
        contents.push((path.clone(), unpack(&path, bytes)?));
    }
    let known = registry::idx_name(&contents[0].1).map(str::to_owned);
    let family = prefix.trim_end_matches('-').strip_prefix("emnist-");
    let name = known.unwrap_or_else(|| folder::name(folder));
    dataset(&name, family, &contents).map(|dataset| Some(Opened { dataset, notes: Vec::new() }))
}

fn unpack(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, DataError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut out).map_err(|error| {
        DataError::content(path, format!("its gzip data is cut or damaged ({error}); fetch it again"))
    })?;
    Ok(out)
}

/// A data set from the contents of the four files, in the order of [`FILES`]. `emnist` is the part of EMNIST that they
/// are.
pub(super) fn dataset(name: &str, emnist: Option<&str>, contents: &[(PathBuf, Vec<u8>)]) -> Result<Dataset, DataError> {
    let (shape, train_pixels) = images(&contents[0].0, &contents[0].1)?;
    let (test_shape, test_pixels) = images(&contents[2].0, &contents[2].1)?;
    let size = |shape: ImageShape| format!("{} x {}", shape.width, shape.height);
    if shape != test_shape {
        let problem = format!("its images are {}, those of the training file {}", size(test_shape), size(shape));
        return Err(DataError::content(&contents[2].0, problem));
    }
    let (train_labels, test_labels) =
        (labels(&contents[1].0, &contents[1].1)?, labels(&contents[3].0, &contents[3].1)?);
    let all = || train_labels.iter().chain(&test_labels).copied();
    // Labels that leave 0 out and begin at 1 are counted from 1.
    let first = u16::from(all().min() == Some(1));
    let known = emnist.and_then(emnist_classes).or_else(|| registry::idx_classes(name));
    let count = usize::from(all().max().unwrap_or(0) + 1 - first);
    let classes = known.unwrap_or_else(|| (0..count).map(|class| (class + usize::from(first)).to_string()).collect());
    let upright = |pixels: Vec<u8>| if emnist.is_some() { transposed(&pixels, shape) } else { pixels };
    let split = |at: usize, pixels: Vec<u8>, labels: &[u16]| {
        let path = &contents[at].0;
        let labels: Vec<u16> = labels.iter().map(|label| label - first).collect();
        if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes.len()) {
            let (label, classes) = (labels[index] + first, classes.len());
            return Err(DataError::content(
                path,
                format!("record {index} has label {label}, but there are {classes} classes"),
            ));
        }
        let images = pixels.len() / shape.len();
        if images != labels.len() {
            return Err(DataError::content(path, format!("it has {} labels for {images} images", labels.len())));
        }
        Ok(Split::new(labels, upright(pixels), shape.len()))
    };
    let (train, test) = (split(1, train_pixels, &train_labels)?, split(3, test_pixels, &test_labels)?);
    let shape = if emnist.is_some() { ImageShape::new(1, shape.width, shape.height) } else { shape };
    Ok(Dataset::new(name, classes, shape, train, test))
}

/// Class names of a part of EMNIST, as its mapping files have them; of the letters both cases are one class.
fn emnist_classes(part: &str) -> Option<Vec<String>> {
    let names = match part {
        "letters" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "digits" | "mnist" => "0123456789",
        "byclass" => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "balanced" | "bymerge" => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt",
        _ => return None,
    };
    Some(names.chars().map(|name| name.to_string()).collect())
}

/// Images with rows and columns exchanged.
fn transposed(pixels: &[u8], shape: ImageShape) -> Vec<u8> {
    let (height, width) = (shape.height, shape.width);
    let image =
        |image: &[u8]| (0..width * height).map(|at| image[at % height * width + at / height]).collect::<Vec<u8>>();
    pixels.chunks_exact(shape.area()).flat_map(image).collect()
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
            format!(
                "its header promises {expected} bytes of data, it has {}; the file is cut, fetch it again",
                data.len()
            ),
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

    fn read(folder: &Path) -> Result<Dataset, DataError> {
        crate::open(folder, &Options::default()).map(|opened| opened.dataset)
    }
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
        let dataset = read(folder().path()).expect("reads");
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
            let error = read(folder.path()).expect_err("wrong").to_string();
            assert!(error.contains(name), "{error}");
            error
        };
        assert!(broken(FILES[0], idx(&[2, 2, 3], &[7; 11])).contains("promises 12 bytes of data, it has 11"));
        assert!(broken(FILES[1], idx(&[3], &[4, 1, 1])).contains("3 labels for 2 images"));
        assert!(broken(FILES[0], vec![1, 2, 3, 4, 5]).contains("header"));
        assert!(broken(FILES[1], idx(&[1, 2], &[4, 1])).contains("starts with"));
        assert!(broken(FILES[3], vec![0x1f, 0x8b, 1, 2]).contains("gzip"));
    }

    fn write(folder: &Path, names: [&str; 4], labels: [&[u8]; 2], pixels: &[u8]) {
        let image = |labels: &[u8]| idx(&[labels.len() as u32, 2, 3], &pixels.repeat(labels.len()));
        let contents = [
            image(labels[0]),
            idx(&[labels[0].len() as u32], labels[0]),
            image(labels[1]),
            idx(&[labels[1].len() as u32], labels[1]),
        ];
        names
            .iter()
            .zip(contents)
            .for_each(|(name, content)| std::fs::write(folder.join(name), content).expect("written"));
    }

    #[test]
    fn classes_follow_from_labels_and_names_from_checksums_only() {
        let at = tempfile::tempdir().expect("a folder");
        let dotted =
            ["train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"];
        write(at.path(), dotted, [&[0, 46], &[3]], &[1; 6]);
        let dataset = read(at.path()).expect("reads");
        assert_eq!((dataset.classes.len(), dataset.classes[46].as_str()), (47, "46"));
        assert_eq!(dataset.name, folder::name(at.path()), "it is not MNIST");
        let opened = crate::open(at.path(), &Options { size: Some(4) }).expect("reads");
        assert_eq!(opened.dataset.shape, ImageShape::new(1, 4, 4));
        assert!(opened.notes[0].contains("44 of 47 classes have no images"), "{:?}", opened.notes);
        write(at.path(), dotted, [&[1, 5], &[2]], &[1; 6]);
        let dataset = read(at.path()).expect("reads");
        assert_eq!((dataset.classes.join(","), dataset.train.labels()), ("1,2,3,4,5".into(), [0, 4].as_slice()));
    }

    #[test]
    fn emnist_stands_upright_and_has_letters() {
        let at = tempfile::tempdir().expect("a folder");
        let names = ["train-images", "train-labels", "test-images", "test-labels"];
        let kinds = ["idx3", "idx1", "idx3", "idx1"];
        let names: Vec<String> =
            names.iter().zip(kinds).map(|(name, kind)| format!("emnist-letters-{name}-{kind}-ubyte")).collect();
        let names = [names[0].as_str(), &names[1], &names[2], &names[3]];
        write(at.path(), names, [&[1, 26], &[3]], &[1, 2, 3, 4, 5, 6]);
        let dataset = read(at.path()).expect("reads");
        assert_eq!((dataset.classes.len(), dataset.classes[25].as_str(), dataset.test.label(0)), (26, "Z", 2));
        assert_eq!((dataset.shape, dataset.train.image(1)), (ImageShape::new(1, 3, 2), [1, 4, 2, 5, 3, 6].as_slice()));
        write(at.path(), FILES, [&[0, 1], &[1]], &[0; 6]);
        assert!(read(at.path()).expect_err("two").to_string().contains("more than one data set"));
        assert_eq!(emnist_classes("balanced").map(|names| names.len()), Some(47));
        assert_eq!(emnist_classes("byclass").map(|names| names.len()), Some(62));
    }

    #[test]
    fn files_inside_known_folders_are_found() {
        let at = tempfile::tempdir().expect("a folder");
        let inside = at.path().join("FashionMNIST/raw");
        std::fs::create_dir_all(&inside).expect("made");
        write(&inside, FILES, [&[0, 1], &[1]], &[0; 6]);
        assert_eq!(read(at.path()).expect("reads").train.len(), 2);
    }
}
