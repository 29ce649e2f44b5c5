//! The way from a service to the driver, closed while this coordinator stands by.

use crate::config::Config;
use crate::drive::Handle;
use bloctrain_proto::status::{Kind, status};
use bloctrain_store::Artefacts;
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
pub struct Gate(Arc<OnceLock<Active>>);

impl Gate {
    /// Lets calls through from now on.
    pub(crate) fn open(&self, active: Active) {
        // It can be open already only if a coordinator became active twice, which it does not.
        let _ = self.0.set(active);
    }

    pub(crate) fn active(&self) -> Result<&Active, Status> {
        self.0.get().ok_or_else(|| status(Kind::Unavailable, "this coordinator stands by; another one is active"))
    }
}
