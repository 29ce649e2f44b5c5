//! Work that is done ahead of whoever needs it, on a thread of its own.
//!
//! Items come in the order in which they are made, so nothing depends on timing. At most two are there and not yet
//! asked for: one that waits, and one that is finished and cannot be handed over. Whoever takes them says for how long
//! it had to wait.

use super::Stopwatch;
use std::sync::mpsc::{Receiver, sync_channel};

/// Items that wait to be taken.
const WAITING: usize = 1;

/// Items made ahead, in order.
pub(super) struct Ahead<'a, T> {
    inbox: Receiver<T>,
    stopwatch: &'a Stopwatch,
    waited: f64,
}

impl<T> Ahead<'_, T> {
    /// Seconds spent on waiting so far.
    pub(super) fn waited(&self) -> f64 {
        self.waited
    }
}

impl<T> Iterator for Ahead<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let begun = (self.stopwatch)();
        let item = self.inbox.recv().ok();
        self.waited += (self.stopwatch)() - begun;
        item
    }
}

/// Makes `items` on another thread while `consume` takes them. The thread ends when all are made, or soon after
/// `consume` has returned. Its panic becomes the caller's.
///
/// # Errors
/// When the system cannot make a thread.
pub(super) fn ahead<T: Send, R>(
    items: impl Iterator<Item = T> + Send,
    stopwatch: &Stopwatch,
    consume: impl FnOnce(&mut Ahead<'_, T>) -> R,
) -> std::io::Result<R> {
    std::thread::scope(|scope| {
        let (outbox, inbox) = sync_channel(WAITING);
        let make = move || items.into_iter().all(|item| outbox.send(item).is_ok());
        let producer = std::thread::Builder::new().name("input".into()).spawn_scoped(scope, make)?;
        let mut ahead = Ahead { inbox, stopwatch, waited: 0.0 };
        let result = consume(&mut ahead);
        drop(ahead);
        match producer.join() {
            Ok(_) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn still() -> Stopwatch {
        Arc::new(|| 0.0)
    }

    #[test]
    fn items_come_in_order() {
        let taken = ahead(0..100, &still(), |ahead| ahead.collect::<Vec<i32>>()).expect("a thread");
        assert_eq!(taken, (0..100).collect::<Vec<i32>>());
    }

    #[test]
    fn no_more_than_two_are_made_ahead_and_an_early_end_stops_the_rest() {
        let made = AtomicU64::new(0);
        let items = (0..1_000_000).inspect(|_| {
            made.fetch_add(1, Ordering::Relaxed);
        });
        let taken = ahead(items, &still(), |ahead| ahead.take(10).count()).expect("a thread");
        assert_eq!(taken, 10);
        assert!((10..=12).contains(&made.load(Ordering::Relaxed)), "{made:?} were made for 10");
    }

    #[test]
    fn a_panic_keeps_its_words() {
        let items = (0..3).map(|item| if item == 2 { panic!("no item 2") } else { item });
        let caught = std::panic::catch_unwind(|| ahead(items, &still(), |ahead| ahead.count()));
        let panic = caught.expect_err("it panicked");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no item 2"));
    }

    #[test]
    fn waiting_is_what_the_stopwatch_says() {
        let ticks = AtomicU64::new(0);
        let stopwatch: Stopwatch = Arc::new(move || ticks.fetch_add(1, Ordering::Relaxed) as f64);
        let waited = ahead(0..3, &stopwatch, |ahead| {
            ahead.by_ref().for_each(drop);
            ahead.waited()
        });
        assert_eq!(waited.expect("a thread"), 4.0, "one tick for each of three items, and for their end");
    }
}
