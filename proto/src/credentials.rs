//! What a caller trusts and shows: certificates and a token, which may be replaced while it is connected.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// Certificates of a caller, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Authority that the coordinator's certificate comes from.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key by which the caller shows who it is (mutual TLS).
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Name in the coordinator's certificate, when it is not the host of its address.
    pub name: Option<String>,
    /// Whether tokens may be sent in plain text over a network.
    pub is_insecure: bool,
}

impl Trust {
    /// How a connection is made.
    pub(crate) fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            config = config.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.name {
            config = config.domain_name(name);
        }
        config
    }
}

/// A token of characters that a header cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token has characters that cannot be sent; use printable ASCII without spaces")]
pub struct BadToken;

/// Certificates and a token. Clones share what is replaced.
#[derive(Clone, Default)]
pub struct Credentials(Arc<RwLock<Held>>);

#[derive(Clone, Default)]
struct Held {
    trust: Trust,
    header: Option<MetadataValue<Ascii>>,
}

impl Held {
    fn new(trust: Trust, token: Option<&str>) -> Result<Self, BadToken> {
        let header = token.map(|token| {
            let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| BadToken)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self { trust, header: header.transpose()? })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// Certificates and a token.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub fn new(trust: Trust, token: Option<&str>) -> Result<Self, BadToken> {
        Ok(Self(Arc::new(RwLock::new(Held::new(trust, token)?))))
    }

    /// Uses others from now on: the token at the next call, the certificates at the next connection.
    ///
    /// # Errors
    /// When the token cannot be sent; then nothing is replaced.
    pub fn replace(&self, trust: Trust, token: Option<&str>) -> Result<(), BadToken> {
        let held = Held::new(trust, token)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// What is trusted, and shown, at the next connection.
    pub(crate) fn trust(&self) -> Trust {
        self.held().trust.clone()
    }

    /// Whether there is a token to lose.
    pub(crate) fn has_token(&self) -> bool {
        self.held().header.is_some()
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the token on every call.
#[derive(Clone, Default)]
pub struct Bearer(Credentials);

impl Bearer {
    /// The token of these credentials, as it is at each call.
    pub fn new(credentials: &Credentials) -> Self {
        Self(credentials.clone())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = self.0.held().header.clone() {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_on_the_next_call_of_every_link() {
        let credentials = Credentials::new(Trust::default(), Some("before")).expect("can be sent");
        let mut link = Bearer::new(&credentials);
        let mut header = || link.call(Request::new(())).expect("lets through").metadata().get("authorization").cloned();
        assert_eq!(header().expect("a token"), "Bearer before");
        assert_eq!(credentials.replace(Trust::default(), Some("a\nb")), Err(BadToken));
        assert_eq!(header().expect("a token"), "Bearer before", "what cannot be used replaces nothing");
        credentials.replace(Trust::default(), Some("after")).expect("can be sent");
        assert_eq!(header().expect("a token"), "Bearer after");
        credentials.replace(Trust::default(), None).expect("nothing to send");
        assert_eq!(header(), None);
        assert!(!format!("{credentials:?}").contains("after"), "tokens are not shown");
    }
}
