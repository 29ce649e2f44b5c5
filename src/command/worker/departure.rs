//! How a worker goes: at a signal, or when its cloud takes the machine away.

use crate::failure::Failure;
use bloctrain_operations::notice::{Cloud, Metadata};
use bloctrain_worker::session::client::Leaving;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Longest time that a worker waits for a machine to be taken away, after it was told so and has handed back its task.
/// It does not end before: it would be started again, on the same machine, and take another task.
const TAKEN_AWAY: Duration = Duration::from_secs(300);

/// Whether and why a worker goes. Clones share it.
#[derive(Clone)]
pub(super) struct Departure {
    leaving: watch::Receiver<Leaving>,
    /// The cloud that takes the machine away.
    cloud: Arc<OnceLock<Cloud>>,
    signalled: watch::Receiver<bool>,
}

/// SIGINT and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

/// The cloud that says that the machine goes; never without one to ask.
async fn noticed(metadata: Option<Metadata>) -> Cloud {
    match metadata {
        Some(metadata) => {
            metadata.notice().await;
            metadata.cloud()
        }
        None => std::future::pending().await,
    }
}

impl Departure {
    /// Listens for signals and the cloud's notice. The first of them asks to leave soon; a signal after it, or the end
    /// of the grace period, at once.
    pub(super) fn await_signals(
        grace: Duration,
        metadata: Option<Metadata>,
    ) -> Result<(Self, watch::Receiver<Leaving>), Failure> {
        let mut signals = Signals(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (leave, leaving) = watch::channel(Leaving::No);
        let (signal, signalled) = watch::channel(false);
        let own = Self { leaving: leaving.clone(), cloud: Arc::default(), signalled };
        let cloud = Arc::clone(&own.cloud);
        tokio::spawn(async move {
            let grace_seconds = grace.as_secs_f64();
            tokio::select! {
                () = signals.next() => {
                    signal.send_replace(true);
                    tracing::info!(grace = grace_seconds, "asked to leave: the task comes to an end first");
                }
                by = noticed(metadata) => {
                    // It is set here only.
                    let _ = cloud.set(by);
                    tracing::warn!(cloud = by.name(), grace = grace_seconds, "this machine will be taken away: \
                    leaving");
                }
            }
            leave.send_replace(Leaving::Soon);
            let mut over = tokio::time::interval(grace.max(Duration::from_millis(1)));
            over.tick().await;
            tokio::select! {
                _ = over.tick() => {}
                () = signals.next() => { signal.send_replace(true); }
            }
            leave.send_replace(Leaving::Now);
            signals.next().await;
            signal.send_replace(true);
            // The session ends by itself; this keeps the channel open until then.
            std::future::pending::<()>().await;
        });
        Ok((own, leaving))
    }

    /// Whether the worker was asked to leave.
    pub(super) fn is_asked(&self) -> bool {
        *self.leaving.borrow() != Leaving::No
    }

    /// The cloud that takes the machine away.
    pub(super) fn cloud(&self) -> Option<Cloud> {
        self.cloud.get().copied()
    }

    /// Waits for the signal that ends this process, where the cloud takes the machine away.
    pub(super) async fn await_end_of_machine(mut self) {
        if self.cloud().is_some() {
            tracing::info!("left; waiting for the machine to be taken away");
            // When nobody can signal any more, there is nothing to wait for.
            let _ = tokio::time::timeout(TAKEN_AWAY, self.signalled.wait_for(|signalled| *signalled)).await;
        }
    }
}
