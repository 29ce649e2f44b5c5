//! Who may call: join tokens for workers, access tokens with a role for everybody else.
//!
//! Tokens are kept as digests and compared in constant time; they are never logged. A service without tokens is open.

use bloctrain_proto::status::{Kind, status};
use bloctrain_shared::Digest;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};
use tonic::{Request, Status};

/// What a caller of the run service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// Read, submit, pause, resume and cancel.
    Operator,
}

/// The tokens that a coordinator accepts; several of a kind, so that one can replace another without a pause.
#[derive(Clone, Default)]
pub struct Access {
    join: Vec<Digest>,
    viewer: Vec<Digest>,
    operator: Vec<Digest>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}

/// Shortest token that is accepted.
pub const MIN_TOKEN: usize = 16;

/// A token that is too short to be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has fewer than {MIN_TOKEN} characters; make one with `openssl rand -hex 32`")]
pub struct WeakToken;

/// A text that was to name tokens and has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has no token, and without one everybody would be let in; put one into it, or do not name it")]
pub struct NoToken;

/// Tokens of a text, one a line.
///
/// # Errors
/// When there is none: whoever names a file of tokens does not mean to be open to everybody.
pub fn tokens(text: &str) -> Result<Vec<String>, NoToken> {
    let tokens: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if tokens.is_empty() { Err(NoToken) } else { Ok(tokens) }
}

impl Access {
    /// Accepts these tokens.
    ///
    /// # Errors
    /// When one is too short.
    pub fn new(join: &[String], viewer: &[String], operator: &[String]) -> Result<Self, WeakToken> {
        let digests = |tokens: &[String]| {
            let digest =
                |token: &String| (token.len() >= MIN_TOKEN).then(|| Digest::of(token.as_bytes())).ok_or(WeakToken);
            tokens.iter().map(digest).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { join: digests(join)?, viewer: digests(viewer)?, operator: digests(operator)? })
    }

    /// Whether both services ask for tokens.
    pub fn is_protected(&self) -> bool {
        !self.join.is_empty() && !self.operator.is_empty()
    }

    pub(super) fn may_join(&self, token: Option<&str>) -> bool {
        self.join.is_empty() || matches(&self.join, token)
    }

    /// The role of a token, and the digest of a text keyed by it.
    pub(super) fn sign(&self, token: &str, text: &str) -> Option<(Role, Digest)> {
        let role = self.role(Some(token))?;
        Some((role, keyed(&Digest::of(token.as_bytes()), text)))
    }

    /// The role of the token that made a digest of a text. Compares with those of all tokens, whichever it is.
    pub(super) fn signed(&self, text: &str, signature: &str) -> Option<Role> {
        let given: Digest = signature.parse().ok()?;
        let made_by = |known: &[Digest]| -> bool {
            let equal = |token: &Digest| keyed(token, text).as_bytes().ct_eq(given.as_bytes());
            known.iter().fold(Choice::from(0), |any, token| any | equal(token)).into()
        };
        let (operator, viewer) = (made_by(&self.operator), made_by(&self.viewer));
        if operator { Some(Role::Operator) } else { viewer.then_some(Role::Viewer) }
    }

    pub(super) fn role(&self, token: Option<&str>) -> Option<Role> {
        let is_open = self.viewer.is_empty() && self.operator.is_empty();
        let (operator, viewer) = (matches(&self.operator, token), matches(&self.viewer, token));
        if is_open || operator {
            return Some(Role::Operator);
        }
        viewer.then_some(Role::Viewer)
    }
}

/// A digest of a text that only who knows a token can make.
fn keyed(token: &Digest, text: &str) -> Digest {
    Digest::of_parts(&[b"bloctrain session 1", token.as_bytes(), text.as_bytes()])
}

/// Compares with every known token, so that the time says nothing about which one came close.
fn matches(known: &[Digest], token: Option<&str>) -> bool {
    let Some(token) = token else { return false };
    let given = Digest::of(token.as_bytes());
    let equal = known.iter().fold(Choice::from(0), |any, known| any | known.as_bytes().ct_eq(given.as_bytes()));
    equal.into()
}

/// Refuses callers who may only read.
pub(crate) fn operator<T>(request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<Role>() {
        Some(Role::Operator) => Ok(()),
        _ => Err(status(Kind::Forbidden, "this token may only read; an operator's is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_tokens_is_an_error() {
        assert_eq!(tokens(" one \n\ntwo\n"), Ok(vec!["one".into(), "two".into()]));
        for empty in ["", "\n", "  \n\t\n"] {
            let error = tokens(empty).expect_err("it would open the service to everybody").to_string();
            assert!(error.contains("has no token"), "{error}");
        }
    }

    #[test]
    fn every_token_opens_its_own_door_only() {
        let token = |kind: &str| vec![format!("{kind}-0123456789abcdef")];
        let access = Access::new(&token("join"), &token("viewer"), &token("operator")).expect("long enough");
        assert!(access.is_protected());
        let role = |kind: &str| access.role(Some(&token(kind)[0]));
        assert_eq!((role("viewer"), role("operator"), role("join")), (Some(Role::Viewer), Some(Role::Operator), None));
        assert!(access.may_join(Some(&token("join")[0])));
        assert!(!access.may_join(Some(&token("operator")[0])) && !access.may_join(None) && access.role(None).is_none());
        assert!(Access::default().may_join(None) && Access::default().role(None) == Some(Role::Operator));
        assert!(!format!("{access:?}").contains("join-"), "tokens are not shown");
        assert!(Access::new(&["short".into()], &[], &[]).is_err());
    }
}
