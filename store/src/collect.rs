//! Removes what nothing names: old checkpoints, cached shards, and what interrupted writes left.
//!
//! What is named is the coordinator's to say ([`Keep`]). Objects are listed *before* it is asked: whatever a run names
//! by then stays. An object that was just written is not named yet, so nothing younger than
//! [`Sweep::written_before_ms`] is removed. A data set goes when no run has it, a model when its run was deleted. The
//! coordinator's state is never touched; SlateDB keeps it tidy itself.

use crate::error::StoreError;
use crate::location::Place;
use crate::object::{Artefacts, Listed};
use bloctrain_shared::key;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Keys that have to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// Objects that a run or a model names.
    pub keys: BTreeSet<String>,
    /// Digests of the data sets of all runs.
    pub data: BTreeSet<String>,
    /// Runs that were deleted: only their models may go.
    pub given_up: BTreeSet<String>,
}

impl Keep {
    /// Whether an object has to stay: it is named, or it is the manifest of a shard that is.
    fn holds(&self, key: &str) -> bool {
        let folder = |root: &str| Some(key.strip_prefix(root)?.strip_prefix('/')?.split('/').next()?.to_owned());
        if let Some(run) = folder(key::MODELS) {
            return !self.given_up.contains(&run);
        }
        if let Some(digest) = folder(key::DATA) {
            return self.data.contains(&digest);
        }
        let of_shard = |stem: &str| key.starts_with(key::CACHE) && self.keys.contains(&format!("{stem}.arrow"));
        self.keys.contains(key) || key.strip_suffix(".json").is_some_and(of_shard)
    }
}

/// What a collection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Only objects that were last written before this time, Unix milliseconds, are removed.
    pub written_before_ms: u64,
    /// Say what would be removed, and remove nothing.
    pub dry_run: bool,
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// Objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a garbage collection removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Collected {
    /// All objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Cached shards and their manifests.
    pub cache: Amount,
    /// Checkpoints and records of runs.
    pub runs: Amount,
    /// Data sets of no run.
    pub data: Amount,
    /// Models of runs that were deleted.
    pub models: Amount,
    /// Left by writes that were interrupted; only folders show them.
    pub unfinished: Amount,
}

/// Candidates for removal: what was there before anyone was asked what is needed.
#[derive(Debug, Clone)]
pub struct Candidates {
    objects: Vec<Listed>,
    unfinished: bool,
}

/// Lists what a collection may remove. To be called before the names are read.
///
/// # Errors
/// When the store fails.
pub async fn candidates(store: &Artefacts) -> Result<Candidates, StoreError> {
    let mut objects = store.list_objects(key::CACHE).await?;
    for root in [key::RUNS, key::DATA, key::MODELS] {
        objects.extend(store.list_objects(root).await?);
    }
    Ok(Candidates { objects, unfinished: true })
}

/// As [`candidates`], but only cached shards.
///
/// # Errors
/// When the store fails.
pub async fn candidates_of_cache(store: &Artefacts) -> Result<Candidates, StoreError> {
    Ok(Candidates { objects: store.list_objects(key::CACHE).await?, unfinished: false })
}

/// Removes the candidates that are old enough and not named.
///
/// # Errors
/// When the store fails; what was removed until then is gone.
pub async fn sweep(
    store: &Artefacts,
    candidates: Candidates,
    keep: &Keep,
    sweep: Sweep,
) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    // Manifests go before their data (".json" after ".arrow"): a shard without data must not look complete.
    for object in candidates.objects.into_iter().rev() {
        if keep.holds(&object.key) || object.modified_ms >= sweep.written_before_ms {
            continue;
        }
        let kind = match object.key.split('/').next() {
            Some(key::CACHE) => &mut collected.cache,
            Some(key::DATA) => &mut collected.data,
            Some(key::MODELS) => &mut collected.models,
            _ => &mut collected.runs,
        };
        kind.add(object.bytes);
        if !sweep.dry_run {
            store.delete(&object.key).await?;
        }
    }
    if candidates.unfinished && store.place() == Place::Folder {
        let root = store.location().to_owned();
        let found = tokio::task::spawn_blocking(move || unfinished(Path::new(&root), sweep)).await;
        collected.unfinished = found.unwrap_or_default();
    }
    let kinds = [collected.cache, collected.runs, collected.data, collected.models, collected.unfinished];
    collected.objects = kinds.iter().map(|amount| amount.objects).sum();
    collected.bytes = kinds.iter().map(|amount| amount.bytes).sum();
    Ok(collected)
}

/// Removes files that `object_store` writes before it renames them (`NAME#1`); its listings leave them out.
fn unfinished(folder: &Path, sweep: Sweep) -> Amount {
    let mut amount = Amount::default();
    let mut folders = vec![folder.to_owned()];
    let before = SystemTime::UNIX_EPOCH + Duration::from_millis(sweep.written_before_ms);
    while let Some(folder) = folders.pop() {
        // Folders and files may go while this runs; then there is nothing to do.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if is_unfinished(&entry.file_name().to_string_lossy())
                && meta.modified().is_ok_and(|time| time < before)
            {
                amount.add(meta.len());
                if !sweep.dry_run
                    && let Err(error) = std::fs::remove_file(entry.path())
                {
                    tracing::warn!(file = %entry.path().display(), %error, "an unfinished file could not be removed");
                }
            }
        }
    }
    amount
}

fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// All of these exist; those in `named` are named.
    fn all_keys() -> Vec<String> {
        let shards = (0..6).flat_map(|number| [format!("cache/{number}.arrow"), format!("cache/{number}.json")]);
        let runs =
            (0..3).flat_map(|run| (0..3).map(move |round| format!("runs/{run}/block1/weights-{round}.safetensors")));
        let others = [
            "models/1/model.json",
            "models/1/weights-1",
            "state/manifest/1",
            "format.json",
            "probe.json",
            "cache2/x.arrow",
            "runs2/x",
        ];
        shards.chain(runs).chain(others.map(str::to_owned)).collect()
    }

    async fn filled() -> Artefacts {
        let store = Artefacts::open("memory://").expect("opens");
        for key in all_keys() {
            store.put(&key, Bytes::from_static(b"1234")).await.expect("written");
        }
        store
    }

    async fn left(store: &Artefacts) -> Vec<String> {
        store.list("").await.expect("lists").into_iter().map(|(key, _)| key).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_named_stays_and_the_rest_goes(named in prop::collection::btree_set(0..21_usize, 0..21),
            old in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async {
                let store = filled().await;
                let keep = Keep { keys: named.iter().map(|&index| all_keys()[index].clone())
                    .filter(|key| !key.ends_with(".json")).collect(), ..Keep::default() };
                let written_before_ms = if old { u64::MAX } else { 1 };
                let before = left(&store).await;
                let dry = sweep(&store, candidates(&store).await.expect("lists"), &keep,
                    Sweep { written_before_ms, dry_run: true }).await.expect("sweeps");
                prop_assert_eq!(&left(&store).await, &before, "a dry run removes nothing");
                let done = sweep(&store, candidates(&store).await.expect("lists"), &keep,
                    Sweep { written_before_ms, dry_run: false }).await.expect("sweeps");
                prop_assert_eq!(done, dry, "and says what would be removed");
                let after: BTreeSet<String> = left(&store).await.into_iter().collect();
                prop_assert_eq!(before.len() - after.len(), done.objects);
                for key in before {
                    let shard = key.strip_suffix(".json").map(|stem| format!("{stem}.arrow"));
                    let needed = keep.keys.contains(&key) || shard.is_some_and(|shard| keep.keys.contains(&shard));
                    let ours = key.starts_with("cache/") || key.starts_with("runs/");
                    prop_assert_eq!(after.contains(&key), needed || !old || !ours, "{}", key);
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn data_of_no_run_and_models_that_were_given_up_go() {
        let store = Artefacts::open("memory://").expect("opens");
        for key in [
            "data/a/manifest.json",
            "data/a/train-0",
            "data/b/manifest.json",
            "models/r1/model.json",
            "models/r2/model.json",
        ] {
            store.put(key, Bytes::from_static(b"1234")).await.expect("written");
        }
        let (data, given_up) = (BTreeSet::from(["a".to_owned()]), BTreeSet::from(["r2".to_owned()]));
        let keep = Keep { data, given_up, ..Keep::default() };
        let run = async |written_before_ms| {
            let candidates = candidates(&store).await.expect("lists");
            sweep(&store, candidates, &keep, Sweep { written_before_ms, dry_run: false }).await.expect("sweeps")
        };
        assert_eq!(run(1).await, Collected::default(), "a submission may be about to name them");
        let collected = run(u64::MAX).await;
        assert_eq!((collected.data.objects, collected.models.objects, collected.objects), (1, 1, 2));
        assert_eq!(left(&store).await, ["data/a/manifest.json", "data/a/train-0", "models/r1/model.json"]);
    }

    #[tokio::test]
    async fn unfinished_files_go_and_finished_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        store.put("models/1/a", Bytes::from_static(b"kept")).await.expect("written");
        for name in ["models/1/a#1", "models/1/b#12", "models/1/c#x"] {
            std::fs::write(folder.path().join(name), b"half").expect("written");
        }
        let run = async |written_before_ms, dry_run| {
            let candidates = candidates(&store).await.expect("lists");
            sweep(&store, candidates, &Keep::default(), Sweep { written_before_ms, dry_run })
                .await
                .expect("sweeps")
                .unfinished
        };
        let far = 1 << 50;
        assert_eq!(run(1, false).await, Amount::default(), "young files may belong to a write that goes on");
        assert_eq!(run(far, true).await, Amount { objects: 2, bytes: 8 });
        assert_eq!(run(far, false).await, Amount { objects: 2, bytes: 8 });
        assert_eq!(run(far, false).await, Amount::default());
        assert!(folder.path().join("models/1/a").exists() && folder.path().join("models/1/c#x").exists());
    }
}
