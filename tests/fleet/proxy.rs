//! A TCP proxy that can fall silent (connections stay open, nothing passes) or answer every HTTP request with 503.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) struct Proxy {
    pub(crate) address: String,
    fault: Arc<Fault>,
}

#[derive(Default)]
struct Fault {
    cut: AtomicBool,
    refuse: AtomicBool,
    held: AtomicU64,
    refused: AtomicU64,
}

/// What an overloaded service answers.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Proxy {
    /// A proxy whose target may be named later.
    pub(crate) fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        (Self { address, fault: Arc::default() }, listener)
    }

    /// Passes everything on to an address such as `http://127.0.0.1:7070`.
    pub(crate) fn serve(&self, listener: TcpListener, target: &str) {
        let target = target.trim_start_matches("http://").to_owned();
        let fault = Arc::clone(&self.fault);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let (near2, far2) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
                for (from, to, asks) in [(near, far, true), (far2, near2, false)] {
                    let fault = Arc::clone(&fault);
                    std::thread::spawn(move || pass(from, to, asks, &fault));
                }
            }
        });
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.fault.cut.store(cut, Ordering::SeqCst);
    }

    /// Answers requests with 503 instead of passing them on.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.fault.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Requests that were answered with 503.
    pub(crate) fn refused(&self) -> u64 {
        self.fault.refused.load(Ordering::SeqCst)
    }

    /// Pieces of traffic that a cut kept back: more than none says that the fault fired.
    pub(crate) fn held(&self) -> u64 {
        self.fault.held.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a blocking thread of a test")]
fn pass(mut from: TcpStream, mut to: TcpStream, asks: bool, fault: &Fault) {
    from.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if asks && fault.refuse.load(Ordering::SeqCst) {
                    fault.refused.fetch_add(1, Ordering::SeqCst);
                    // The asker may have gone.
                    let _ = from.write_all(BUSY);
                    let _ = from.shutdown(std::net::Shutdown::Both);
                    break;
                }
                if fault.cut.load(Ordering::SeqCst) {
                    fault.held.fetch_add(1, Ordering::SeqCst);
                    while fault.cut.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown(std::net::Shutdown::Both);
}
