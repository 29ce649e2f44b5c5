//! What this process may use of its machine.

use crate::failure::Failure;
use anyhow::Context;
use std::path::Path;
use tokio::net::TcpListener;

/// Listens on an address that the user gave.
pub(super) async fn bind(address: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}")).map_err(Failure::Usage)
}

/// Name of this machine.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// Memory that this process may use in bytes: the limit of its container, or all of the machine's; 0 where nothing says.
pub(super) fn memory() -> u64 {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> u64 {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let machine = total(&read("proc/meminfo"));
    // Version 2 of control groups, and version 1: a container sees its own group at the top. `max`, or a number larger than
    // the machine, is no limit.
    let limits = ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.into_iter().filter_map(|path| read(path).trim().parse::<u64>().ok()).min();
    match limit {
        Some(limit) if machine == 0 || limit < machine => limit,
        _ => machine,
    }
}

/// The whole memory, by what the kernel says.
fn total(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_limit_counts_where_it_is_the_smaller_one() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        assert_eq!(memory_below(root.path()), 0, "nothing says");
        write("proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\n");
        assert_eq!(memory_below(root.path()), 16 << 20);
        write("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(memory_below(root.path()), 16 << 20, "no limit");
        write("sys/fs/cgroup/memory.max", "4194304\n");
        assert_eq!(memory_below(root.path()), 4 << 20);
        std::fs::remove_file(root.path().join("sys/fs/cgroup/memory.max")).expect("removed");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_below(root.path()), 16 << 20, "version 1 without a limit");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "8388608\n");
        assert_eq!(memory_below(root.path()), 8 << 20);
    }
}
