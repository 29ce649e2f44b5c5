//! Whether the files in a folder are the published ones.

use super::registry::{PUBLISHED, PublishedFile, md5_of};
use super::{DataError, Opened, Options, open};
use flate2::read::GzDecoder;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// What is known about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum FileStatus {
    /// Its checksum is a published one.
    Published {
        /// The data set that it belongs to.
        dataset: String,
    },
    /// It was packed again: the content is the published one.
    Repacked {
        /// The data set that it belongs to.
        dataset: String,
    },
    /// It has the name of a published file, but another checksum.
    Differs {
        /// Its MD5.
        found: String,
        /// The published ones, by data set.
        published: Vec<(String, String)>,
    },
}

/// What was found in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Files with the name of a published file.
    pub files: Vec<(String, FileStatus)>,
    /// Name, classes, training and test samples of the data set that can be read.
    pub content: (String, usize, usize, usize),
    /// What was left out, and what is odd about the classes.
    pub notes: Vec<String>,
}

impl Verification {
    /// Whether some file differs from the published one of its name.
    pub fn has_differences(&self) -> bool {
        self.files.iter().any(|(_, status)| matches!(status, FileStatus::Differs { .. }))
    }
}

/// Compares checksums of published files and reads the whole data set, which checks sizes and labels.
///
/// # Errors
/// When the data set cannot be read.
pub fn verify(folder: &Path) -> Result<Verification, DataError> {
    let mut names: Vec<&str> = PUBLISHED.iter().flat_map(|set| set.files).map(|file| file.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|error| DataError::read(&path, error))?;
        files.push((name.to_owned(), status(name, &bytes)));
    }
    let Opened { dataset, notes } = open(folder, &Options::default())?;
    let content = (dataset.name.clone(), dataset.classes.len(), dataset.train.len(), dataset.test.len());
    Ok(Verification { files, content, notes })
}

fn status(name: &str, bytes: &[u8]) -> FileStatus {
    let known = || PUBLISHED.iter().flat_map(|set| set.files.iter().map(move |file| (set.name, file)));
    let candidates: Vec<(&str, &PublishedFile)> = known().filter(|(_, file)| file.name == name).collect();
    let found = md5_of(bytes);
    if let Some((set, _)) = candidates.iter().find(|(_, file)| file.md5 == found) {
        return FileStatus::Published { dataset: (*set).to_owned() };
    }
    let mut content = Vec::new();
    // What cannot be unpacked differs from what was published.
    let unpacked = GzDecoder::new(bytes).read_to_end(&mut content).ok().map(|_| md5_of(&content));
    if let Some((set, _)) =
        candidates.iter().find(|(_, file)| unpacked.is_some() && file.unpacked == unpacked.as_deref())
    {
        return FileStatus::Repacked { dataset: (*set).to_owned() };
    }
    let published = candidates.iter().map(|(set, file)| ((*set).to_owned(), file.md5.to_owned())).collect();
    FileStatus::Differs { found, published }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::find;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn a_file_that_differs_is_said_to_and_one_that_cannot_be_unpacked_too() {
        let mut other = GzEncoder::new(Vec::new(), Compression::fast());
        other.write_all(b"other labels").expect("packs");
        let other = other.finish().expect("packs");
        for bytes in [b"no gzip at all".as_slice(), &other] {
            let FileStatus::Differs { found, published } = status("t10k-labels-idx1-ubyte.gz", bytes) else {
                panic!("it is not a published file")
            };
            assert_eq!(found, md5_of(bytes));
            assert_eq!(published.len(), 2, "MNIST and Fashion-MNIST have a file of that name");
        }
        let fashion = find("fashion-mnist").expect("known");
        assert!(fashion.files.iter().all(|file| file.unpacked.is_some()));
    }
}
