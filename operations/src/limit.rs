//! A listener that takes so many connections at once and tells one more so. A connection on which nothing moves is
//! closed, so that whoever opens many and says nothing keeps a probe out for that long only.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};

/// Most connections at once.
pub const CONNECTIONS: usize = 256;

/// Connections above the limit that are open at once, to be told why nothing is done for them.
const REFUSED: usize = 64;

/// Longest time without a byte, either way. What sends a stream of events says something more often than that.
const IDLE: Duration = Duration::from_secs(30);

/// Longest time to take a refusal.
const PARTING: Duration = Duration::from_secs(1);

/// A listener with so many places.
pub struct Limited {
    listener: TcpListener,
    most: usize,
    places: Arc<Semaphore>,
    surplus: Arc<Semaphore>,
}

impl Limited {
    /// Takes at most so many connections at once.
    pub fn new(listener: TcpListener, most: usize) -> Self {
        Self { listener, most, places: Arc::new(Semaphore::new(most)), surplus: Arc::new(Semaphore::new(REFUSED)) }
    }

    fn refuse(&self, stream: TcpStream, address: SocketAddr) {
        if let Ok(place) = Arc::clone(&self.surplus).try_acquire_owned() {
            tracing::debug!(from = %address, "a connection to the HTTP address is one too many and is refused");
            let text = format!("this address takes {} connections at once; try again later\n", self.most);
            tokio::spawn(async move {
                // Whoever does not take the answer goes without.
                let _ = timeout(PARTING, part(stream, &text)).await;
                drop(place);
            });
        }
    }
}

/// Answers whatever is asked with 503, and waits for the other side to close, so that it sees the answer.
async fn part(mut stream: TcpStream, text: &str) -> io::Result<()> {
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: \
    close\r\nretry-after: 1";
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).as_bytes()).await?;
    stream.shutdown().await?;
    let mut waste = [0; 1024];
    while stream.read(&mut waste).await? > 0 {}
    Ok(())
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => return (Connection::new(stream, place), address),
                Err(_) => self.refuse(stream, address),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection; its place is free when it is dropped.
pub struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a limit on real connections; tests run it on tokio's paused clock"
        )]
        let idle = Box::pin(sleep(IDLE));
        Self { stream, idle, _place: place }
    }

    /// Notes that bytes have moved.
    fn moves(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }

    /// What came of reading or writing, or the end of patience when nothing did. Wakes the task then.
    fn attended<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            ready!(self.idle.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.moves();
        outcome
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.attended(outcome, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.attended(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.attended(outcome, context)
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

    /// A listener with one place, a connection that has it, and the client's end of it.
    async fn taken() -> (Limited, Connection, TcpStream) {
        let mut listener = Limited::new(TcpListener::bind("127.0.0.1:0").await.expect("a port"), 1);
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (connection, _) = listener.accept().await;
        (listener, connection, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_and_one_that_says_something_is_not() {
        let (_listener, mut connection, mut client) = taken().await;
        let mut byte = [0];
        for _ in 0..4 {
            assert!(timeout(IDLE / 2, connection.read_exact(&mut byte)).await.is_err(), "it has some time");
            connection.write_all(b"x").await.expect("sent");
            client.read_exact(&mut byte).await.expect("an event");
        }
        let closed = connection.read_exact(&mut byte).await.expect_err("its time is over");
        assert_eq!(closed.kind(), io::ErrorKind::TimedOut);
    }
}
