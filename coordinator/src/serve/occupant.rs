//! Whether a coordinator is at work on a store, for whoever would otherwise take it from it.

use super::fleet::{BEAT, SILENCE};
use bloctrain_store::leader::{self, Leader};
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use tokio::time::{MissedTickBehavior, interval};

/// What a coordinator published that has not stopped in order; it may have been killed.
///
/// # Errors
/// When the store does not answer.
pub async fn published(artefacts: &Artefacts) -> Result<Option<Leader>, StoreError> {
    match leader::read(artefacts).await {
        Ok(found) => Ok(found.filter(|leader| !leader.released)),
        // Nobody counts in what cannot be read.
        Err(error) if error.kind() == ErrorKind::InputLost => Ok(None),
        Err(error) => Err(error),
    }
}

/// The coordinator that is at work on a store: it counts. Where one was killed this takes some seconds.
///
/// # Errors
/// As [`published`].
pub async fn occupant(artefacts: &Artefacts) -> Result<Option<Leader>, StoreError> {
    let Some(first) = published(artefacts).await? else { return Ok(None) };
    let mut look = interval(BEAT);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..=SILENCE + 1 {
        look.tick().await;
        match published(artefacts).await? {
            Some(now) if (now.opening, now.beat) == (first.opening, first.beat) => {}
            moved => return Ok(moved),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_counts_is_at_work_and_who_does_not_is_gone() {
        let store = Artefacts::open("memory://").expect("opens");
        assert_eq!(occupant(&store).await, Ok(None), "nobody ever was");
        let leader = |beat, released| Leader { opening: 3, addresses: Vec::new(), beat, released, state: "s".into() };
        leader::publish(&store, &leader(1, false)).await.expect("published");
        assert_eq!(occupant(&store).await, Ok(None), "it was killed");
        let count = async {
            let mut beat = interval(BEAT);
            for number in 2..6 {
                beat.tick().await;
                leader::publish(&store, &leader(number, false)).await.expect("published");
            }
        };
        let (found, ()) = tokio::join!(occupant(&store), count);
        assert!(found.expect("answers").is_some_and(|leader| leader.opening == 3), "it counts");
        leader::publish(&store, &leader(9, true)).await.expect("published");
        assert_eq!(occupant(&store).await, Ok(None), "it stopped in order");
    }
}
