//! Who asks: a bearer token as over gRPC, or a cookie that stands for one.
//!
//! The cookie holds the time when it ends, and a digest of that keyed by the token's digest
//! ([`Access::sign`](crate::serve::access::Access)). The coordinator keeps nothing: a cookie holds after a restart and at
//! another coordinator with the same tokens, and ends with its token.

use super::Site;
use super::answer::{Answer, Problem, json};
use super::caller::refuse_strangers;
use super::door::Way;
use crate::drive::counters::Counters;
use crate::serve::access::{Access, Role};
use axum::extract::{ConnectInfo, State};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Seconds for which a cookie holds.
const HOLDS: u64 = 24 * 60 * 60;

/// Names of the cookie in the clear and over TLS, where the prefix binds it to this host and to TLS.
const NAMES: [&str; 2] = ["bloctrain_session", "__Host-bloctrain_session"];

/// Longest request to begin a session.
const MAX_LOGIN: usize = 4 << 10;

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
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
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

fn cookie(value: &str, seconds: u64, secure: bool) -> String {
    let (name, more) = (NAMES[usize::from(secure)], if secure { "; Secure" } else { "" });
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{more}")
}

fn with_cookie(mut response: Response, cookie: &str) -> Answer {
    let value = HeaderValue::from_str(cookie);
    let value = value.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    response.headers_mut().insert(SET_COOKIE, value);
    Ok(response)
}

/// Who asks, as the dashboard wants to know it.
#[derive(Serialize)]
struct Session {
    /// `operator`, `viewer`, or nobody that is known.
    role: Option<&'static str>,
    /// Whether this coordinator asks for tokens.
    protected: bool,
    /// Version of the program.
    version: &'static str,
}

fn session(site: &Site, role: Option<Role>) -> Response {
    let role = role.map(|role| match role {
        Role::Operator => "operator",
        Role::Viewer => "viewer",
    });
    let protected = site.secrets.borrow().access.role(None).is_none();
    json(&Session { role, protected, version: env!("CARGO_PKG_VERSION") })
}

/// Who asks. That nobody is known is an answer, too: the page then asks for a token.
pub(super) async fn look(State(site): State<Arc<Site>>, ConnectInfo(way): ConnectInfo<Way>, headers: HeaderMap) -> Answer {
    let now = site.seconds();
    let person = person(&site.secrets.borrow().access, &headers, way.secure, now);
    Ok(session(&site, person.map(|person| person.role)))
}

/// A token in JSON.
#[derive(Deserialize)]
struct Login {
    token: String,
}

/// A token for a cookie.
pub(super) async fn begin(
    State(site): State<Arc<Site>>,
    ConnectInfo(way): ConnectInfo<Way>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    refuse_strangers(&headers, Shown::Nothing)?;
    let wrong = |what: &str| Problem::new(StatusCode::BAD_REQUEST, what);
    if body.len() > MAX_LOGIN {
        return Err(wrong("that is no token: it is too long"));
    }
    let login: Login = serde_json::from_slice(&body).map_err(|_| wrong("send {\"token\": \"...\"}"))?;
    let ends = (site.seconds() + HOLDS).to_string();
    let signed = site.secrets.borrow().access.sign(login.token.trim(), &ends);
    let Some((role, signature)) = signed else {
        Counters::count(&site.counters.calls_unauthorised);
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "the token is not one of this coordinator's"));
    };
    with_cookie(session(&site, Some(role)), &cookie(&format!("{ends}.{signature}"), HOLDS, way.secure))
}

/// The cookie is taken back from the browser.
pub(super) async fn end(ConnectInfo(way): ConnectInfo<Way>, headers: HeaderMap) -> Answer {
    refuse_strangers(&headers, Shown::Nothing)?;
    with_cookie(StatusCode::NO_CONTENT.into_response(), &cookie("", 0, way.secure))
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
        assert_eq!(role_of(&access, &format!("{}.{signature}", now + 2 * HOLDS), now), None, "a time that is never given");
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
