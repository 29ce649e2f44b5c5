//! What is wrong with data.

use bloctrain_infer::FileError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Damaged files that are named; the others are counted.
const NAMED: usize = 10;

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder holds no known data set.
    #[error(
        "{} holds no data set that is known here: expected CIFAR-10 or CIFAR-100 in their binary or Python version \
        (data_batch_1.bin ..., train.bin; data_batch_1 ..., train), MNIST-like IDX files \
        (train-images-idx3-ubyte[.gz] ...) or class folders (train/<class>/*.png, test/<class>/*.png)", path.display()
    )]
    NotRecognised {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something that is known, but not read here.
    #[error("{}: {what}", path.display())]
    NotReadHere {
        /// The file or folder.
        path: PathBuf,
        /// What it is, and what to do with it.
        what: String,
    },
    /// There is no embedded data set of that name.
    #[error("there is no embedded data set `{name}`; there is `{known}`, and --data DIR reads files")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// What is there.
        known: &'static str,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Several files are wrong.
    #[error("{0}")]
    Several(Several),
    /// A download failed.
    #[error("{what}: {problem}")]
    Fetch {
        /// File or address.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Several wrong files: all are counted, the first ten named.
#[derive(Debug)]
pub struct Several(Vec<DataError>);

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files cannot be used; mend or remove them:", self.0.len())?;
        self.0.iter().take(NAMED).try_for_each(|error| write!(f, "\n  {error}"))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl DataError {
    pub(crate) fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::File(FileError::content(path, problem))
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::File(FileError::read(path, source))
    }

    /// One error of many files; `None` where there is none.
    pub(crate) fn several(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(Self::Several(Several(errors))),
        }
    }
}
