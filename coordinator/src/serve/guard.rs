//! Who is let in: every service has one of these in front of it.

use super::access::Role;
use super::peer::Peer;
use super::secret::Secrets;
use crate::drive::counters::Counters;
use bloctrain_proto::status::{Kind, status};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::codegen::http::Extensions;
use tonic::service::Interceptor;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};

/// The peer of a call, unless its connection is one too many.
fn refuse_surplus(extensions: &Extensions) -> Result<Option<Peer>, Status> {
    let peer = Peer::of(extensions);
    if peer.as_ref().is_some_and(Peer::is_surplus) {
        let why = "this coordinator has as many connections as it takes (--max-connections); try again on a new one";
        return Err(status(Kind::Exhausted, why));
    }
    Ok(peer)
}

/// Lets every call through that comes on a connection within the limit: for what tells counts only. The connection
/// itself may stay where the caller showed a certificate; one of a stranger is closed like any from which no call was
/// let in.
#[derive(Clone, Copy)]
pub(crate) struct OpenDoor;

impl Interceptor for OpenDoor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let shown = request.extensions().get::<TlsConnectInfo<Peer>>().and_then(TlsConnectInfo::peer_certs);
        if let Some(peer) = refuse_surplus(request.extensions())?.filter(|_| shown.is_some()) {
            // It is not a worker, for whom there might be no place.
            peer.let_in(false);
        }
        Ok(request)
    }
}

/// Lets calls with the right token through.
#[derive(Clone)]
pub(crate) struct Guard {
    secrets: watch::Receiver<Secrets>,
    counters: Arc<Counters>,
    workers: bool,
}

impl Guard {
    /// For the worker service.
    pub(crate) fn workers(secrets: watch::Receiver<Secrets>, counters: Arc<Counters>) -> Self {
        Self { secrets, counters, workers: true }
    }

    /// For everything else.
    pub(crate) fn people(secrets: watch::Receiver<Secrets>, counters: Arc<Counters>) -> Self {
        Self { secrets, counters, workers: false }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = refuse_surplus(request.extensions())?;
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let role = {
            let access = &self.secrets.borrow().access;
            if self.workers { access.may_join(token).then_some(Role::Viewer) } else { access.role(token) }
        };
        let Some(role) = role else {
            Counters::count(&self.counters.calls_unauthorised);
            let given =
                if token.is_some() { "the token is not one of this coordinator's" } else { "a token is needed" };
            let kind =
                if self.workers { "join token (BLOCTRAIN_JOIN_TOKEN)" } else { "access token (BLOCTRAIN_TOKEN)" };
            return Err(status(Kind::Unauthenticated, format!("{given}: give a {kind}")));
        };
        if peer.is_some_and(|peer| !peer.let_in(self.workers)) {
            let why = "this coordinator has as many connections of workers as it takes (--max-connections), and keeps \
            the last ones for operators";
            return Err(status(Kind::Exhausted, why));
        }
        request.extensions_mut().insert(role);
        Ok(request)
    }
}
