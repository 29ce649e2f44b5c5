//! The way from a service to the driver, closed while this coordinator stands by.

use crate::config::Config;
use crate::drive::Handle;
use bloctrain_proto::status::{Kind, status};
use bloctrain_store::Artefacts;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tonic::Status;

/// An active coordinator, as its services see it.
pub(crate) struct Active {
    pub(crate) handle: Handle,
    pub(crate) artefacts: Artefacts,
    pub(crate) config: Config,
    /// Address of the store, for workers and submitters.
    pub(crate) store: String,
}

/// Opens once, when the coordinator becomes active. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    active: OnceLock<Active>,
    /// Whether the coordinator waits for its turn, and the store answered when it last looked.
    stands_by: AtomicBool,
    /// Whether the store names this coordinator as the active one.
    leads: AtomicBool,
}

impl Gate {
    /// Lets calls through from now on.
    pub(crate) fn open(&self, active: Active) {
        // It can be open already only if a coordinator became active twice, which it does not.
        let _ = self.0.active.set(active);
    }

    /// Notes whether the store names this coordinator as the active one: from its first address there until it stops.
    pub(crate) fn set_leads(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::Relaxed);
        self.set_stands_by(false);
    }

    /// Whether the store names this coordinator as the active one.
    pub(crate) fn leads(&self) -> bool {
        self.0.leads.load(Ordering::Relaxed)
    }

    /// Notes whether the coordinator stands by in order.
    pub(crate) fn set_stands_by(&self, stands_by: bool) {
        self.0.stands_by.store(stands_by, Ordering::Relaxed);
    }

    /// Whether the coordinator stands by in order.
    pub(crate) fn stands_by(&self) -> bool {
        self.0.stands_by.load(Ordering::Relaxed)
    }

    pub(crate) fn active(&self) -> Result<&Active, Status> {
        self.0
            .active
            .get()
            .ok_or_else(|| status(Kind::Unavailable, "this coordinator stands by; another one is active"))
    }
}
