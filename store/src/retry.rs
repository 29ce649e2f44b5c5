//! When an operation is tried again: one place for attempts, pauses and time-outs.
//!
//! Only what [`crate::error::classify`] calls transient is tried again: [`StoreError::Unavailable`] and
//! [`StoreError::Unreachable`]. Missing objects, failed conditions, denied access and full disks are answers, not
//! failures. Below this, `object_store` retries single HTTP requests a few times ([`RetryPolicy::http`]); this layer
//! outlasts what those do not: answers that break off, time-outs of writes, and a service that is down for minutes.

use crate::error::{ErrorKind, StoreError};
use crate::transfer::PART_BYTES;
use bloctrain_shared::Digest;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How long and how often to try. Pauses double from `first_pause` to `longest_pause`, each shortened by a random part
/// of up to a half, so that many workers do not come back at once.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Pause after the first failed attempt.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// No attempt begins later than this after the first; the last error is then the operation's.
    pub patience: Duration,
    /// Time after which an attempt without an answer counts as failed. Both times are for what fits into one part;
    /// larger objects have them once more per part.
    pub attempt_timeout: Duration,
    /// Seed of the random part of pauses.
    pub jitter_seed: u64,
}

impl Default for RetryPolicy {
    /// Outlasts an outage of five minutes. Every process has its own jitter: what it computes does not depend on it.
    fn default() -> Self {
        let jitter_seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            patience: Duration::from_secs(300),
            attempt_timeout: Duration::from_secs(90),
            jitter_seed,
        }
    }
}

impl RetryPolicy {
    /// For the first contact with a store: wrong addresses and credentials should show within seconds.
    pub fn first_contact(&self) -> Self {
        Self { patience: self.patience.min(Duration::from_secs(5)), ..self.clone() }
    }

    /// Pause after failed attempt number `attempt` (from 0) at `key`.
    fn pause(&self, key: &str, attempt: u32) -> Duration {
        let full =
            self.first_pause.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.longest_pause);
        let draw = Digest::of_parts(&[&self.jitter_seed.to_le_bytes(), key.as_bytes(), &attempt.to_le_bytes()]);
        let part = f64::from(u16::from_le_bytes([draw.as_bytes()[0], draw.as_bytes()[1]])) / f64::from(u16::MAX);
        full.mul_f64(1.0 - part / 2.0)
    }

    /// Runs an operation that moves `bytes` bytes at `key` until it succeeds, fails for good, or the patience is over.
    ///
    /// # Errors
    /// The last attempt's error.
    pub(crate) async fn run<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        key: &str,
        bytes: u64,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let size = u32::try_from(bytes / PART_BYTES as u64).unwrap_or(u32::MAX).saturating_add(1);
        let (timeout, patience) = (self.attempt_timeout.saturating_mul(size), self.patience.saturating_mul(size));
        let begun = tokio::time::Instant::now();
        let mut attempt = 0;
        loop {
            let timed_out = |_| {
                let problem = format!("no answer within {} s", timeout.as_secs());
                Err(StoreError::Unavailable { key: key.to_owned(), problem })
            };
            let error = match tokio::time::timeout(timeout, operation()).await.unwrap_or_else(timed_out) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let pause = self.pause(key, attempt);
            if error.kind() != ErrorKind::Retry || begun.elapsed() + pause > patience {
                return Err(error);
            }
            tracing::debug!(key, attempt, %error, pause_ms = pause.as_millis(), "a store operation is tried again");
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// How `object_store` repeats one HTTP request before it reports an error.
    #[cfg(feature = "cloud")]
    pub(crate) fn http() -> object_store::RetryConfig {
        let backoff = object_store::BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        };
        object_store::RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(20) }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between attempts; tests run it on tokio's paused clock")]
async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn policy() -> RetryPolicy {
        RetryPolicy { jitter_seed: 1, ..RetryPolicy::default() }
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable { key: "k".into(), problem: "503".into() }
    }

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_processes() {
        let policy = policy();
        for attempt in 0..40 {
            let full = policy.first_pause.saturating_mul(1 << attempt.min(20)).min(policy.longest_pause);
            let pause = policy.pause("k", attempt);
            assert!(pause <= full && pause >= full / 2, "attempt {attempt}: {pause:?}");
        }
        let other = RetryPolicy { jitter_seed: 2, ..policy.clone() };
        assert_ne!(policy.pause("k", 3), other.pause("k", 3));
        assert_eq!(policy.pause("k", 3), policy.pause("k", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_outlasted_and_what_does_not_is_reported() {
        let policy = policy();
        let calls = Cell::new(0);
        let recovers = || async {
            calls.set(calls.get() + 1);
            if calls.get() < 10 { Err(unavailable()) } else { Ok(calls.get()) }
        };
        assert_eq!(policy.run("k", 0, recovers).await, Ok(10));
        let begun = tokio::time::Instant::now();
        assert_eq!(policy.run("k", 0, || async { Err::<(), _>(unavailable()) }).await, Err(unavailable()));
        let waited = begun.elapsed();
        assert!(waited <= policy.patience && waited > policy.patience / 2, "{waited:?}");
        calls.set(0);
        let missing = || async {
            calls.set(calls.get() + 1);
            Err::<(), _>(StoreError::Missing { key: "k".into() })
        };
        assert_eq!(policy.run("k", 0, missing).await, Err(StoreError::Missing { key: "k".into() }));
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_an_answer_is_given_up() {
        let calls = Cell::new(0);
        let hangs_once = || async {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                std::future::pending::<()>().await
            }
            Ok(())
        };
        assert_eq!(policy().run("k", 0, hangs_once).await, Ok(()));
        assert_eq!(calls.get(), 2);
    }
}
