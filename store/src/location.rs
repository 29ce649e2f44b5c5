//! From an address to a store: folders, memory, and object storage with the usual credentials.

use crate::error::StoreError;
use bloctrain_shared::key;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreScheme};
use std::sync::Arc;
use url::Url;

/// What kind of place a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder,
    /// This process's memory.
    Memory,
    /// Object storage behind a network: requests take tens of milliseconds and cost money.
    Remote,
}

/// Opens the store of an address; `settings` go before those of the environment.
pub(crate) fn open(location: &str, settings: &[(&str, &str)]) -> Result<(Arc<dyn ObjectStore>, Place), StoreError> {
    let invalid = || StoreError::InvalidLocation(location.to_owned());
    match location.split_once("://") {
        None => return open_folder(location),
        Some(("file", folder)) => return open_folder(folder),
        Some(("memory", _)) => return Ok((Arc::new(InMemory::new()), Place::Memory)),
        Some(_) => {}
    }
    let url = Url::parse(location).map_err(|_| invalid())?;
    if url.password().is_some() {
        // The address would end in messages and logs.
        return Err(StoreError::InvalidLocation(format!("{}://USER:PASSWORD@...", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) || url.query().is_some() {
        return Err(invalid());
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| invalid())?;
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => open_s3(location, settings)?,
        ObjectStoreScheme::GoogleCloudStorage => open_gcs(location, settings)?,
        ObjectStoreScheme::MicrosoftAzure => open_azure(location, settings)?,
        _ => return Err(invalid()),
    };
    let store = if prefix == Path::default() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok((store, Place::Remote))
}

fn open_folder(folder: &str) -> Result<(Arc<dyn ObjectStore>, Place), StoreError> {
    let refuse = |problem: String| StoreError::NotWritable { store: folder.to_owned(), problem };
    std::fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
    let local = LocalFileSystem::new_with_prefix(folder).map_err(|error| refuse(error.to_string()))?.with_fsync(true);
    Ok((Arc::new(local), Place::Folder))
}

/// Keeps other processes from changing what only one may change in a folder, until it is dropped. The file is the one that
/// the probe leaves, which is never written again.
pub(crate) async fn lock(location: &str) -> Result<std::fs::File, StoreError> {
    let store = location.to_owned();
    let file = std::path::Path::new(location.strip_prefix("file://").unwrap_or(location)).join(key::PROBE);
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
        file.lock().map(|()| file)
    });
    let failed = |problem: String| StoreError::NotWritable { store: store.clone(), problem };
    locked.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

#[cfg(feature = "cloud")]
fn refuse(location: &str, error: &object_store::Error) -> StoreError {
    StoreError::BadConfiguration {
        store: location.to_owned(),
        problem: error.to_string(),
        advice: "check the variables AWS_*, GOOGLE_* or AZURE_* that it needs",
    }
}

/// A builder with settings by the names that the environment uses.
#[cfg(feature = "cloud")]
macro_rules! configured {
    ($builder:ty, $location:expr, $settings:expr) => {{
        install_tls();
        let builder = <$builder>::from_env().with_url($location).with_retry(crate::retry::RetryPolicy::http());
        let builder = $settings
            .iter()
            .try_fold(builder, |builder, (name, value)| Ok(builder.with_config(name.to_ascii_lowercase().parse()?, *value)));
        let store = builder.and_then(|builder| builder.build()).map_err(|error| refuse($location, &error))?;
        Ok(Arc::new(store))
    }};
}

/// TLS for what follows.
#[cfg(feature = "cloud")]
fn install_tls() {
    // Another part of the process may have chosen a provider already; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(feature = "aws")]
fn open_s3(location: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    configured!(object_store::aws::AmazonS3Builder, location, settings)
}

#[cfg(feature = "gcp")]
fn open_gcs(location: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    configured!(object_store::gcp::GoogleCloudStorageBuilder, location, settings)
}

#[cfg(feature = "azure")]
fn open_azure(location: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    configured!(object_store::azure::MicrosoftAzureBuilder, location, settings)
}

#[cfg(not(feature = "aws"))]
fn open_s3(_location: &str, _settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(StoreError::NotCompiled { feature: "aws" })
}

#[cfg(not(feature = "gcp"))]
fn open_gcs(_location: &str, _settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(StoreError::NotCompiled { feature: "gcp" })
}

#[cfg(not(feature = "azure"))]
fn open_azure(_location: &str, _settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(StoreError::NotCompiled { feature: "azure" })
}
