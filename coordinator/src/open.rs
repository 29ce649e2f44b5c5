//! Opening what is in a store, or reading it.

use crate::durable::{self, StateError};
use crate::run::durable::Run;
use crate::schedule::{Overview, State};
use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::view::RunView;
use bloctrain_store::{Artefacts, StoreError};

/// A coordinator that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state in it cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Runs in a store, without disturbing a coordinator that may be at work on it. Writes nothing.
///
/// # Errors
/// When the store cannot be read, is none, or is of a newer version.
pub async fn read_runs(artefacts: &Artefacts) -> Result<Vec<RunView>, OpenError> {
    artefacts.look_format().await?;
    Ok(Box::pin(durable::read(artefacts)).await?.views())
}

/// The course of a run's training, likewise; `None` where the store has no such run.
///
/// # Errors
/// As [`read_runs`].
pub async fn read_history(artefacts: &Artefacts, run: &str) -> Result<Option<Vec<HistoryLine>>, OpenError> {
    artefacts.look_format().await?;
    Ok(Box::pin(durable::read(artefacts)).await?.runs.get(run).map(Run::history))
}

/// How the fleet of a store stands, as far as the store says: without workers, and with all open tasks waiting.
///
/// # Errors
/// When the store cannot be used or is of a newer version.
pub(crate) async fn read_overview(artefacts: &Artefacts) -> Result<Overview, OpenError> {
    artefacts.check_format().await?;
    Ok(State::new(Box::pin(durable::read(artefacts)).await?, 0).overview())
}
