//! Connections up to a limit. A few above it are taken so that their calls can be refused with the reason; what comes above
//! those is closed at once.

use crate::journal::Counters;
use futures::Stream;
use futures::stream::unfold;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, interval};
use tonic::codegen::http::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

/// Connections above the limit that are open at once, to be told why nothing is done for them.
const REFUSED: usize = 64;

/// Pause after a connection could not be taken, as when the process has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom a call comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: Option<SocketAddr>,
    /// Whether its connection is one too many.
    pub(crate) is_surplus: bool,
}

impl Peer {
    /// The peer of a call over TCP, with or without TLS.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let tls = || extensions.get::<TlsConnectInfo<Self>>().map(|info| *info.get_ref());
        extensions.get::<Self>().copied().or_else(tls)
    }
}

/// One connection; the place that it takes is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    counters: Arc<Counters>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(
        stream: TcpStream,
        address: SocketAddr,
        is_surplus: bool,
        counters: &Arc<Counters>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Counters::count(&counters.connections);
        Self { stream, peer: Peer { address: Some(address), is_surplus }, counters: Arc::clone(counters), _place: place }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes connections from a listener, at most so many at once.
pub(crate) fn accept(
    listener: TcpListener,
    most: usize,
    counters: Arc<Counters>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = [most, REFUSED].map(|places| Arc::new(Semaphore::new(places)));
    unfold((listener, places, counters), |(listener, places, counters)| async move {
        let connection = next(&listener, &places, &counters).await;
        Some((Ok(connection), (listener, places, counters)))
    })
}

async fn next(listener: &TcpListener, [places, surplus]: &[Arc<Semaphore>; 2], counters: &Arc<Counters>) -> Connection {
    let mut pause = interval(PAUSE);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                pause.reset();
                pause.tick().await;
                continue;
            }
        };
        // Without it answers are late, which is all.
        let _ = stream.set_nodelay(true);
        let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        if let Some(place) = place(places) {
            return Connection::new(stream, address, false, counters, place);
        }
        Counters::count(&counters.connections_refused);
        if let Some(place) = place(surplus) {
            tracing::warn!(from = %address, "a connection is one too many: its calls are refused");
            return Connection::new(stream, address, true, counters, place);
        }
        tracing::debug!(from = %address, "a connection is one too many and was closed");
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
