//! A TCP proxy that can fall silent: connections stay open, nothing passes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) struct Proxy {
    pub(crate) address: String,
    cut: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
}

impl Proxy {
    /// A proxy whose target may be named later.
    pub(crate) fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        (Self { address, cut: Arc::default(), held: Arc::default() }, listener)
    }

    /// Passes everything on to an address such as `http://127.0.0.1:7070`.
    pub(crate) fn serve(&self, listener: TcpListener, target: &str) {
        let target = target.trim_start_matches("http://").to_owned();
        let (cut, held) = (Arc::clone(&self.cut), Arc::clone(&self.held));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let (near2, far2) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
                for (from, to) in [(near, far), (far2, near2)] {
                    let (cut, held) = (Arc::clone(&cut), Arc::clone(&held));
                    std::thread::spawn(move || pass(from, to, &cut, &held));
                }
            }
        });
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    /// Pieces of traffic that a cut kept back: more than none says that the fault fired.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a blocking thread of a test")]
fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool, held: &AtomicU64) {
    from.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if cut.load(Ordering::SeqCst) {
                    held.fetch_add(1, Ordering::SeqCst);
                    while cut.load(Ordering::SeqCst) {
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
