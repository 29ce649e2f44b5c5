//! Whom a call comes from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::codegen::http::Extensions;
use tonic::transport::server::TlsConnectInfo;

/// Whom a call comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether its connection is one too many.
    pub(crate) is_surplus: bool,
    /// Whether a call of its connection was let in.
    pub(super) is_let_in: Arc<AtomicBool>,
}

impl Peer {
    /// The peer of a call over TCP, with or without TLS.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let tls = || extensions.get::<TlsConnectInfo<Self>>().map(|info| info.get_ref());
        extensions.get::<Self>().or_else(tls).cloned()
    }

    /// Notes that a call was let in: its connection may stay.
    pub(crate) fn let_in(&self) {
        self.is_let_in.store(true, Ordering::Relaxed);
    }
}
