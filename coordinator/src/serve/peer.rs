//! Whom a call comes from.

use super::place::Place;
use std::net::SocketAddr;
use tonic::codegen::http::Extensions;
use tonic::transport::server::TlsConnectInfo;

/// Whom a call comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The place of its connection; none where that is one too many.
    pub(super) place: Option<Place>,
}

impl Peer {
    /// The peer of a call over TCP, with or without TLS.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let tls = || extensions.get::<TlsConnectInfo<Self>>().map(|info| info.get_ref());
        extensions.get::<Self>().or_else(tls).cloned()
    }

    /// Whether its connection is one too many.
    pub(crate) fn is_surplus(&self) -> bool {
        self.place.is_none()
    }

    /// Notes that a call was let in: its connection may stay. False where no place is left for workers.
    pub(crate) fn let_in(&self, is_worker: bool) -> bool {
        self.place.as_ref().is_none_or(|place| place.let_in(is_worker))
    }
}
