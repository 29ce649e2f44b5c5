//! Sessions of browsers: a token for a cookie ([`person`](super::person)), who asks, the end.

use super::Site;
use super::answer::{Answer, Problem, json};
use super::caller::refuse_strangers;
use super::door::Way;
use super::person::{HOLDS, NAMES, Shown, person};
use crate::drive::counters::Counters;
use crate::serve::access::Role;
use axum::extract::{ConnectInfo, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest request to begin a session.
const MAX_LOGIN: usize = 4 << 10;

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
pub(super) async fn look(
    State(site): State<Arc<Site>>,
    ConnectInfo(way): ConnectInfo<Way>,
    headers: HeaderMap,
) -> Answer {
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
