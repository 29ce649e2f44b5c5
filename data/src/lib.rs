//! Data sets of images: standard files, folders of pictures, the embedded subset, downloads.
//!
//! A [`Dataset`] holds pixels as bytes, sample-major, channels first. Reading never guesses: a file that is cut, has a
//! label out of range or an image of another size is refused by name, and what is left out is said ([`Opened::notes`]).

mod cifar;
mod cifar_python;
#[cfg(test)]
mod damage;
mod dataset;
pub mod embedded;
mod error;
pub mod fetch;
mod folder;
mod idx;
mod known;
mod label;
mod notes;
mod pickle;
pub mod registry;
pub mod split;
pub mod stored;
pub mod verify;

pub use dataset::{Dataset, Split, SplitKind};
pub use error::{DataError, Several};

use std::path::{Path, PathBuf};

/// How images are taken from files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Scales every image so that its shorter side has so many pixels, and takes the middle (`data.size`).
    pub size: Option<u32>,
}

/// A data set that was read, with what people should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The data set.
    pub dataset: Dataset,
    /// What was left out, and what is odd about its classes.
    pub notes: Vec<String>,
}

/// Folders that archives and other programs make around the files of a data set.
const INSIDE: [&str; 9] = [
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar-100-binary",
    "cifar-100-python",
    "raw",
    "MNIST/raw",
    "FashionMNIST/raw",
    "KMNIST/raw",
    "gzip",
];

type Reader = fn(&Path, &Options) -> Result<Option<Opened>, DataError>;

/// Reads the data set in a folder, whichever of the known ones it is.
///
/// # Errors
/// When none is recognised, or a file is missing or wrong.
pub fn open(folder: &Path, options: &Options) -> Result<Opened, DataError> {
    if !folder.is_dir() {
        if let Some(what) = known::file(folder).filter(|_| folder.exists()) {
            return Err(DataError::NotReadHere { path: folder.to_owned(), what });
        }
        let what = if folder.exists() {
            "it is a file; give the folder that holds the data"
        } else {
            "there is no such folder"
        };
        return Err(DataError::read(folder, std::io::Error::new(std::io::ErrorKind::NotFound, what)));
    }
    let readers: [Reader; 4] = [cifar::open, cifar_python::open, idx::open, folder::open];
    let places: Vec<PathBuf> = [folder.to_owned()].into_iter().chain(INSIDE.map(|name| folder.join(name))).collect();
    for place in places.iter().filter(|place| place.is_dir()) {
        for reader in readers {
            if let Some(Opened { dataset, mut notes }) = reader(place, options)? {
                let dataset = dataset.scaled(options.size);
                notes.extend(notes::classes(&dataset));
                return Ok(Opened { dataset, notes });
            }
        }
    }
    Err(match known::inside(folder)? {
        Some((path, what)) => DataError::NotReadHere { path, what },
        None => DataError::NotRecognised { path: folder.to_owned() },
    })
}

/// The embedded data set of a name.
///
/// # Errors
/// When there is none of that name.
pub fn by_name(name: &str, options: &Options) -> Result<Opened, DataError> {
    if name == embedded::NAME {
        let dataset = embedded::load()?;
        return Ok(Opened { dataset: dataset.scaled(options.size), notes: Vec::new() });
    }
    Err(DataError::UnknownName { name: name.to_owned(), known: embedded::NAME })
}
