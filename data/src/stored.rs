//! A data set in the store: a submitter puts it there once, every worker of a fleet reads it from there.
//!
//! Parts are safetensors files (`labels` u16 `[n]`, `images` u8 `[n, channels, height, width]`); the manifest that
//! names them is written last, so where it exists, the data are complete. The key is the digest of the data set,
//! checked after reading.

use super::dataset::{Dataset, Split};
use bloctrain_shared::task::ObjectRef;
use bloctrain_shared::{Digest, ImageShape, key};
use bloctrain_store::{Artefacts, StoreError};
use bytes::Bytes;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

/// Bytes of pixels in a part.
const PART: usize = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    name: String,
    classes: Vec<String>,
    shape: ImageShape,
    train: Vec<ObjectRef>,
    test: Vec<ObjectRef>,
}

/// Puts a data set into a store, unless it is there. Says whether it had to.
///
/// # Errors
/// When the store cannot be used.
pub async fn upload(dataset: &Dataset, store: &Artefacts) -> Result<bool, StoreError> {
    let manifest = key::data_manifest(dataset.digest);
    if store.exists(&manifest).await? {
        return Ok(false);
    }
    let train = upload_split(dataset, "train", &dataset.train, store).await?;
    let test = upload_split(dataset, "test", &dataset.test, store).await?;
    let (name, classes) = (dataset.name.clone(), dataset.classes.clone());
    let content = Manifest { name, classes, shape: dataset.shape, train, test };
    let bytes = serde_json::to_vec(&content).map_err(|error| damaged(&manifest, &error))?;
    // Whoever was first has put a complete one there; neither takes the place of the other.
    store.create(&manifest, Bytes::from(bytes)).await?;
    Ok(true)
}

async fn upload_split(
    dataset: &Dataset,
    name: &str,
    split: &Split,
    store: &Artefacts,
) -> Result<Vec<ObjectRef>, StoreError> {
    let (size, each) = (dataset.shape.len(), (PART / dataset.shape.len().max(1)).max(1));
    let mut parts = Vec::new();
    for (number, first) in (0..split.len()).step_by(each).enumerate() {
        let last = (first + each).min(split.len());
        let labels: Vec<u8> = split.labels()[first..last].iter().flat_map(|label| label.to_le_bytes()).collect();
        let pixels = &split.pixels[first * size..last * size];
        let ImageShape { channels, height, width } = dataset.shape;
        let place = format!("part {number} of {name}");
        let wrong = |error: safetensors::SafeTensorError| damaged(&place, &error);
        let labels = TensorView::new(Dtype::U16, vec![last - first], &labels).map_err(wrong)?;
        let images = TensorView::new(Dtype::U8, vec![last - first, channels, height, width], pixels).map_err(wrong)?;
        let bytes = safetensors::serialize([("labels", labels), ("images", images)], None).map_err(wrong)?;
        let key = key::data_part(dataset.digest, name, number, Digest::of(&bytes));
        parts.push(store.put(&key, Bytes::from(bytes)).await?);
    }
    Ok(parts)
}

fn damaged(key: &str, problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { key: key.to_owned(), problem: problem.to_string() }
}

/// Reads the data set of a digest; `None` when the store has none.
///
/// # Errors
/// When the store cannot be read, or what it holds is damaged.
pub async fn download(digest: Digest, store: &Artefacts) -> Result<Option<Dataset>, StoreError> {
    let key = key::data_manifest(digest);
    let bytes = match store.get_unverified(&key).await {
        Err(StoreError::Missing { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(&key, &error))?;
    let train = download_split(&manifest.train, manifest.shape, store).await?;
    let test = download_split(&manifest.test, manifest.shape, store).await?;
    let dataset = Dataset::new(manifest.name, manifest.classes, manifest.shape, train, test);
    if dataset.digest != digest {
        return Err(StoreError::Unusable { key, problem: "its content has another digest".into() });
    }
    Ok(Some(dataset))
}

async fn download_split(parts: &[ObjectRef], shape: ImageShape, store: &Artefacts) -> Result<Split, StoreError> {
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for part in parts {
        let bytes = store.get(part).await?;
        let wrong = |error: safetensors::SafeTensorError| damaged(&part.key, &error);
        let file = SafeTensors::deserialize(&bytes).map_err(wrong)?;
        let (own, images) = (file.tensor("labels").map_err(wrong)?, file.tensor("images").map_err(wrong)?);
        if own.dtype() != Dtype::U16
            || images.dtype() != Dtype::U8
            || images.data().len() != own.data().len() / 2 * shape.len()
        {
            return Err(damaged(&part.key, &"its labels and images do not fit"));
        }
        labels.extend(own.data().chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])));
        pixels.extend_from_slice(images.data());
    }
    Ok(Split::new(labels, pixels, shape.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_read_is_what_was_put_and_damage_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        let dataset = super::super::embedded::load().expect("loads");
        assert_eq!(download(dataset.digest, &store).await, Ok(None));
        assert_eq!(upload(&dataset, &store).await, Ok(true));
        assert_eq!(upload(&dataset, &store).await, Ok(false));
        assert_eq!(download(dataset.digest, &store).await, Ok(Some(dataset.clone())));
        let listed = store.list(&format!("data/{}", dataset.digest)).await.expect("lists");
        let part = listed.into_iter().map(|(key, _)| key).find(|key| key.contains("/test-00000-")).expect("a part");
        let part = folder.path().join(part);
        let mut bytes = std::fs::read(&part).expect("there");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&part, bytes).expect("damaged");
        assert!(matches!(download(dataset.digest, &store).await, Err(StoreError::Damaged { .. })));
    }
}
