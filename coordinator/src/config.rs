//! How a coordinator behaves.

/// Bytes of work in a message: far below what a message may have, and far above what most work takes.
const INLINE_BYTES: usize = 1 << 20;

/// How a coordinator behaves, whatever it coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds after the last heartbeat when a lease ends.
    pub lease_ms: u64,
    /// Milliseconds between heartbeats of a worker.
    pub heartbeat_ms: u64,
    /// Milliseconds after a take-over in which workers of the earlier coordinator come back with what they hold, before
    /// it is given to others.
    pub settle_ms: u64,
    /// Milliseconds without progress after which a training task counts as hung; others have more by their stage
    /// ([`Stage::patience`](bloctrain_shared::task::Stage::patience)). 0: never.
    pub stall_ms: u64,
    /// Bytes of a task's work up to which it is sent in a message; what is longer goes through the store.
    pub inline_bytes: usize,
}

impl Config {
    /// Everything in one process: frequent progress, nobody to wait for, nobody to take over from.
    pub const fn in_process() -> Self {
        Self { lease_ms: 10_000, heartbeat_ms: 500, settle_ms: 0, stall_ms: 0, inline_bytes: INLINE_BYTES }
    }

    /// Many processes.
    pub const fn fleet() -> Self {
        Self {
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            settle_ms: 4_000,
            stall_ms: 1_200_000,
            inline_bytes: INLINE_BYTES,
        }
    }
}
