//! TLS around connections. Done here and not by tonic, so that certificates may change while the coordinator serves.

use super::secret::Secrets;
use super::tls::TlsError;
use futures::stream::unfold;
use futures::{Stream, StreamExt};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// Longest time that a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The certificates of now.
pub(super) struct Current {
    secrets: watch::Receiver<Secrets>,
    protocols: &'static [&'static [u8]],
    config: Arc<ServerConfig>,
}

impl Current {
    /// Those that there are, for some protocols; `None` where there are none.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(super) fn new(
        mut secrets: watch::Receiver<Secrets>,
        protocols: &'static [&'static [u8]],
    ) -> Result<Option<Self>, TlsError> {
        let Some(tls) = secrets.borrow_and_update().tls.clone() else { return Ok(None) };
        let config = tls.config(protocols)?;
        Ok(Some(Self { secrets, protocols, config }))
    }

    /// What a new connection goes by. What cannot be used replaces nothing.
    pub(super) fn config(&mut self) -> Arc<ServerConfig> {
        if self.secrets.has_changed().unwrap_or(false) {
            let tls = self.secrets.borrow_and_update().tls.clone();
            match tls.map(|tls| tls.config(self.protocols)) {
                Some(Ok(config)) => self.config = config,
                Some(Err(error)) => tracing::error!(%error, "new certificates are not used"),
                None => {}
            }
        }
        Arc::clone(&self.config)
    }
}

/// What came of a handshake.
type Handshake<S> = Result<io::Result<TlsStream<S>>, Elapsed>;

/// TLS on every connection, by the certificates that there are when it comes. Handshakes go on side by side.
pub(super) fn secured<S>(
    incoming: impl Stream<Item = io::Result<S>> + Send,
    current: Current,
) -> impl Stream<Item = io::Result<TlsStream<S>>> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshakes = JoinSet::<Handshake<S>>::new();
    unfold((Box::pin(incoming), current, handshakes), |(mut incoming, mut current, mut handshakes)| async move {
        loop {
            tokio::select! {
                Some(done) = handshakes.join_next() => match done {
                    Ok(Ok(Ok(stream))) => return Some((Ok(stream), (incoming, current, handshakes))),
                    Ok(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
                    Ok(Err(_)) => tracing::debug!("a TLS handshake took too long"),
                    Err(error) => tracing::warn!(%error, "a TLS handshake ended unexpectedly"),
                },
                next = incoming.next() => match next {
                    Some(Ok(stream)) => {
                        let acceptor = TlsAcceptor::from(current.config());
                        handshakes.spawn(timeout(HANDSHAKE, acceptor.accept(stream)));
                    }
                    Some(Err(error)) => return Some((Err(error), (incoming, current, handshakes))),
                    None => return None,
                },
            }
        }
    })
}
