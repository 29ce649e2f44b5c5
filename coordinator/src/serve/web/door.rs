//! Connections to the HTTP address, with TLS for those that begin with it.
//!
//! One port for both: probes and Prometheus go on in the clear, and browsers have TLS. Which of them it is, the first
//! byte says. What may be asked in the clear is the business of [`caller`](super::caller).

use crate::serve::handshake::Current;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// Longest time until a connection has said its first byte and made its handshake.
const ARRIVAL: Duration = Duration::from_secs(10);

/// First byte of a TLS handshake; no HTTP request begins with it.
const HANDSHAKE: u8 = 22;

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Whether over TLS.
    pub(super) secure: bool,
}

/// A connection, in the clear or over TLS.
type Stream<Io> = Either<Begun<Io>, Box<TlsStream<Begun<Io>>>>;

type Arrival<Io> = Option<(Stream<Io>, SocketAddr)>;

/// A listener whose connections may be secured.
pub(super) struct Door<L: Listener> {
    inner: L,
    certificates: Option<Current>,
    arriving: JoinSet<Arrival<L::Io>>,
}

impl<L: Listener<Addr = SocketAddr>> Door<L> {
    pub(super) fn new(inner: L, certificates: Option<Current>) -> Self {
        Self { inner, certificates, arriving: JoinSet::new() }
    }
}

async fn arrive<Io: AsyncRead + AsyncWrite + Unpin>(mut io: Io, acceptor: TlsAcceptor) -> io::Result<Stream<Io>> {
    let first = io.read_u8().await?;
    let io = Begun { first: Some(first), io };
    if first != HANDSHAKE {
        return Ok(Either::Left(io));
    }
    Ok(Either::Right(Box::new(acceptor.accept(io).await?)))
}

impl<L: Listener<Addr = SocketAddr>> Listener for Door<L> {
    type Io = Stream<L::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                Some(arrived) = self.arriving.join_next() => {
                    if let Ok(Some(arrived)) = arrived {
                        return arrived;
                    }
                }
                (io, address) = self.inner.accept() => {
                    let Some(certificates) = &mut self.certificates else {
                        return (Either::Left(Begun { first: None, io }), address);
                    };
                    let acceptor = TlsAcceptor::from(certificates.config());
                    self.arriving.spawn(async move {
                        match timeout(ARRIVAL, arrive(io, acceptor)).await {
                            Ok(Ok(stream)) => Some((stream, address)),
                            Ok(Err(error)) => {
                                tracing::debug!(%error, from = %address, "a connection to the HTTP address came to \
                                nothing");
                                None
                            }
                            Err(_) => None,
                        }
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl<L: Listener<Addr = SocketAddr>> Connected<IncomingStream<'_, Door<L>>> for Way {
    fn connect_info(stream: IncomingStream<'_, Door<L>>) -> Self {
        Self { secure: matches!(stream.io(), Either::Right(_)) }
    }
}

/// A connection whose first byte may have been read already.
pub(super) struct Begun<Io> {
    first: Option<u8>,
    io: Io,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Begun<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Begun<Io> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
