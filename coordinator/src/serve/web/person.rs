//! Whom a request comes from: a bearer token as over gRPC, or a cookie that stands for one.
//!
//! The cookie holds the time when it ends, and a digest of that keyed by the token's digest
//! ([`Access::sign`](crate::serve::access::Access)). The coordinator keeps nothing: a cookie holds after a restart and
//! at another coordinator with the same tokens, and ends with its token.

use crate::serve::access::{Access, Role};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};

/// Seconds for which a cookie holds.
pub(super) const HOLDS: u64 = 24 * 60 * 60;

/// Names of the cookie in the clear and over TLS, where the prefix binds it to this host and to TLS.
pub(super) const NAMES: [&str; 2] = ["bloctrain_session", "__Host-bloctrain_session"];

/// How somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// By a header that no foreign page can send.
    Bearer,
    /// By a cookie, which a browser sends by itself.
    Cookie,
    /// Not at all: this coordinator asks for nothing.
    Nothing,
}

/// Whom a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) role: Role,
    pub(super) shown: Shown,
}

/// The token of a request's header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The values of the session's cookie: a browser may send several.
fn cookies(headers: &HeaderMap, secure: bool) -> impl Iterator<Item = &str> {
    let name = NAMES[usize::from(secure)];
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// The role of a cookie at a time in seconds.
fn role_of(access: &Access, cookie: &str, now: u64) -> Option<Role> {
    let (ends, signature) = cookie.split_once('.')?;
    let holds = ends.parse::<u64>().is_ok_and(|ends| ends > now && ends <= now + HOLDS);
    holds.then(|| access.signed(ends, signature)).flatten()
}

/// Whom a request comes from, if it may be answered.
pub(super) fn person(access: &Access, headers: &HeaderMap, secure: bool, now: u64) -> Option<Person> {
    if let Some(token) = bearer(headers) {
        return access.role(Some(token)).map(|role| Person { role, shown: Shown::Bearer });
    }
    if let Some(role) = access.role(None) {
        return Some(Person { role, shown: Shown::Nothing });
    }
    let role = cookies(headers, secure).find_map(|cookie| role_of(access, cookie, now))?;
    Some(Person { role, shown: Shown::Cookie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_holds_for_a_day_with_its_token_only() {
        let token = |kind: &str| vec![format!("{kind}-0123456789abcdef")];
        let access = Access::new(&[], &token("viewer"), &token("operator")).expect("long enough");
        let (now, ends) = (1_000, (1_000 + HOLDS).to_string());
        let (role, signature) = access.sign(&token("viewer")[0], &ends).expect("a token of it");
        assert_eq!(role, Role::Viewer);
        let cookie = format!("{ends}.{signature}");
        assert_eq!(role_of(&access, &cookie, now), Some(Role::Viewer));
        assert_eq!(role_of(&access, &cookie, now + HOLDS), None, "it is over");
        assert_eq!(role_of(&access, &format!("{}.{signature}", now + 1), now), None, "another time");
        assert_eq!(
            role_of(&access, &format!("{}.{signature}", now + 2 * HOLDS), now),
            None,
            "a time that is never given"
        );
        let other = Access::new(&[], &token("other"), &token("operator")).expect("long enough");
        assert_eq!(role_of(&other, &cookie, now), None, "the token is gone");
        assert!(access.sign("operator", &ends).is_none() && !cookie.contains("viewer"));
        for wrong in ["", ".", "a.b", &ends, &format!("{ends}."), &format!("{ends}.{}", "0".repeat(64))] {
            assert_eq!(role_of(&access, wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn a_bearer_token_counts_before_a_cookie_and_nothing_else_does() {
        let token = |kind: &str| vec![format!("{kind}-0123456789abcdef")];
        let access = Access::new(&[], &token("viewer"), &token("operator")).expect("long enough");
        let mut headers = HeaderMap::new();
        assert_eq!(person(&access, &headers, false, 0), None);
        let (_, signature) = access.sign(&token("operator")[0], "9").expect("a token of it");
        let value = format!("a=b; bloctrain_session=x.y; bloctrain_session=9.{signature}");
        headers.insert(COOKIE, value.parse().expect("plain"));
        let by = |headers: &HeaderMap, secure| person(&access, headers, secure, 1);
        assert_eq!(by(&headers, false), Some(Person { role: Role::Operator, shown: Shown::Cookie }));
        assert_eq!(by(&headers, true), None, "over TLS another name is asked for");
        headers.insert(AUTHORIZATION, "Bearer wrong".parse().expect("plain"));
        assert_eq!(by(&headers, false), None);
        headers.insert(AUTHORIZATION, format!("Bearer {}", token("viewer")[0]).parse().expect("plain"));
        assert_eq!(by(&headers, false), Some(Person { role: Role::Viewer, shown: Shown::Bearer }));
        let open = person(&Access::default(), &HeaderMap::new(), false, 0);
        assert_eq!(open, Some(Person { role: Role::Operator, shown: Shown::Nothing }));
    }
}
