//! What this process may use of its machine.

use crate::failure::Failure;
use anyhow::Context;
use sysinfo::{CGroupLimits, System};
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

/// Memory that this process may take in bytes, of the machine or of the container that it is in; 0 where the system
/// does not say.
pub(super) fn memory() -> u64 {
    let (system, limits) = look();
    system.total_memory().min(limits.map_or(u64::MAX, |limits| limits.total_memory))
}

/// Memory that this process may still take in bytes, likewise.
pub(super) fn free_memory() -> u64 {
    let (system, limits) = look();
    system.available_memory().min(limits.map_or(u64::MAX, |limits| limits.free_memory))
}

fn look() -> (System, Option<CGroupLimits>) {
    let mut system = System::new();
    system.refresh_memory();
    let limits = system.cgroup_limits();
    (system, limits)
}
