//! Who serves where, and which links are cut.

use crate::process::Process;
use bloctrain_coordinator::{RunRpc, WorkerRpc};
use bloctrain_proto::v1::CompleteRequest;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// A coordinator's process as it can be called.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) workers: Arc<WorkerRpc>,
    pub(crate) runs: Arc<RunRpc>,
}

/// Whoever wrote an address of its own into the store.
pub(crate) const THIEF: &str = "thief";

/// Who serves where, and who cannot reach whom.
#[derive(Default)]
pub(crate) struct SimNetwork {
    servers: BTreeMap<String, Server>,
    cuts: Vec<(String, String, Instant)>,
    reports: Vec<CompleteRequest>,
}

impl SimNetwork {
    pub(crate) fn bind(&mut self, name: &str, server: Server) {
        self.servers.insert(name.to_owned(), server);
    }

    pub(crate) fn unbind(&mut self, name: &str) {
        self.servers.remove(name);
    }

    /// Loses everything that goes from one to the other until a time.
    pub(crate) fn cut(&mut self, from: &str, to: &str, until: Instant) {
        self.cuts.push((from.to_owned(), to.to_owned(), until));
    }

    pub(crate) fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Keeps a copy of a report that is sent, for [`crate::transport::replay`].
    pub(crate) fn keep(&mut self, report: CompleteRequest) {
        self.reports.push(report);
    }

    /// All reports that were kept, and the names of all coordinators that run.
    pub(crate) fn kept(&self) -> (Vec<CompleteRequest>, Vec<String>) {
        (self.reports.clone(), self.servers.keys().cloned().collect())
    }

    pub(crate) fn server(&self, name: &str) -> Option<Server> {
        self.servers.get(name).cloned()
    }

    pub(crate) fn carries(&self, from: &str, to: &str) -> bool {
        let now = Instant::now();
        !self.cuts.iter().any(|(a, b, until)| a == from && b == to && now < *until)
    }
}

/// Name of the process at an address.
pub(crate) fn name_of(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, name)| name)
}
