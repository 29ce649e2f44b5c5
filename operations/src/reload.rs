//! Files with secrets that are read again when they change.
//!
//! They are looked at again and again, since what Kubernetes mounts changes by a link far up in the path, which file
//! notifications miss.

use crate::metric::{self, Sample, float};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Pause between two looks.
pub const LOOK: Duration = Duration::from_secs(5);

/// How often changed secrets were taken or refused.
#[derive(Debug, Default)]
pub struct Reloads {
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Reloads {
    /// As samples.
    pub fn samples(&self) -> [Sample; 2] {
        let read = |counter: &AtomicU64| float(counter.load(Ordering::Relaxed));
        [metric::RELOADS.with(&["taken"], read(&self.taken)), metric::RELOADS.with(&["refused"], read(&self.refused))]
    }
}

/// Reads, and gives on what differs from what was given on last, until it is dropped. What cannot be read or is not
/// taken changes nothing, is said once, and is tried again: two files that belong together may be replaced one after
/// the other.
pub async fn follow<T: PartialEq, R: Display, E: Display>(
    every: Duration,
    mut last: T,
    read: impl Fn() -> Result<T, R>,
    mut take: impl FnMut(&T) -> Result<(), E>,
    reloads: &Reloads,
) {
    let mut look = interval(every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        look.tick().await;
        let taken = match read() {
            Ok(now) if now == last => continue,
            Ok(now) => take(&now).map(|()| now).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(now) => {
                last = now;
                said.clear();
                reloads.taken.fetch_add(1, Ordering::Relaxed);
                tracing::info!("tokens and certificates changed and are used from now on");
            }
            Err(error) if error == said => {}
            Err(error) => {
                reloads.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error, "changed tokens or certificates cannot be used; those from before go on");
                said = error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_once_and_what_is_refused_is_tried_again() {
        let (content, taken, reloads) = (Mutex::new("a".to_owned()), Mutex::new(Vec::new()), Reloads::default());
        let read = || Ok::<_, String>(content.lock().expect("one thread").clone());
        let take = |now: &String| match now.as_str() {
            "bad" => Err("it is bad"),
            _ => {
                taken.lock().expect("one thread").push(now.clone());
                Ok(())
            }
        };
        let change = async {
            for next in ["a", "b", "bad", "c"] {
                *content.lock().expect("one thread") = next.to_owned();
                let mut pause = interval(LOOK * 3);
                pause.tick().await;
                pause.tick().await;
            }
        };
        tokio::select! {
            () = follow(LOOK, "a".to_owned(), read, take, &reloads) => {}
            () = change => {}
        }
        assert_eq!(*taken.lock().expect("one thread"), ["b", "c"]);
        let values: Vec<f64> = reloads.samples().iter().map(|sample| sample.value).collect();
        assert_eq!(values, [2.0, 1.0], "taken, refused");
    }
}
