//! Certificates of a coordinator.

use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// What gRPC is spoken over.
pub(super) const GRPC: [&[u8]; 1] = [b"h2"];

/// What browsers speak.
pub(super) const WEB: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Certificates of a coordinator, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate, with those between it and the authority.
    pub certificate: Vec<u8>,
    /// The key of the certificate.
    pub key: Vec<u8>,
    /// Authority that every client's certificate must come from (mutual TLS).
    pub client_ca: Option<Vec<u8>>,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the {what} cannot be used: {problem}")]
pub struct TlsError {
    what: &'static str,
    problem: String,
}

impl TlsError {
    fn of(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |problem| Self { what, problem: problem.to_string() }
    }
}

/// The certificates of a file, at least one.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = TlsError::of(what);
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"there is no certificate in it (PEM is needed)")) } else { Ok(found) }
}

impl Tls {
    /// Whether these can be used.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config(&GRPC).map(drop)
    }

    /// What a server of some protocols does with them.
    pub(super) fn config(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::of("key")(&error))?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| TlsError::of("library")(&error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let wrong = TlsError::of("client authority");
                let mut roots = RootCertStore::empty();
                for root in certificates(pem, "client authority")? {
                    roots.add(root).map_err(|error| wrong(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?)
            }
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| TlsError::of("certificate with its key")(&error))?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
