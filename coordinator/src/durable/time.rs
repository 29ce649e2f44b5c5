//! The clock of the state, which never goes back.
//!
//! SlateDB orders what it writes by time, and refuses to write behind what is there. The clock of this machine may be
//! behind: it was set back, or the coordinator before ran on a machine that was ahead. Nothing else rests on this time,
//! so it goes on from the latest moment that the state knows.

use chrono::{DateTime, Utc};
use slatedb_common::clock::{DefaultSystemClock, SystemClock, SystemClockTicker};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Milliseconds of difference that clocks of machines have anyway.
const USUAL_MS: i64 = 2_000;

/// The system's clock, put forward as far as needed.
#[derive(Debug, Default)]
pub(super) struct StateClock {
    system: DefaultSystemClock,
    ahead_ms: AtomicI64,
}

impl StateClock {
    /// A clock that is ahead of the system's.
    pub(super) fn ahead(ahead_ms: i64) -> Arc<Self> {
        let clock = Self::default();
        clock.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        Arc::new(clock)
    }

    /// Puts the clock forward to a moment that has passed already, Unix milliseconds.
    pub(super) fn reach(&self, moment_ms: i64) {
        let behind_ms = moment_ms - self.now().timestamp_millis();
        if behind_ms <= 0 {
            return;
        }
        self.ahead_ms.fetch_add(behind_ms, Ordering::Relaxed);
        if behind_ms > USUAL_MS {
            tracing::info!(
                seconds = behind_ms / 1000,
                "this machine's clock is behind what is in the store: the state's own goes on"
            );
        }
    }
}

impl SystemClock for StateClock {
    fn now(&self) -> DateTime<Utc> {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        self.system.now() + Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.system.sleep(duration)
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}

/// When a file of the state was named, where that is in its name (a ULID: the first ten characters count milliseconds).
pub(super) fn named_at(key: &str) -> Option<i64> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let name = key.rsplit('/').next()?.split('.').next().filter(|name| name.len() == 26)?;
    name.get(..10)?.chars().try_fold(0_i64, |sum, char| Some(sum * 32 + i64::try_from(DIGITS.find(char)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let (clock, start) = (StateClock::default(), StateClock::default().now().timestamp_millis());
        clock.reach(start - 5_000);
        assert!(clock.now().timestamp_millis() - start < 1_000, "a moment of the past changes nothing");
        clock.reach(start + 60_000);
        assert!(clock.now().timestamp_millis() >= start + 60_000);
        clock.reach(start + 30_000);
        assert!(clock.now().timestamp_millis() >= start + 60_000);
    }

    #[test]
    fn names_say_when_they_were_given() {
        assert_eq!(named_at("state/compacted/01ARZ3NDEKTSV4RRFFQ69G5FAV.sst"), Some(1_469_922_850_259));
        assert_eq!(named_at("state/wal/00000000000000000071.sst"), None);
        assert_eq!(named_at("format.json"), None);
    }
}
