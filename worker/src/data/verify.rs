//! Whether the files in a folder are the published ones.

use super::registry::{PUBLISHED, md5_of};
use super::{DataError, Dataset};
use serde::Serialize;
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
        files.push((name.to_owned(), status(name, md5_of(&bytes))));
    }
    let dataset = Dataset::open(folder)?;
    let content = (dataset.name.clone(), dataset.classes.len(), dataset.train.len(), dataset.test.len());
    Ok(Verification { files, content })
}

fn status(name: &str, found: String) -> FileStatus {
    let published: Vec<(String, String)> = PUBLISHED
        .iter()
        .flat_map(|set| set.files.iter().map(move |file| (set.name, file)))
        .filter(|(_, file)| file.name == name)
        .map(|(set, file)| (set.to_owned(), file.md5.to_owned()))
        .collect();
    match published.iter().find(|(_, md5)| *md5 == found) {
        Some((dataset, _)) => FileStatus::Published { dataset: dataset.clone() },
        None => FileStatus::Differs { found, published },
    }
}
