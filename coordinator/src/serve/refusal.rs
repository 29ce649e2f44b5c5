//! One line of the log for every call that was refused, whoever refused it: a guard, a limit, a service, the state
//! machine.

use super::peer::Peer;
use std::task::{Context, Poll};
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Logs refusals of the service inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogRefusals;

impl<S> Layer<S> for LogRefusals {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged { inner }
    }
}

/// A service whose refusals are logged.
#[derive(Debug, Clone)]
pub(crate) struct Logged<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Logged<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = request.uri().path().to_owned();
        let from = from(&request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(status) = answer.as_ref().ok().and_then(|response| Status::from_header_map(response.headers()))
            {
                log(&call, from, &status);
            }
            answer
        })
    }
}

fn from<B>(request: &Request<B>) -> Option<std::net::SocketAddr> {
    Peer::of(request.extensions()).map(|peer| peer.address)
}

fn log(call: &str, from: Option<std::net::SocketAddr>, status: &Status) {
    let (code, message) = (status.code(), status.message());
    // A path comes from outside as well.
    let call: String = call.chars().take(128).collect();
    let from = from.map(tracing::field::display);
    match code {
        Code::Ok => {}
        // A coordinator that stands by, or stops; the caller tries another one.
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
            tracing::debug!(call, from, ?code, "a call was not answered: {message}");
        }
        // What an honest worker or person may run into: a lease or a registration that has ended, a run that is not
        // there.
        Code::Aborted | Code::NotFound => tracing::info!(call, from, ?code, "a call was refused: {message}"),
        _ => tracing::warn!(call, from, ?code, "a call was refused: {message}"),
    }
}
