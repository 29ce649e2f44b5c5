//! Calls over the network between processes: requests and answers are lost, late, repeated, reordered and cut off, each
//! on its own.

use crate::network::{Server, THIEF};
use crate::world::World;
use futures::future::BoxFuture;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Code, Status};

/// What proxies and broken streams look like: HTTP 400, 401, 403, 404, 429 and 503, RST_STREAM.
const INTERFERENCE: [Code; 7] = [
    Code::Internal,
    Code::Unauthenticated,
    Code::PermissionDenied,
    Code::Unimplemented,
    Code::Unavailable,
    Code::Cancelled,
    Code::InvalidArgument,
];

type Handler<T> = dyn Fn(Server) -> BoxFuture<'static, Result<T, Status>> + Send + Sync;

/// Calls a server; `what` names the call in the trace.
pub(crate) async fn call<T: Send + 'static>(
    world: &World,
    from: &str,
    to: &str,
    limit: Duration,
    what: &'static str,
    handler: Arc<Handler<T>>,
) -> Result<T, Status> {
    if to == THIEF {
        world.oracle().fail(format!("a token: {what} of {from} went to an address that somebody wrote into the store"));
    }
    let faults = world.faults();
    let (lost, repeated) =
        world.draw("network", |rng| (rng.random_bool(faults.request_lost), rng.random_bool(faults.repeated)));
    if lost {
        world.trace(|| format!("{what} from {from} to {to} is lost"));
        return gone(limit).await;
    }
    let interfered = world.draw("interfered", |rng| {
        let by = rng.random_range(0..INTERFERENCE.len());
        rng.random_bool(faults.interfered).then(|| (INTERFERENCE[by], rng.random_bool(0.5)))
    });
    if let Some((code, false)) = interfered {
        world.trace(|| format!("{what} from {from} to {to} is answered by a proxy: {code:?}"));
        return Err(Status::new(code, "made by a proxy"));
    }
    let (sender, answer) = oneshot::channel();
    tokio::spawn(deliver(world.clone(), from.to_owned(), to.to_owned(), Arc::clone(&handler), Some(sender)));
    if repeated {
        world.trace(|| format!("{what} from {from} to {to} is repeated"));
        tokio::spawn(deliver(world.clone(), from.to_owned(), to.to_owned(), handler, None));
    }
    if let Some((code, true)) = interfered {
        // The request arrives, and what is answered does not.
        world.pause(travel(world)).await;
        return Err(Status::new(code, "made by a proxy"));
    }
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => answer,
        // Nobody will answer any more, but that does not show.
        Ok(Err(_)) => gone(limit).await,
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

async fn gone<T>(limit: Duration) -> Result<T, Status> {
    // Pings tell a dead connection from a slow one within some seconds.
    let noticed = timeout(limit.min(Duration::from_secs(6)), std::future::pending::<()>()).await;
    debug_assert!(noticed.is_err());
    Err(Status::unavailable("the connection is dead"))
}

/// How long a message takes: mostly some milliseconds, now and then long enough to be overtaken by many others.
fn travel(world: &World) -> u64 {
    let faults = world.faults();
    world.draw("network", |rng| {
        let late = if rng.random_bool(faults.late) { rng.random_range(100..faults.late_ms) } else { 0 };
        rng.random_range(1..faults.delay_ms) + late
    })
}

pub(crate) async fn deliver<T: Send + 'static>(
    world: World,
    from: String,
    to: String,
    handler: Arc<Handler<T>>,
    answer: Option<oneshot::Sender<Result<T, Status>>>,
) {
    world.pause(travel(&world)).await;
    let server = {
        let network = world.network();
        if !network.carries(&from, &to) {
            return;
        }
        network.server(&to)
    };
    let result = match server {
        Some(server) => {
            let process = server.process.clone();
            // It ends with the server's process: the caller sees the connection end.
            process
                .spawn(handler(server))
                .await
                .unwrap_or_else(|_| Err(Status::unavailable("the connection was reset")))
        }
        None => Err(Status::unavailable("connection refused")),
    };
    world.pause(travel(&world)).await;
    let faults = world.faults();
    if !world.network().carries(&to, &from) || world.draw("network", |rng| rng.random_bool(faults.answer_lost)) {
        return;
    }
    if let Some(answer) = answer {
        // The caller may have given up.
        let _ = answer.send(result);
    }
}
