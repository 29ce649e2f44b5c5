//! Channels to whichever coordinator is active.
//!
//! A [`Dialer`] knows some addresses, and may ask a store for the published one. Whenever a call fails, the caller
//! takes [`Dialer::next`], after [`Dialer::pause`]: a dead or standing-by coordinator costs one failed call.

pub use crate::credentials::{BadToken, Bearer, Credentials, Trust};
use bloctrain_shared::seed;
use futures::future::BoxFuture;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Longest time to set up a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Pause between HTTP/2 pings; without them a channel stays dead after a partition.
const PING: Duration = Duration::from_secs(3);

/// Longest wait for the answer to a ping.
const PONG: Duration = Duration::from_secs(3);

/// First and longest pause before another attempt, and the longest after many.
const PAUSE: (Duration, Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10));

/// Failures after which pauses grow again: a coordinator that is being replaced is back long before.
const MANY: u32 = 20;

/// First and longest pause between two looks for a published address.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Looks with the first pause between them, which outlast an ordinary change of coordinators.
const QUICK_LOOKS: u32 = 5;

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
    #[error(
        "no coordinator is known: none is published in the store; start one, or give its address with --coordinator"
    )]
    Nowhere,
    /// A token would be readable on the way.
    #[error(
        "`{0}` is plain http and not on this machine: a token would be readable on the way; serve TLS there and give \
        https:// with --tls-ca, or give --insecure for a network that you trust"
    )]
    Readable(String),
    /// An address that was found in the store is less protected than what was asked for.
    #[error(
        "`{0}`, which the store gives as the coordinator's address, is not protected as was asked for (https and \
        --tls-ca); it gets no token: see who wrote it into the store's folder `leader`"
    )]
    LessProtected(String),
    /// A token of characters that a header cannot have.
    #[error(transparent)]
    Token(#[from] BadToken),
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
    /// When published addresses were looked for, how long to wait before the next look, and what was found.
    looked: Option<(Instant, Duration)>,
    looks: u32,
    published: Vec<String>,
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
        let dialer = Self { addresses, credentials: Credentials::new(trust, token)?, seed, ..Self::default() };
        for address in &dialer.addresses {
            dialer.endpoint(address)?;
            dialer.protects(address, false)?;
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

    /// Looks for published addresses, unless it did so a short while ago: thousands of workers without a coordinator
    /// are not to keep the store busy. What was found last is kept until something else is.
    async fn look(&mut self) {
        let Some(discover) = self.discover.clone() else { return };
        if self.looked.is_some_and(|(at, wait)| at.elapsed() < wait) {
            return;
        }
        let found = discover().await;
        if !found.is_empty() {
            self.published = found;
        }
        let longest = LOOK.0.saturating_mul(1 << self.looks.saturating_sub(QUICK_LOOKS - 1).min(8)).min(LOOK.1);
        let jitter: f64 = seed::rng(self.seed, "look", &[self.looks.into()]).random_range(0.5..1.0);
        self.looks = self.looks.saturating_add(1);
        self.looked = Some((Instant::now(), longest.mul_f64(jitter)));
    }

    /// The next address in turn: published ones first.
    ///
    /// # Errors
    /// When no address is known.
    pub async fn next_address(&mut self) -> Result<String, DialError> {
        self.look().await;
        let mut refused = None;
        let mut candidates = self.published.clone();
        // Whoever can write to the store may have put an address there to be sent the token.
        candidates.retain(|address| match self.protects(address, true) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "an address in the store is not used");
                refused = Some(error);
                false
            }
        });
        for address in &self.addresses {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        if candidates.is_empty() {
            return Err(refused.unwrap_or(DialError::Nowhere));
        }
        let turn = self.turn % candidates.len();
        self.turn += 1;
        Ok(candidates.swap_remove(turn))
    }

    /// A call was answered: the next pause is a short one, and the next turn begins with the published address.
    pub fn answered(&mut self) {
        self.turn = 0;
        self.failures = 0;
        // When it fails, another coordinator may have published its address.
        self.looks = 0;
        self.looked = None;
    }

    /// How long to wait before the next attempt: longer every time, up to a second, up to ten after many, and never the
    /// same for two callers.
    pub fn pause(&mut self) -> Duration {
        let soon = PAUSE.0.saturating_mul(1 << self.failures.min(8)).min(PAUSE.1);
        let longest = soon.saturating_mul(1 << self.failures.saturating_sub(MANY).min(8)).min(PAUSE.2);
        let jitter: f64 = seed::rng(self.seed, "retry", &[self.failures.into()]).random_range(0.5..1.0);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(jitter)
    }

    /// Whether a token may be sent to an address: never in plain text over a network unless that was allowed, and to
    /// one that was found in the store only if it is protected as what was asked for.
    fn protects(&self, address: &str, is_found: bool) -> Result<(), DialError> {
        if !self.credentials.has_token() {
            return Ok(());
        }
        let (is_tls, trust) = (address.starts_with("https://"), self.credentials.trust());
        if is_found && !is_tls && self.asks_for_tls(&trust) {
            return Err(DialError::LessProtected(address.to_owned()));
        }
        // Any authority that is known to all would vouch for a thief's name as well.
        if is_found && is_tls && trust.ca.is_none() && !self.is_known_host(address) {
            return Err(DialError::LessProtected(address.to_owned()));
        }
        if is_tls || trust.is_insecure || is_loopback(address) {
            return Ok(());
        }
        Err(DialError::Readable(address.to_owned()))
    }

    fn asks_for_tls(&self, trust: &Trust) -> bool {
        let Trust { ca, identity, name, .. } = trust;
        let by_trust = ca.is_some() || identity.is_some() || name.is_some();
        by_trust || self.addresses.iter().any(|address| address.starts_with("https://"))
    }

    fn is_known_host(&self, address: &str) -> bool {
        self.addresses.iter().any(|known| host(known).is_some() && host(known) == host(address))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, DialError> {
        let refuse = |problem: String| DialError::Address { address: address.to_owned(), problem };
        let is_tls = address.starts_with("https://");
        if !is_tls && !address.starts_with("http://") {
            return Err(refuse("it has neither http:// nor https://".into()));
        }
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| refuse(error.to_string()))?;
        if is_tls {
            endpoint =
                endpoint.tls_config(self.credentials.trust().config()).map_err(|error| refuse(error.to_string()))?;
        }
        Ok(endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true))
    }
}

/// The host in an address.
fn host(address: &str) -> Option<String> {
    address.parse::<tonic::codegen::http::Uri>().ok()?.host().map(str::to_ascii_lowercase)
}

fn is_loopback(address: &str) -> bool {
    let Some(host) = host(address) else { return false };
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || number.is_ok_and(|number| number.is_loopback())
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
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn addresses_and_tokens_are_checked() {
        let new = |address: &str, token| Dialer::new(vec![address.into()], Trust::default(), token, 0);
        assert!(new("http://host:7070", None).is_ok());
        for near in ["http://127.0.0.1:7070", "http://localhost:7070", "http://[::1]:7070", "https://host:7070"] {
            assert!(new(near, Some("secret")).is_ok(), "{near}");
        }
        for far in
            ["http://host:7070", "http://10.0.0.1:7070", "http://127.0.0.1.example.com", "http://localhost.example.com"]
        {
            assert_eq!(new(far, Some("secret")).err(), Some(DialError::Readable(far.into())));
            let trust = Trust { is_insecure: true, ..Trust::default() };
            assert!(Dialer::new(vec![far.into()], trust, Some("secret"), 0).is_ok(), "it was allowed");
        }
        assert!(matches!(new("host:7070", None), Err(DialError::Address { .. })));
        assert!(matches!(new("https://host", Some("a\nb")), Err(DialError::Token(_))));
    }

    /// Whoever can write to the store can publish an address, and is not to be sent the token.
    #[tokio::test]
    async fn a_found_address_gets_no_token_unless_it_is_protected_as_was_asked_for() {
        let ca = || Trust { ca: Some(b"pem".to_vec()), ..Trust::default() };
        let insecure = || Trust { is_insecure: true, ..Trust::default() };
        let cases = [
            ("http://127.0.0.1:1", vec![], Trust::default(), true),
            ("http://thief:1", vec![], Trust::default(), false),
            ("http://thief:1", vec![], insecure(), true),
            ("http://thief:1", vec![], Trust { is_insecure: true, ..ca() }, false),
            ("http://127.0.0.1:1", vec![], ca(), false),
            ("https://own:1", vec![], ca(), true),
            ("https://thief:1", vec![], Trust::default(), false),
            ("https://own:2", vec!["https://own:1".to_owned()], Trust::default(), true),
            ("http://own:2", vec!["https://own:1".to_owned()], insecure(), false),
        ];
        for (found, given, trust, is_used) in cases {
            let first = |token: Option<&'static str>| {
                let (given, trust) = (given.clone(), trust.clone());
                async move {
                    let mut dialer = Dialer::new(Vec::new(), trust, token, 0).expect("fits");
                    dialer.addresses = given;
                    dialer.discover(Arc::new(move || Box::pin(async move { vec![found.to_owned()] })));
                    dialer.next_address().await
                }
            };
            let used = first(Some("secret")).await.is_ok_and(|address| address == found);
            assert_eq!(used, is_used, "{found} beside {given:?}");
            assert_eq!(first(None).await.as_deref(), Ok(found), "without a token nothing is lost");
        }
    }

    #[test]
    fn pauses_grow_and_differ_between_callers() {
        let pauses = |seed| {
            let mut dialer = Dialer { seed, ..Dialer::default() };
            (0..8).map(|_| dialer.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
        assert!(pauses(1)[7] > pauses(1)[0] && pauses(1).iter().all(|pause| *pause <= PAUSE.1));
        let mut dialer = Dialer::default();
        let many: Vec<_> = (0..60).map(|_| dialer.pause()).collect();
        assert!(many[59] > PAUSE.1 && many.iter().all(|pause| *pause <= PAUSE.2), "{many:?}");
    }

    /// Without a coordinator: a thousand workers asked the store two thousand times a second.
    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_ever_more_seldom() {
        let asked = Arc::new(AtomicU64::new(0));
        let mut dialer = Dialer::new(vec!["http://a:1".into()], Trust::default(), None, 3).expect("fits");
        let counts = Arc::clone(&asked);
        dialer.discover(Arc::new(move || {
            counts.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { vec!["http://published:1".to_owned()] })
        }));
        let mut fail_for = async |seconds: u64| {
            let (begun, before) = (Instant::now(), asked.load(Ordering::Relaxed));
            while begun.elapsed() < Duration::from_secs(seconds) {
                dialer.next_address().await.expect("an address");
                let pause = dialer.pause();
                tokio::time::advance(pause).await;
            }
            asked.load(Ordering::Relaxed) - before
        };
        let (first, later) = (fail_for(5).await, fail_for(600).await);
        assert!((4..=10).contains(&first), "{first} looks while a standby takes over");
        assert!(later <= 60, "{later} looks in ten minutes");
        dialer.answered();
        dialer.next_address().await.expect("an address");
        assert_eq!(asked.load(Ordering::Relaxed), first + later + 1, "after an answer it looks at once");
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
