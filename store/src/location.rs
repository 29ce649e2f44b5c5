//! From an address to a store: folders, memory, and object storage with the usual credentials.

use crate::address::Address;
use crate::error::StoreError;
#[cfg(feature = "cloud")]
use crate::settings::Settings;
use bloctrain_shared::key;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreScheme};
use std::sync::Arc;

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

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To work in it: a folder is made when it is absent.
    Use,
    /// To see what is there: nothing is made.
    Look,
}

/// A store, and the address by which messages and others name it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) place: Place,
    pub(crate) location: String,
}

/// Opens the store of an address; `settings` go before those of the environment.
pub(crate) fn open(location: &str, settings: &[(&str, &str)], mode: Mode) -> Result<Opened, StoreError> {
    let url = match Address::parse(location)? {
        Address::Folder(folder) => {
            let location = folder.to_string_lossy().into_owned();
            return Ok(Opened { store: open_folder(&folder, mode)?, place: Place::Folder, location });
        }
        Address::Memory => {
            return Ok(Opened {
                store: Arc::new(InMemory::new()),
                place: Place::Memory,
                location: location.to_owned(),
            });
        }
        Address::Remote(url) => url,
    };
    let location = url.to_string();
    let invalid = |problem: String| StoreError::InvalidLocation { location: location.clone(), problem };
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| invalid(error.to_string()))?;
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => open_s3(&location, settings)?,
        ObjectStoreScheme::GoogleCloudStorage => open_gcs(&location, settings)?,
        ObjectStoreScheme::MicrosoftAzure => open_azure(&location, settings)?,
        _ => return Err(invalid("nothing here speaks its protocol".into())),
    };
    let store = if prefix == Path::default() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok(Opened { store, place: Place::Remote, location })
}

fn open_folder(folder: &std::path::Path, mode: Mode) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let store = folder.display().to_string();
    let refuse = |problem: String| StoreError::NotWritable { store: store.clone(), problem };
    match mode {
        Mode::Use => std::fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?,
        Mode::Look if !folder.is_dir() => return Err(StoreError::NoStore { store }),
        Mode::Look => {}
    }
    let local = LocalFileSystem::new_with_prefix(folder).map_err(|error| refuse(error.to_string()))?.with_fsync(true);
    Ok(Arc::new(local))
}

/// Keeps other processes from changing what only one may change in a folder, until it is dropped. The file is the one
/// that the probe leaves, which is never written again.
pub(crate) async fn lock(location: &str) -> Result<std::fs::File, StoreError> {
    let store = location.to_owned();
    let file = std::path::Path::new(location).join(key::PROBE);
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
        advice: "check the variables AWS_*, GOOGLE_* or AZURE_* that it needs".into(),
    }
}

/// A builder with settings by the names that the environment uses, once they are checked.
#[cfg(feature = "cloud")]
macro_rules! configured {
    ($builder:ty, $check:ident, $location:expr, $settings:expr) => {{
        install_tls();
        let found = Settings::new($location, $settings, &|name| std::env::var(name).ok()).$check()?;
        let found = found.iter().map(|(name, value)| (*name, value.as_str()));
        let builder = <$builder>::from_env().with_url($location).with_retry(crate::retry::RetryPolicy::http());
        let builder = found
            .chain($settings.iter().copied().filter(|(name, _)| !crate::settings::is_of_profiles(name)))
            .try_fold(builder, |builder, (name, value)| {
                Ok(builder.with_config(name.to_ascii_lowercase().parse()?, value))
            });
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
    configured!(object_store::aws::AmazonS3Builder, aws, location, settings)
}

#[cfg(feature = "gcp")]
fn open_gcs(location: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    configured!(object_store::gcp::GoogleCloudStorageBuilder, google, location, settings)
}

#[cfg(feature = "azure")]
fn open_azure(location: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>, StoreError> {
    configured!(object_store::azure::MicrosoftAzureBuilder, azure, location, settings)
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
