//! Where a model package is: a folder, or a prefix of an object store.

use bloctrain_infer::{Package, PackageError};
use bloctrain_store::{Artefacts, RetryPolicy, StoreError};
use std::path::PathBuf;

/// Where a package is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix of an object store.
    Store(Artefacts),
}

impl Place {
    /// The place of an address: a folder, or `s3://BUCKET/PREFIX/models/RUN` and the other addresses of stores.
    ///
    /// # Errors
    /// When the address names no store, or the environment lacks something that it needs.
    pub fn of(address: &str) -> Result<Self, StoreError> {
        match address.split_once("://") {
            None => Ok(Self::Folder(address.into())),
            Some(("file", folder)) => Ok(Self::Folder(folder.into())),
            Some(_) => {
                let store = Artefacts::open(address)?;
                // A wrong address should show within seconds.
                let retry = RetryPolicy::default().first_contact();
                Ok(Self::Store(store.with_retry(retry)))
            }
        }
    }

    /// A file of the package, as people may name it.
    pub fn name(&self, file: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(file).display().to_string(),
            Self::Store(store) => format!("{}/{file}", store.location().trim_end_matches('/')),
        }
    }

    /// Reads the package, verifying the parameters' digest.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of a newer form.
    pub fn package(&self) -> Result<Package, PackageError> {
        Package::read(|file| self.name(file), |file| self.read(file))
    }

    /// Reads a file of the package.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, PackageError> {
        let refuse = |problem: String| PackageError::Read { file: self.name(file), problem };
        match self {
            Self::Folder(folder) => std::fs::read(folder.join(file)).map_err(|error| refuse(error.to_string())),
            Self::Store(store) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| refuse(error.to_string()))?;
                let bytes = runtime.block_on(store.get_unverified(file));
                bytes.map(|bytes| bytes.to_vec()).map_err(|error| refuse(error.to_string()))
            }
        }
    }
}
