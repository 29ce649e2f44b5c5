//! What a coordinator stands on: store, clock, log, rules, tasks. One place to put other ground under it, as the
//! simulation does.

use crate::durable::{Log, StateError};
use crate::run::durable::Durable;
use crate::schedule::{Effect, Event, Rejected, State};
use bloctrain_store::Artefacts;
use bloctrain_tracking::otlp::Sink;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The time in Unix milliseconds, given by whoever builds the coordinator. Leases are measured by it, so it follows a
/// clock that is never set: it may come to differ from what the system's clock says.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Opens the log, fences every earlier writer, and replays.
pub type OpenLog = Arc<dyn Fn(Artefacts) -> BoxFuture<'static, Result<(Log, Durable), StateError>> + Send + Sync>;

/// Applies an event at a time in milliseconds: [`State::apply`], or something around it that watches.
pub type Rules = Box<dyn FnMut(&mut State, u64, Event) -> Result<Vec<Effect>, Rejected> + Send>;

/// Begins a task of the coordinator's process.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) -> JoinHandle<()> + Send + Sync>;

/// What a coordinator stands on. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// The store.
    pub artefacts: Artefacts,
    /// The clock.
    pub clock: Clock,
    /// The way to the log.
    pub log: OpenLog,
    /// Gives the rules of one opening.
    pub rules: Arc<dyn Fn() -> Rules + Send + Sync>,
    /// Begins tasks.
    pub spawn: Spawn,
    /// Takes spans of what is done, where somebody wants them.
    pub traces: Option<Sink>,
}

impl Environment {
    /// The log in SlateDB on a store, the rules as they are, tasks on the current runtime.
    pub fn new(artefacts: Artefacts, clock: Clock) -> Self {
        Self {
            artefacts,
            clock,
            log: Arc::new(|artefacts| Box::pin(async move { Box::pin(Log::open(&artefacts)).await })),
            rules: Arc::new(|| Box::new(State::apply)),
            spawn: Arc::new(|task| tokio::spawn(task)),
            traces: None,
        }
    }

    /// Gives spans of what is done to a sink.
    pub fn traced(self, traces: Option<Sink>) -> Self {
        Self { traces, ..self }
    }
}
