//! One process at a time: who works on a store by itself, as `train` does, and orders to runs where no coordinator is
//! at work.

use super::clock;
use super::connect::{Begun, Runs};
use crate::args::{ConnectArgs, DEFAULT_STORE};
use crate::failure::Failure;
use bloctrain_coordinator::occupant::{occupant, published};
use bloctrain_coordinator::{App, Config};
use bloctrain_store::Artefacts;
use bloctrain_store::leader::Leader;
use bloctrain_store::process::{Occupant, Seat};
use std::time::Duration;

/// Pause between two tries to get the lock of a process that is about to end.
const AGAIN: Duration = Duration::from_millis(200);

/// The store is this process's as long as this lives.
pub(super) struct Occupation {
    _seat: Option<Seat>,
}

/// Takes a store for this process. Where another one is at work on it this is refused, unless it is to be taken over:
/// the state then fences the other one, which ends.
pub(super) async fn take(artefacts: &Artefacts, command: &str, take_over: bool) -> Result<Occupation, Failure> {
    let seat = match artefacts.occupy(command)? {
        Ok(seat) => Some(seat),
        Err(_) if take_over => {
            tokio::spawn(follow(artefacts.clone(), command.to_owned()));
            None
        }
        Err(other) => return Err(Failure::Failed(anyhow::anyhow!(lives(artefacts.location(), &other)))),
    };
    if !take_over {
        if published(artefacts).await?.is_some() {
            say!(
                "a coordinator was at work on {} last; looking for some seconds whether it still is",
                artefacts.location()
            );
        }
        if let Some(leader) = occupant(artefacts).await? {
            return Err(Failure::Failed(anyhow::anyhow!(leads(artefacts.location(), &leader))));
        }
    }
    Ok(Occupation { _seat: seat })
}

/// Takes the lock once the process before has ended, and keeps it.
async fn follow(artefacts: Artefacts, command: String) {
    let mut again = tokio::time::interval(AGAIN);
    loop {
        again.tick().await;
        if let Ok(Ok(_seat)) = artefacts.occupy(&command) {
            std::future::pending::<()>().await;
        }
    }
}

fn lives(store: &str, other: &Occupant) -> String {
    let Occupant { process, command } = other;
    format!(
        "`bloctrain {command}` is at work on {store} (process {process}); wait until it ends, or end it; --take-over \
        of `train` takes the store from it, --store names another one"
    )
}

fn leads(store: &str, leader: &Leader) -> String {
    if leader.addresses.is_empty() {
        return format!(
            "another bloctrain process is at work on {store}; wait until it ends, or end it; --take-over of `train` \
            takes the store from it, --store names another one"
        );
    }
    let addresses = leader.addresses.join(", ");
    format!(
        "the coordinator at {addresses} is at work on {store}; give the run to it with `bloctrain submit --store \
        {store}`; --take-over of `train` puts this process in its place, --store names another one"
    )
}

/// The way to the runs of a command line: the coordinator that is named or at work on the store, or one in this
/// process.
pub(super) struct Reach {
    pub(super) runs: Runs,
    here: Option<(App, Occupation)>,
}

impl Reach {
    /// Finds the way for an order.
    pub(super) async fn new(args: &ConnectArgs, command: &str) -> Result<Self, Failure> {
        if !args.coordinator.is_empty() {
            return Ok(Self { runs: Runs::new(args, Begun::Already)?, here: None });
        }
        let store = args.store.as_deref().unwrap_or(DEFAULT_STORE);
        let artefacts = Artefacts::look(store)?;
        artefacts.look_format().await?;
        if occupant(&artefacts).await?.is_some_and(|leader| !leader.addresses.is_empty()) {
            let args = ConnectArgs { store: Some(store.to_owned()), ..args.clone() };
            return Ok(Self { runs: Runs::new(&args, Begun::Already)?, here: None });
        }
        let occupation = take(&artefacts, command, false).await?;
        let app = Box::pin(App::open(Config::in_process(), Artefacts::open(store)?, clock())).await?;
        Ok(Self { runs: Runs::here(app.channel()), here: Some((app, occupation)) })
    }

    /// Whether no coordinator is at work, so that an order waits for one, or for `train`.
    pub(super) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Ends what was begun for the order.
    pub(super) async fn close(self) {
        drop(self.runs);
        if let Some((app, _occupation)) = self.here {
            app.close().await;
        }
    }
}
