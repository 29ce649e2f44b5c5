//! Where compiled kernels are kept between runs: NVRTC takes a second or so for each of the larger ones.
//!
//! `$XDG_CACHE_HOME/bloctrain/kernels/` (or `~/.cache/...`) has a folder for each program, card and NVRTC, in it one
//! for each process that runs at a time, since CubeCL writes there without asking others. A folder that cannot be
//! written is no error: kernels are then compiled in every run.

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Folders of programs and cards that are kept: the newest.
const KEPT: usize = 8;
/// Processes on one machine that find a folder.
const PROCESSES: usize = 64;

/// Makes CubeCL keep what it compiles, once in a process and before its first use of a device.
pub(super) fn keep(target: &str) {
    static DONE: Once = Once::new();
    DONE.call_once(|| match folder(target) {
        Ok((folder, lock)) => {
            let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
            config.compilation.cache.get_or_insert(CacheConfig::File(folder));
            CubeClRuntimeConfig::set(config);
            // Held until the process ends.
            std::mem::forget(lock);
        }
        Err(error) => tracing::info!(%error, "compiled kernels are not kept"),
    });
}

/// A folder for this program on a card, and the lock that makes it this process's own.
fn folder(target: &str) -> io::Result<(PathBuf, File)> {
    let absent = || io::Error::other("neither XDG_CACHE_HOME nor HOME is set");
    let root = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").ok_or_else(absent)?).join(".cache"),
    };
    let root = root.join("bloctrain/kernels");
    // What a kernel is compiled from is in the program.
    let mut program = blake3::Hasher::new();
    program.update_reader(File::open(std::env::current_exe()?)?)?;
    let own = root.join(format!("{}-{target}", &program.finalize().to_hex()[..16]));
    fs::create_dir_all(&own)?;
    forget_old(&root)?;
    for process in 0..PROCESSES {
        let folder = own.join(process.to_string());
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => return Ok((folder, lock)),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{PROCESSES} processes use {}", own.display())))
}

/// Removes all but the newest folders.
fn forget_old(root: &Path) -> io::Result<()> {
    let mut folders: Vec<_> = fs::read_dir(root)?
        .filter_map(|entry| Some((entry.as_ref().ok()?.metadata().ok()?.modified().ok()?, entry.ok()?.path())))
        .collect();
    folders.sort();
    for (_, old) in folders.iter().rev().skip(KEPT) {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}
