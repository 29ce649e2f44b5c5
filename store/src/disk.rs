//! A read-through cache of objects on this machine's disk, bounded in size, shared by any number of processes.
//!
//! Files are named by the digest of their content, so they cannot be stale, and the digest is checked whenever one is
//! read: a damaged file is removed and the object fetched again. A file is written under a temporary name and renamed,
//! so no process sees half of one. The time of modification is the time of the last use; when the cache is over its
//! limit, the files that were used longest ago go first. A disk that is full or read-only costs one warning; nothing is
//! stored from then on.

use bloctrain_shared::Digest;
use bytes::Bytes;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Where the cache is and how large it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCacheConfig {
    /// Its folder; made when absent.
    pub folder: PathBuf,
    /// Bytes of its files, at most; passed for a moment while a file is added.
    pub limit_bytes: u64,
}

/// Suffix of files that are not complete.
const PARTIAL: &str = ".partial";

/// Unfinished files that are older than this were left by a process that died.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Share of the limit that processes may add between two looks at the folder.
const LOOK_EVERY: u64 = 16;

/// The cache of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DiskCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    limit: u64,
    /// Bytes that this process added since it last looked at the folder.
    added: AtomicU64,
    /// Part of temporary names that no other process has.
    unique: u64,
    /// Temporary names that were given out.
    names: AtomicU64,
    full: AtomicBool,
}

impl DiskCache {
    /// Opens a cache; `None`, and a warning, when its folder cannot be used.
    pub(crate) fn open(config: &DiskCacheConfig) -> Option<Self> {
        let inner = Inner {
            folder: config.folder.clone(),
            limit: config.limit_bytes,
            added: AtomicU64::new(0),
            unique: std::collections::hash_map::RandomState::new().build_hasher().finish(),
            names: AtomicU64::new(0),
            full: AtomicBool::new(false),
        };
        match fs::create_dir_all(&inner.folder).and_then(|()| inner.trim()) {
            Ok(()) => Some(Self(Arc::new(inner))),
            Err(error) => {
                tracing::warn!(folder = %config.folder.display(), %error, "the disk cache cannot be used; objects are \
                read from the store");
                None
            }
        }
    }

    /// The content of a digest, when it is here and undamaged.
    pub(crate) async fn get(&self, digest: Digest, bytes: u64) -> Option<Bytes> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.get(digest, bytes)).await.ok()?
    }

    /// Keeps content for later.
    pub(crate) async fn insert(&self, digest: Digest, content: Bytes) {
        let inner = Arc::clone(&self.0);
        // Only a panic or the end of the process stops the task, and then there is nothing to keep.
        let _ = tokio::task::spawn_blocking(move || inner.insert(digest, &content)).await;
    }
}

impl Inner {
    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn get(&self, digest: Digest, bytes: u64) -> Option<Bytes> {
        let path = self.path(digest);
        let content = fs::read(&path).ok()?;
        if content.len() as u64 != bytes || Digest::of(&content) != digest {
            tracing::warn!(file = %path.display(), "a file of the disk cache is damaged; the object is fetched again");
            // Where it cannot be removed, it is found damaged again.
            let _ = fs::remove_file(&path);
            return None;
        }
        touch(&path);
        Some(Bytes::from(content))
    }

    fn insert(&self, digest: Digest, content: &[u8]) {
        let bytes = content.len() as u64;
        if bytes > self.limit / 2 || self.full.load(Ordering::Relaxed) {
            return;
        }
        let path = self.path(digest);
        if path.exists() {
            touch(&path);
            return;
        }
        if let Err(error) = self.write(&path, content) {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(folder = %self.folder.display(), %error, "the disk cache cannot be written; it keeps \
                what it has");
            }
            return;
        }
        let added = self.added.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if added >= self.limit / LOOK_EVERY
            && let Err(error) = self.trim()
        {
            tracing::debug!(%error, "the disk cache could not be trimmed");
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let partial = self.folder.join(format!("{:016x}-{number}{PARTIAL}", self.unique));
        let written = fs::File::create_new(&partial).and_then(|mut file| file.write_all(content));
        let renamed = written.and_then(|()| fs::rename(&partial, path));
        if renamed.is_err() {
            // The next look at the folder removes it otherwise.
            let _ = fs::remove_file(&partial);
        }
        renamed
    }

    /// Removes what was used longest ago until there is room for what may be added before the next look.
    fn trim(&self) -> io::Result<()> {
        self.added.store(0, Ordering::Relaxed);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it.
            let Ok(meta) = entry.metadata() else { continue };
            let used = meta.modified()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(PARTIAL) {
                if now().duration_since(used).is_ok_and(|age| age > ABANDONED) {
                    let _ = fs::remove_file(entry.path());
                }
            } else if name.parse::<Digest>().is_ok() {
                files.push((used, entry.path(), meta.len()));
            }
        }
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        files.sort();
        let goal = self.limit - self.limit / LOOK_EVERY;
        for (_, path, bytes) in files {
            if total <= goal {
                break;
            }
            match fs::remove_file(path) {
                Ok(()) => total -= bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => total -= bytes,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Notes that a file was used.
fn touch(path: &Path) {
    // On a read-only disk the order of use is not kept.
    let _ = fs::File::options().append(true).open(path).and_then(|file| file.set_modified(now()));
}

#[expect(clippy::disallowed_methods, reason = "times of use of files on this disk; no result depends on them")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: u8, bytes: usize) -> (Digest, Bytes) {
        let content = Bytes::from(vec![number; bytes]);
        (Digest::of(&content), content)
    }

    fn files(folder: &Path) -> Vec<(String, u64)> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("its size").len())
        };
        fs::read_dir(folder).expect("a folder").map(entry).collect()
    }

    #[tokio::test]
    async fn a_damaged_file_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache =
            DiskCache::open(&DiskCacheConfig { folder: folder.path().into(), limit_bytes: 1000 }).expect("opens");
        let (digest, bytes) = content(1, 10);
        assert_eq!(cache.get(digest, 10).await, None);
        cache.insert(digest, bytes.clone()).await;
        assert_eq!(cache.get(digest, 10).await, Some(bytes.clone()));
        for damage in [&b"other bytes"[..], b"", b"0123456789"] {
            fs::write(folder.path().join(digest.to_string()), damage).expect("damaged");
            assert_eq!(cache.get(digest, 10).await, None);
            assert_eq!(files(folder.path()), [], "it is removed");
            cache.insert(digest, bytes.clone()).await;
            assert_eq!(cache.get(digest, 10).await, Some(bytes.clone()));
        }
    }

    #[tokio::test]
    async fn the_limit_holds_and_what_was_used_last_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = DiskCacheConfig { folder: folder.path().into(), limit_bytes: 1000 };
        let cache = DiskCache::open(&config).expect("opens");
        let all: Vec<(Digest, Bytes)> = (0..30).map(|number| content(number, 100)).collect();
        for (number, (digest, bytes)) in all.iter().enumerate() {
            cache.insert(*digest, bytes.clone()).await;
            // Times of files may be coarse: the order of use is written out.
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + number as u64);
            let file =
                fs::File::options().append(true).open(folder.path().join(digest.to_string())).expect("just written");
            file.set_modified(used).expect("a time");
            assert!(cache.get(all[0].0, 100).await.is_some(), "the first is in use all the time");
            assert!(files(folder.path()).iter().map(|(_, bytes)| bytes).sum::<u64>() <= 1000);
        }
        assert!(cache.get(all[29].0, 100).await.is_some() && cache.get(all[5].0, 100).await.is_none());
        let (large, bytes) = content(99, 501);
        cache.insert(large, bytes).await;
        assert_eq!(cache.get(large, 501).await, None, "one object does not take more than half");
    }

    #[tokio::test]
    async fn several_processes_share_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = DiskCacheConfig { folder: folder.path().into(), limit_bytes: 4000 };
        let caches: Vec<DiskCache> = (0..4).map(|_| DiskCache::open(&config).expect("opens")).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for cache in caches {
            tasks.spawn(async move {
                for round in 0..200_u8 {
                    let (digest, bytes) = content(round % 60, 100);
                    cache.insert(digest, bytes.clone()).await;
                    // Another may have removed it; what is found is right.
                    assert!(cache.get(digest, 100).await.is_none_or(|found| found == bytes));
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no task fails");
        }
        let left = files(folder.path());
        assert!(left.iter().all(|(name, _)| name.parse::<Digest>().is_ok()), "nothing unfinished is left: {left:?}");
        // Four processes may each add a sixteenth between their looks.
        assert!(left.iter().map(|(_, bytes)| bytes).sum::<u64>() <= 4000 + 4 * 350, "{left:?}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_costs_nothing_but_the_cache() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(DiskCache::open(&DiskCacheConfig { folder: file.path().join("cache"), limit_bytes: 1000 }).is_none());
        let folder = tempfile::tempdir().expect("a folder");
        let config = DiskCacheConfig { folder: folder.path().join("cache"), limit_bytes: 1000 };
        let cache = DiskCache::open(&config).expect("opens");
        let (kept, bytes) = content(1, 100);
        cache.insert(kept, bytes.clone()).await;
        // Root may write anywhere, so the folder goes and a file takes its place.
        fs::rename(&config.folder, folder.path().join("aside")).expect("moved");
        fs::write(&config.folder, b"in the way").expect("written");
        let (digest, other) = content(2, 100);
        cache.insert(digest, other.clone()).await;
        assert!(cache.0.full.load(Ordering::Relaxed));
        assert_eq!(cache.get(digest, 100).await, None);
        fs::remove_file(&config.folder).expect("removed");
        fs::rename(folder.path().join("aside"), &config.folder).expect("moved back");
        cache.insert(digest, other).await;
        assert_eq!(cache.get(digest, 100).await, None, "nothing is stored any more");
        assert_eq!(cache.get(kept, 100).await, Some(bytes), "what is there is still used");
    }
}
