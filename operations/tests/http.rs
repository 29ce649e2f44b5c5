//! Metrics and health over a real socket, and what a probe makes of them.

use bloctrain_operations::http::{Answer, Operated, serve};
use bloctrain_operations::limit::CONNECTIONS;
use bloctrain_operations::metric::{self, Sample};
use bloctrain_operations::probe;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Process {
    is_ready: AtomicBool,
}

impl Operated for Process {
    fn ready(&self) -> Answer {
        self.is_ready.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "it still opens its state".into())
    }

    fn samples(&self) -> BoxFuture<'_, Vec<Sample>> {
        Box::pin(async { vec![metric::WORKERS.with(&["cpu"], 2.0)] })
    }
}

async fn ask(address: &str, question: &'static str) -> Result<(), String> {
    let address = address.to_owned();
    let answer = tokio::task::spawn_blocking(move || probe::ask(&address, question));
    answer.await.expect("asked").map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_hears_why_a_process_is_not_ready_and_when_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let process = Arc::new(Process::default());
    let serving = tokio::spawn(serve(listener, Arc::clone(&process) as Arc<dyn Operated>));
    assert_eq!(ask(&address, "live").await, Ok(()));
    assert_eq!(ask(&address, "ready").await, Err(format!("{address} is not ready: it still opens its state")));
    process.is_ready.store(true, Ordering::Relaxed);
    assert_eq!((ask(&address, "ready").await, ask(&address, "active").await), (Ok(()), Ok(())));
    let url = format!("http://{address}/metrics");
    let text = tokio::task::spawn_blocking(move || ureq::get(url).call()?.body_mut().read_to_string()).await;
    let text = text.expect("asked").expect("answered");
    assert!(text.contains("bloctrain_workers{backend=\"cpu\"} 2.0\n"), "{text}");
    assert!(text.contains("bloctrain_process_resident_memory_bytes "), "{text}");
    serving.abort();
    assert!(serving.await.expect_err("ended").is_cancelled());
    assert!(ask(&address, "live").await.expect_err("nobody listens").contains("--http"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so_and_a_free_place_is_given_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = tokio::spawn(serve(listener, Arc::new(Process::default())));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(&address).await.expect("connects"));
    }
    let refused = ask(&address, "live").await.expect_err("no place");
    assert_eq!(
        refused,
        format!("{address} is not live: this address takes {CONNECTIONS} connections at once; try again later")
    );
    silent.clear();
    let mut answer = ask(&address, "live").await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
        answer = ask(&address, "live").await;
    }
    assert_eq!(answer, Ok(()), "the places are free again");
    serving.abort();
}
