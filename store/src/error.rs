//! Errors of the store, and what each asks of the caller.
//!
//! [`classify`] is the one place that turns an error of `object_store` into a [`StoreError`]; what is transient is
//! decided here and nowhere else.

use object_store::Error as Raw;
use std::error::Error;

/// What the caller of a failed operation should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Have the object made again.
    InputLost,
    /// Try again later.
    Retry,
    /// Tell a person.
    Fatal,
}

/// A failed store operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No object of that key.
    #[error("there is no object {key}")]
    Missing {
        /// Key of the object.
        key: String,
    },
    /// The content is not what was written.
    #[error("the object {key} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The content is what was written, and of no use.
    #[error("the object {key} holds something else than it should: {problem}")]
    Unusable {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No space is left.
    #[error(
        "cannot write {key}: no space is left in the store; free some (`bloctrain cache gc`) or choose another \
        --store, then run the same command again"
    )]
    Full {
        /// Key of the object.
        key: String,
    },
    /// The store refuses writes.
    #[error("cannot write to the store {store}: {problem}; choose a folder that you may write to with --store")]
    NotWritable {
        /// The store.
        store: String,
        /// What the system says.
        problem: String,
    },
    /// The store knows the credentials but does not allow this, or does not accept them.
    #[error(
        "the store {store} denies access to {key}: {problem}; check the credentials in the environment and that they \
        may read, write, list and delete there"
    )]
    Denied {
        /// The store.
        store: String,
        /// Key of the object.
        key: String,
        /// What the store says.
        problem: String,
    },
    /// No credentials were found.
    #[error("there are no credentials for the store {store}: {problem}; {advice}")]
    NoCredentials {
        /// The store.
        store: String,
        /// What was tried last.
        problem: String,
        /// What to set.
        advice: &'static str,
    },
    /// The bucket or container does not exist.
    #[error(
        "the bucket (or container) of the store {store} does not exist: {problem}; create it, or correct its name, \
        region or endpoint"
    )]
    NoBucket {
        /// The store.
        store: String,
        /// What the store says.
        problem: String,
    },
    /// Nothing answers at the store's address.
    #[error("the store {store} cannot be reached: {problem}; {advice}")]
    Unreachable {
        /// The store.
        store: String,
        /// What the network says.
        problem: String,
        /// What to check.
        advice: &'static str,
    },
    /// The store does not keep put-if-absent, on which the fencing of old coordinators rests.
    #[error(
        "the store {store} does not honour conditional writes ({problem}), so two coordinators could overwrite each \
        other; use a store that does (Amazon S3, MinIO, Google Cloud Storage, Azure Blob Storage, a local folder)"
    )]
    NoConditionalPut {
        /// The store.
        store: String,
        /// How it showed.
        problem: String,
    },
    /// The settings of a store contradict each other or lack something.
    #[error("the store {store} cannot be used as configured: {problem}; {advice}")]
    BadConfiguration {
        /// The store.
        store: String,
        /// What is wrong.
        problem: String,
        /// What to set.
        advice: String,
    },
    /// There is nothing to look at.
    #[error("there is no store at {store}; check the address, or begin one with `bloctrain train --store {store}`")]
    NoStore {
        /// The address.
        store: String,
    },
    /// This program was built without the store's protocol.
    #[error("this bloctrain was built without {feature}:// stores; build it with `--features {feature}`")]
    NotCompiled {
        /// The cargo feature.
        feature: &'static str,
    },
    /// The store was written by a newer version.
    #[error(
        "the store {store} has format version {found}, this program knows up to {known}; use a newer bloctrain, or \
        another --store"
    )]
    NewerFormat {
        /// The store.
        store: String,
        /// Version of the store.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// An address that names no store.
    #[error(
        "`{location}` is not a store: {problem}; give a folder, file:///FOLDER, memory://, s3://BUCKET/PREFIX, \
         gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    InvalidLocation {
        /// The address, without secrets.
        location: String,
        /// Why it is none.
        problem: String,
    },
    /// Anything else that may pass.
    #[error("the store failed at {key}: {problem}")]
    Unavailable {
        /// Key of the object.
        key: String,
        /// What the store says.
        problem: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } | Self::Unusable { .. } => ErrorKind::InputLost,
            Self::Unavailable { .. } | Self::Unreachable { .. } => ErrorKind::Retry,
            Self::Full { .. }
            | Self::NotWritable { .. }
            | Self::Denied { .. }
            | Self::NoCredentials { .. }
            | Self::NoBucket { .. }
            | Self::NoConditionalPut { .. }
            | Self::BadConfiguration { .. }
            | Self::NotCompiled { .. }
            | Self::NewerFormat { .. }
            | Self::NoStore { .. }
            | Self::InvalidLocation { .. } => ErrorKind::Fatal,
        }
    }

    /// The object that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { key }
            | Self::Damaged { key, .. }
            | Self::Unusable { key, .. }
            | Self::Full { key }
            | Self::Denied { key, .. }
            | Self::Unavailable { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// What to check when nothing answers.
pub(crate) const ENDPOINT_ADVICE: &str = "check the network and the endpoint (AWS_ENDPOINT and AWS_ALLOW_HTTP, \
AZURE_STORAGE_ENDPOINT, or the emulator's address)";

/// What to set when there are no credentials.
pub(crate) const CREDENTIAL_ADVICE: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or \
AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN), GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME and \
AZURE_STORAGE_ACCOUNT_KEY, or keys in a profile of ~/.aws (AWS_PROFILE), or run where the machine has a role";

/// Texts by which services say that the bucket itself is not there.
const NO_BUCKET: [&str; 4] =
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist", "InvalidBucketName"];

/// Addresses from which machines get the credentials of their role.
const METADATA_SERVICES: [&str; 4] =
    ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "/latest/meta-data"];

/// What an error of `object_store` at `key` means.
pub(crate) fn classify(store: &str, key: &str, error: &Raw) -> StoreError {
    let (store_name, key) = (store.to_owned(), key.to_owned());
    let problem = text(error);
    if NO_BUCKET.iter().any(|sign| problem.contains(sign)) {
        return StoreError::NoBucket { store: store_name, problem };
    }
    match error {
        Raw::NotFound { .. } => return StoreError::Missing { key },
        Raw::PermissionDenied { .. } | Raw::Unauthenticated { .. } if is_remote(store) => {
            return StoreError::Denied { store: store_name, key, problem };
        }
        Raw::NotImplemented { .. } | Raw::NotSupported { .. } => {
            return StoreError::BadConfiguration { store: store_name, problem, advice: "use another store".into() };
        }
        _ => {}
    }
    match io_kind(error) {
        Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => return StoreError::Full { key },
        Some(
            std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::ReadOnlyFilesystem
            | std::io::ErrorKind::NotADirectory,
        ) if !is_remote(store) => return StoreError::NotWritable { store: store_name, problem },
        _ => {}
    }
    if METADATA_SERVICES.iter().any(|service| problem.contains(service)) {
        return StoreError::NoCredentials { store: store_name, problem, advice: CREDENTIAL_ADVICE };
    }
    if problem.contains("without LOCATION") {
        let advice = "set AWS_REGION to the bucket's region".into();
        return StoreError::BadConfiguration { store: store_name, problem, advice };
    }
    if is_connect(error) {
        return StoreError::Unreachable { store: store_name, problem, advice: ENDPOINT_ADVICE };
    }
    StoreError::Unavailable { key, problem }
}

/// Whether a store is reached over a network.
fn is_remote(store: &str) -> bool {
    store.split_once("://").is_some_and(|(scheme, _)| !matches!(scheme, "file" | "memory"))
}

/// An error with the causes that it does not name itself, on one line and of a length that people read.
fn text(error: &Raw) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    without_xml(&line).chars().take(600).collect()
}

/// Services answer in XML, of which people need the code and the message.
fn without_xml(line: &str) -> String {
    let tag = |name: &str| {
        let (_, rest) = line.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0)
    };
    match (line.find("<?xml").or_else(|| line.find("<Error>")), tag("Code"), tag("Message")) {
        (Some(start), Some(code), Some(message)) => {
            format!("{}{code}: {}", &line[..start], message.trim_end_matches('.'))
        }
        _ => line.to_owned(),
    }
}

/// Looks through the causes of an error.
fn find<T: Error + 'static>(error: &Raw) -> Option<&T> {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The system's error at the bottom of a store error.
fn io_kind(error: &Raw) -> Option<std::io::ErrorKind> {
    find::<std::io::Error>(error).map(std::io::Error::kind)
}

#[cfg(feature = "cloud")]
fn is_connect(error: &Raw) -> bool {
    find::<object_store::client::HttpError>(error)
        .is_some_and(|error| matches!(error.kind(), object_store::client::HttpErrorKind::Connect))
}

#[cfg(not(feature = "cloud"))]
fn is_connect(_error: &Raw) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_service_are_kept_and_its_xml_is_not() {
        let answer = "404 Not Found: <?xml version=\"1.0\"?> <Error><Code>NoSuchBucket</Code><Message>It does not \
        exist.</Message><RequestId>1</RequestId></Error>";
        let raw = Raw::NotFound { path: "k".into(), source: answer.into() };
        let error = classify("s3://b/p", "k", &raw);
        assert!(matches!(&error, StoreError::NoBucket { .. }));
        assert!(
            error.to_string().contains("NoSuchBucket: It does not exist;") && !error.to_string().contains('<'),
            "{error}"
        );
        let plain = Raw::NotFound { path: "k".into(), source: "gone".into() };
        assert_eq!(classify("s3://b/p", "k", &plain), StoreError::Missing { key: "k".into() });
    }
}
