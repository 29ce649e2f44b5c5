//! Looking for objects that a worker says are lost.
//!
//! The one that was named is read and compared with its digest; of the others, which may be thousands, only the size is
//! asked.

use crate::schedule::{Doubt, Lost};
use bloctrain_shared::task::ObjectRef;
use bloctrain_shared::{Digest, key};
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;

/// Objects that are looked for at once.
const AT_ONCE: usize = 16;

/// What is lost of the inputs of a task.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn lost(artefacts: &Artefacts, doubt: &Doubt) -> Result<Vec<Lost>, StoreError> {
    let mut lost = Vec::new();
    if let Some(key) = Some(&doubt.key).filter(|key| doubt.inputs.iter().all(|input| input.key != **key)) {
        lost.extend(lost_data(artefacts, key).await?);
    }
    let look = |object: &ObjectRef| {
        let (object, is_named) = (object.clone(), object.key == doubt.key);
        async move {
            match is_named {
                true => lost_content(artefacts, &object).await,
                false => lost_size(artefacts, &object).await,
            }
        }
    };
    let found: Vec<Option<Lost>> =
        futures::stream::iter(doubt.inputs.iter().map(look)).buffered(AT_ONCE).try_collect().await?;
    lost.extend(found.into_iter().flatten());
    Ok(lost)
}

async fn lost_content(artefacts: &Artefacts, object: &ObjectRef) -> Result<Option<Lost>, StoreError> {
    match artefacts.get_stored(object).await {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::InputLost => {
            Ok(Some(Lost { key: object.key.clone(), problem: error.to_string() }))
        }
        Err(error) => Err(error),
    }
}

async fn lost_size(artefacts: &Artefacts, object: &ObjectRef) -> Result<Option<Lost>, StoreError> {
    let problem = match artefacts.size(&object.key).await? {
        Some(bytes) if bytes == object.bytes => return Ok(None),
        Some(bytes) => format!("it has {bytes} bytes instead of {}", object.bytes),
        None => StoreError::Missing { key: object.key.clone() }.to_string(),
    };
    Ok(Some(Lost { key: object.key.clone(), problem }))
}

/// What of a completed run's package is lost: a file that is missing, or parameters that are not those of its manifest.
///
/// # Errors
/// When the store does not answer.
pub async fn package(artefacts: &Artefacts, run: &str) -> Result<Option<Lost>, StoreError> {
    for file in key::MODEL_FILES {
        let key = key::model(run, file);
        if artefacts.size(&key).await?.is_none_or(|bytes| bytes == 0) {
            return Ok(Some(Lost { problem: StoreError::Missing { key: key.clone() }.to_string(), key }));
        }
    }
    let (manifest, tensors) = (key::model(run, key::MODEL_MANIFEST), key::model(run, key::MODEL_TENSORS));
    let damaged = |key: String, problem: String| {
        let problem = StoreError::Damaged { key: key.clone(), problem }.to_string();
        Ok(Some(Lost { key, problem }))
    };
    let named: Named = match serde_json::from_slice(&artefacts.get_unverified(&manifest).await?) {
        Ok(named) => named,
        Err(error) => return damaged(manifest, error.to_string()),
    };
    if Digest::of(&artefacts.get_unverified(&tensors).await?) != named.tensors {
        return damaged(tensors, "its checksum is wrong".into());
    }
    Ok(None)
}

/// What a package's manifest says of its parameters.
#[derive(Deserialize)]
struct Named {
    tensors: Digest,
}

/// What a data set's manifest says of its parts.
#[derive(Deserialize)]
struct Parts {
    train: Vec<ObjectRef>,
    test: Vec<ObjectRef>,
}

/// A part of the data set, or its manifest, which is the only one without a digest.
async fn lost_data(artefacts: &Artefacts, key: &str) -> Result<Option<Lost>, StoreError> {
    let lost = |problem: String| Ok(Some(Lost { key: key.to_owned(), problem }));
    let manifest = key.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/manifest.json"));
    let bytes = match artefacts.get_unverified(&manifest).await {
        Err(error @ StoreError::Missing { .. }) => return lost(error.to_string()),
        bytes => bytes?,
    };
    let parts: Parts = match serde_json::from_slice(&bytes) {
        Ok(parts) => parts,
        Err(error) => return lost(format!("{manifest} is damaged: {error}")),
    };
    match parts.train.iter().chain(&parts.test).find(|part| part.key == key) {
        Some(part) => lost_content(artefacts, part).await,
        None if key == manifest => Ok(None),
        None => lost(format!("{manifest} does not name it")),
    }
}
