//! Channels to whichever coordinator is active.
//!
//! A [`Dialer`] knows some addresses, and may ask a store for the published one. Whenever a call fails, the caller takes
//! [`Dialer::next`], after [`Dialer::pause`]: a dead or standing-by coordinator costs one failed call.

pub use crate::credentials::{Bearer, Credentials, Trust};
use bloctrain_shared::seed;
use futures::future::BoxFuture;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Longest time to set up a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Pause between HTTP/2 pings; without them a channel stays dead after a partition.
const PING: Duration = Duration::from_secs(3);

/// Longest wait for the answer to a ping.
const PONG: Duration = Duration::from_secs(3);

/// First and longest pause before another attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Gives the addresses that are published now.
pub type Discover = Arc<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// A channel that carries a token.
pub type Link = InterceptedService<Channel, Bearer>;

/// An address, certificate or token that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Not an address.
    #[error("`{address}` is not a coordinator's address ({problem}); give one such as http://host:7070")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing is known.
    #[error("no coordinator is known: none is published in the store; start one, or give its address with --coordinator")]
    Nowhere,
    /// A token of characters that a header cannot have.
    #[error("the token has characters that cannot be sent; use printable ASCII without spaces")]
    Token,
}

/// Finds and connects to the active coordinator. Cheap to clone.
#[derive(Clone, Default)]
pub struct Dialer {
    addresses: Vec<String>,
    discover: Option<Discover>,
    credentials: Credentials,
    fixed: Option<Channel>,
    seed: u64,
    turn: usize,
    failures: u32,
}

impl Dialer {
    /// A dialer over a channel that is there already.
    pub fn fixed(channel: Channel) -> Self {
        Self { fixed: Some(channel), ..Self::default() }
    }

    /// A dialer over addresses such as `http://host:7070`. The seed moves its pauses apart from those of others.
    ///
    /// # Errors
    /// When an address or the token cannot be used.
    pub fn new(addresses: Vec<String>, trust: Trust, token: Option<&str>, seed: u64) -> Result<Self, DialError> {
        let credentials = Credentials::new(trust, token).map_err(|_| DialError::Token)?;
        let dialer = Self { addresses, credentials, seed, ..Self::default() };
        for address in &dialer.addresses {
            dialer.endpoint(address)?;
        }
        Ok(dialer)
    }

    /// What this dialer and its clones trust and show: replaced there, it is used from the next call and connection on.
    pub fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// Asks here for published addresses, too; they are tried first.
    pub fn discover(&mut self, discover: Discover) {
        self.discover = Some(discover);
    }

    /// A channel to the next address. It connects at its first call.
    ///
    /// # Errors
    /// When no address is known.
    pub async fn next(&mut self) -> Result<Link, DialError> {
        if let Some(channel) = &self.fixed {
            return Ok(InterceptedService::new(channel.clone(), Bearer::new(&self.credentials)));
        }
        let address = self.next_address().await?;
        let endpoint = self.endpoint(&address)?;
        Ok(InterceptedService::new(endpoint.connect_lazy(), Bearer::new(&self.credentials)))
    }

    /// The next address in turn: published ones first.
    ///
    /// # Errors
    /// When no address is known.
    pub async fn next_address(&mut self) -> Result<String, DialError> {
        let mut candidates = match &self.discover {
            Some(discover) => discover().await,
            None => Vec::new(),
        };
        for address in &self.addresses {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        if candidates.is_empty() {
            return Err(DialError::Nowhere);
        }
        let turn = self.turn % candidates.len();
        self.turn += 1;
        Ok(candidates.swap_remove(turn))
    }

    /// A call was answered: the next pause is a short one, and the next turn begins with the published address.
    pub fn answered(&mut self) {
        self.turn = 0;
        self.failures = 0;
    }

    /// How long to wait before the next attempt: longer every time, up to a second, and never the same for two callers.
    pub fn pause(&mut self) -> Duration {
        let longest = PAUSE.0.saturating_mul(1 << self.failures.min(8)).min(PAUSE.1);
        let jitter: f64 = seed::rng(self.seed, "retry", &[self.failures.into()]).random_range(0.5..1.0);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(jitter)
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, DialError> {
        let refuse = |problem: String| DialError::Address { address: address.to_owned(), problem };
        let is_tls = address.starts_with("https://");
        if !is_tls && !address.starts_with("http://") {
            return Err(refuse("it has neither http:// nor https://".into()));
        }
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| refuse(error.to_string()))?;
        if is_tls {
            endpoint = endpoint.tls_config(self.credentials.config()).map_err(|error| refuse(error.to_string()))?;
        }
        Ok(endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true))
    }
}

/// A request with a deadline.
pub fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_tokens_are_checked() {
        let new = |address: &str, token| Dialer::new(vec![address.into()], Trust::default(), token, 0);
        assert!(new("http://host:7070", Some("secret")).is_ok());
        assert!(matches!(new("host:7070", None), Err(DialError::Address { .. })));
        assert!(matches!(new("http://host", Some("a\nb")), Err(DialError::Token)));
    }

    #[test]
    fn pauses_grow_and_differ_between_callers() {
        let pauses = |seed| {
            let mut dialer = Dialer { seed, ..Dialer::default() };
            (0..8).map(|_| dialer.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
        assert!(pauses(1)[7] > pauses(1)[0] && pauses(1).iter().all(|pause| *pause <= PAUSE.1));
    }

    #[tokio::test]
    async fn published_addresses_come_first_and_all_have_their_turn() {
        let mut dialer = Dialer::new(vec!["http://b:1".into()], Trust::default(), None, 0).expect("fits");
        assert!(dialer.next().await.is_ok());
        // What is published cannot be used, so a turn shows by its error.
        dialer.discover(Arc::new(|| Box::pin(async { vec!["published".to_owned()] })));
        dialer.answered();
        assert!(matches!(dialer.next().await, Err(DialError::Address { address, .. }) if address == "published"));
        assert!(matches!(Dialer::default().next().await, Err(DialError::Nowhere)));
    }
}
