//! Keeps `models/RUN/history.jsonl` and `.csv` current while a run goes on, beside the loop.
//!
//! What is written follows from durable records. A coordinator that was replaced must not take back what the next one
//! wrote, so a file is written over only on condition of the content that was read, and unless that is this
//! coordinator's own, only after it made sure that nobody has replaced it *since it read*: then the content is that of
//! a coordinator before it.

use crate::durable::StateError;
use bloctrain_shared::history::{self, HistoryLine};
use bloctrain_shared::{Digest, key};
use bloctrain_store::{Artefacts, Created, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Attempts at one file; each fails only where somebody else wrote it in between, or where it was damaged on its way.
const ATTEMPTS: u32 = 20;

/// Pause before what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What a run's history became: its lines, or nothing because the run was deleted.
pub(super) type Told = (String, Option<Vec<HistoryLine>>);

/// Asks the loop whether this is still the coordinator; it answers after a write that a replaced one could not make.
pub(super) type Asked = oneshot::Sender<()>;

/// Writes the histories.
pub(super) struct Keeper {
    artefacts: Artefacts,
    told: mpsc::UnboundedReceiver<Told>,
    asks: mpsc::UnboundedSender<Asked>,
    /// What this coordinator wrote last, by key.
    own: BTreeMap<String, Digest>,
}

/// Why a history was not written.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Replaced(#[from] StateError),
    #[error("{0} changes again and again")]
    Unsteady(String),
}

impl Keeper {
    pub(super) fn new(
        artefacts: Artefacts,
        told: mpsc::UnboundedReceiver<Told>,
        asks: mpsc::UnboundedSender<Asked>,
    ) -> Self {
        Self { artefacts, told, asks, own: BTreeMap::new() }
    }

    /// Writes until nobody tells it anything any more.
    pub(super) async fn run(mut self) {
        let mut failed = BTreeMap::new();
        loop {
            let told = self.told.recv();
            let next = if failed.is_empty() { Ok(told.await) } else { timeout(AGAIN, told).await };
            let mut latest = std::mem::take(&mut failed);
            match next {
                // What could not be written, the next coordinator writes.
                Ok(None) => return,
                Ok(Some((run, lines))) => drop(latest.insert(run, lines)),
                Err(_) => {}
            }
            // Of what came meanwhile the last counts.
            while let Ok((run, lines)) = self.told.try_recv() {
                latest.insert(run, lines);
            }
            for (run, lines) in latest {
                match Box::pin(self.keep(&run, lines.as_deref())).await {
                    // Whoever took over writes it.
                    Ok(()) | Err(KeepError::Replaced(_)) => {}
                    Err(error) => {
                        tracing::warn!(
                            run, %error,
                            "the history of a run could not be written; it is kept in the state and written later"
                        );
                        failed.insert(run, lines);
                    }
                }
            }
        }
    }

    async fn keep(&mut self, run: &str, lines: Option<&[HistoryLine]>) -> Result<(), KeepError> {
        let files = [key::HISTORY, key::HISTORY_TABLE].map(|file| key::model(run, file));
        let Some(lines) = lines else {
            for file in files {
                self.own.remove(&file);
                self.artefacts.delete(&file).await?;
            }
            return Ok(());
        };
        for (file, text) in files.into_iter().zip([history::to_jsonl(lines), history::to_csv(lines)]) {
            self.write(file, Bytes::from(text)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, file: String, content: Bytes) -> Result<(), KeepError> {
        let digest = Digest::of(&content);
        for _ in 0..ATTEMPTS {
            let found = match self.artefacts.get_unverified(&file).await {
                Ok(found) => Some(found),
                Err(StoreError::Missing { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let is_written = match found {
                Some(found) if found == content => true,
                Some(found) => {
                    if self.own.get(&file) != Some(&Digest::of(&found)) {
                        self.confirm().await?;
                    }
                    match self.artefacts.replace(&file, &found, content.clone()).await {
                        // It was removed meanwhile.
                        Err(StoreError::Missing { .. }) => false,
                        replaced => replaced?,
                    }
                }
                None => self.artefacts.create(&file, content.clone()).await? != Created::Different,
            };
            if is_written {
                self.own.insert(file, digest);
                return Ok(());
            }
        }
        Err(KeepError::Unsteady(file))
    }

    /// Makes sure that nobody has replaced this coordinator.
    async fn confirm(&self) -> Result<(), StateError> {
        let (ask, answer) = oneshot::channel();
        // A loop that has ended answers nobody.
        let asked = self.asks.send(ask).is_ok();
        if asked && answer.await.is_ok() { Ok(()) } else { Err(StateError::Fenced) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "models/r/history.jsonl";

    fn line(epoch: u32) -> HistoryLine {
        let text = format!(
            r#"{{"block":1,"stage":"train","epoch":{epoch},"round":{epoch},"samples":1,"loss":1.0,"accuracy":0.5,"learning_rate":0.1,"images_per_second":1.0,"seconds":1.0}}"#
        );
        serde_json::from_str(&text).expect("a line")
    }

    async fn read(store: &Artefacts) -> String {
        match store.get_unverified(FILE).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// A keeper on a store, what tells it, and what it asks.
    fn keeper(store: &Artefacts) -> (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Asked>, Keeper) {
        let ((told, telling), (asks, asked)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        (told, asked, Keeper::new(store.clone(), telling, asks))
    }

    #[tokio::test]
    async fn the_last_word_is_written_and_what_is_its_own_is_written_over_without_asking() {
        let store = Artefacts::open("memory://").expect("opens");
        let (told, mut asked, keeper) = keeper(&store);
        let keeping = tokio::spawn(keeper.run());
        for epochs in 1..4 {
            let lines: Vec<HistoryLine> = (1..=epochs).map(line).collect();
            told.send(("r".into(), Some(lines.clone()))).expect("it listens");
            let expected = history::to_jsonl(&lines);
            while read(&store).await != expected {
                tokio::task::yield_now().await;
            }
        }
        assert!(asked.try_recv().is_err(), "nobody else wrote");
        told.send(("r".into(), None)).expect("it listens");
        drop(told);
        keeping.await.expect("it ends with its loop");
        assert_eq!(store.list("models").await.expect("lists"), [], "a run that was deleted has none");
    }

    #[tokio::test]
    async fn a_coordinator_that_was_replaced_takes_nothing_back() {
        let store = Artefacts::open("memory://").expect("opens");
        let newer = history::to_jsonl(&[line(1), line(2)]);
        store.put(FILE, Bytes::from(newer.clone())).await.expect("written");
        let (told, mut asked, keeper) = keeper(&store);
        told.send(("r".into(), Some(vec![line(1)]))).expect("it listens");
        drop(told);
        let answering = async {
            let mut asks = 0;
            while let Some(ask) = asked.recv().await {
                asks += 1;
                drop(ask);
            }
            asks
        };
        let ((), asks) = tokio::join!(keeper.run(), answering);
        assert_eq!((read(&store).await, asks), (newer, 1));
    }

    #[tokio::test]
    async fn what_changes_between_the_question_and_the_write_stays() {
        let store = Artefacts::open("memory://").expect("opens");
        let newest = history::to_jsonl(&[line(1), line(2), line(3)]);
        store.put(FILE, Bytes::from(history::to_jsonl(&[line(1)]))).await.expect("written");
        let (told, mut asked, keeper) = keeper(&store);
        told.send(("r".into(), Some(vec![line(1), line(2)]))).expect("it listens");
        drop(told);
        let answering = async {
            let first = asked.recv().await.expect("an older one's content is there");
            // The answer is yes, and before it is heard somebody takes over and writes.
            store.put(FILE, Bytes::from(newest.clone())).await.expect("written");
            first.send(()).expect("it waits");
            drop(asked.recv().await.expect("it asks again"));
        };
        tokio::join!(keeper.run(), answering);
        assert_eq!(read(&store).await, newest);
    }

    #[tokio::test]
    async fn what_an_earlier_coordinator_left_is_written_over() {
        let store = Artefacts::open("memory://").expect("opens");
        // Longer than what is durable: the last round was lost and is trained again.
        store.put(FILE, Bytes::from(history::to_jsonl(&[line(1), line(2)]))).await.expect("written");
        let (told, mut asked, keeper) = keeper(&store);
        told.send(("r".into(), Some(vec![line(1)]))).expect("it listens");
        drop(told);
        let answering = async {
            while let Some(ask) = asked.recv().await {
                ask.send(()).expect("it waits");
            }
        };
        tokio::join!(keeper.run(), answering);
        assert_eq!(read(&store).await, history::to_jsonl(&[line(1)]));
        assert_eq!(store.list("models").await.expect("lists").len(), 2, "the table too");
    }
}
