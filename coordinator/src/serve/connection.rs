//! Connections up to a limit (`place`). A few above it are taken so that their calls can be refused with the reason;
//! what comes above those is closed at once. One from which no call is let in for some time is closed, or when its
//! place is needed, so that whoever has no token, or says nothing, keeps nobody out.

use super::peer::Peer;
use super::place::{Place, Places};
use crate::drive::counters::Counters;
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
use tokio::time::{Duration, Sleep, interval, sleep};
use tonic::transport::server::Connected;

/// Connections above the limit that are open at once, to be told why nothing is done for them.
const REFUSED: usize = 64;

/// Pause after a connection could not be taken, as when the process has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// Time that a new connection has until a call of it is let in. After that HTTP/2 pings tell whether it lives.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection; the place that it takes is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    /// The end of patience, until a call was let in.
    patience: Option<Pin<Box<Sleep>>>,
    counters: Arc<Counters>,
    /// For those above the limit.
    _surplus: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(
        stream: TcpStream,
        address: SocketAddr,
        counters: &Arc<Counters>,
        place: Option<Place>,
        surplus: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Counters::count(&counters.connections);
        #[expect(
            clippy::disallowed_methods,
            reason = "a limit on real connections; tests run it on tokio's paused clock"
        )]
        let patience = Some(Box::pin(sleep(PATIENCE)));
        let peer = Peer { address, place };
        Self { stream, peer, patience, counters: Arc::clone(counters), _surplus: surplus }
    }

    /// Whether no call was let in for too long, or its place is needed. Wakes the task when it becomes so.
    fn is_useless(&mut self, context: &mut Context<'_>) -> bool {
        if self.peer.place.as_ref().is_some_and(Place::is_let_in) {
            self.patience = None;
        }
        if self.peer.place.as_ref().is_some_and(|place| place.has_to_go(context)) {
            return true;
        }
        self.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(context).is_ready())
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
    let places = (Places::new(most), Arc::new(Semaphore::new(REFUSED)));
    unfold((listener, places, counters), |(listener, places, counters)| async move {
        let connection = next(&listener, &places, &counters).await;
        Some((Ok(connection), (listener, places, counters)))
    })
}

async fn next(
    listener: &TcpListener,
    (places, surplus): &(Places, Arc<Semaphore>),
    counters: &Arc<Counters>,
) -> Connection {
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
        if let Some(place) = places.take(address.ip()) {
            return Connection::new(stream, address, counters, Some(place), None);
        }
        Counters::count(&counters.connections_refused);
        if let Ok(place) = Arc::clone(surplus).try_acquire_owned() {
            tracing::warn!(from = %address, "a connection is one too many: its calls are refused");
            return Connection::new(stream, address, counters, None, Some(place));
        }
        tracing::debug!(from = %address, "a connection is one too many and was closed");
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_useless(context) {
            tracing::debug!(from = %self.peer.address, "a connection without a call that was let in is closed");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::access::Access;
    use crate::serve::guard::Guard;
    use crate::serve::secret::Secrets;
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use tonic::Request;
    use tonic::service::Interceptor;

    const TOKEN: &str = "viewer-0123456789abcdef";

    /// Whether a call with a token is let in.
    fn calls(connection: &Connection, token: &str) -> bool {
        let access = Access::new(&[], &[TOKEN.into()], &[]).expect("long enough");
        let mut request = Request::new(());
        request.extensions_mut().insert(connection.connect_info());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain text"));
        let (_, secrets) = tokio::sync::watch::channel(Secrets { access, tls: None });
        Guard::people(secrets, Arc::default()).call(request).is_ok()
    }

    /// The one place of a listener, taken by a connection; and the client's end of it.
    async fn taken() -> (impl Stream<Item = io::Result<Connection>>, Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let mut connections = Box::pin(accept(listener, 1, Arc::default()));
        let connection = connections.next().await.expect("endless").expect("taken");
        (connections, connection, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_never_let_in_is_closed_whatever_it_sends() {
        let (_connections, mut connection, mut client) = taken().await;
        let mut byte = [0];
        for _ in 0..3 {
            client.write_all(b"x").await.expect("sent");
            connection.read_exact(&mut byte).await.expect("read");
            assert!(!calls(&connection, "x"));
            assert!(timeout(PATIENCE / 4, connection.read_exact(&mut byte)).await.is_err(), "it has some time");
        }
        let closed = connection.read_exact(&mut byte).await.expect_err("its time is over");
        assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
        client.write_all(b"x").await.expect("sent");
        assert!(connection.read_exact(&mut byte).await.is_err(), "whatever comes later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_let_in_may_be_silent() {
        let (_connections, mut connection, mut client) = taken().await;
        assert!(calls(&connection, TOKEN));
        let mut byte = [0];
        assert!(
            timeout(PATIENCE * 100, connection.read_exact(&mut byte)).await.is_err(),
            "nothing comes, nothing ends"
        );
        client.write_all(b"x").await.expect("sent");
        connection.read_exact(&mut byte).await.expect("read");
    }
}
