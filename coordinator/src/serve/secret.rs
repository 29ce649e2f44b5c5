//! What a coordinator keeps secret, replaceable while it serves.

use super::access::Access;
use super::tls::Tls;

/// Tokens and certificates. A sender of a watch channel replaces them; calls and connections that begin later go by
/// them.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Who may call.
    pub access: Access,
    /// Its certificates. Whether there are any is decided at the start.
    pub tls: Option<Tls>,
}
