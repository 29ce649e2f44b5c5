//! What every request for the dashboard or the API goes through: TLS where there is any, names that may be asked for,
//! pages of other sites kept out, a role, and headers that say what the page may do.

use super::Site;
use super::answer::Problem;
use super::door::Way;
use super::person::{Person, Shown, person};
use crate::drive::counters::Counters;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HOST, LOCATION, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// A header that a page of another site cannot add without being asked for permission, which nobody gives.
pub(super) const OWN_HEADER: &str = "x-bloctrain";

/// What the pages may do: scripts, styles, data of this address only; nobody may frame them; texts become no markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
];

/// Domains that nobody outside of a private network can point to an address.
const PRIVATE: [&str; 6] = ["localhost", "local", "internal", "lan", "svc", "cluster.local"];

/// Lets a request through, or says why not.
pub(super) async fn admit(
    State(site): State<Arc<Site>>,
    ConnectInfo(way): ConnectInfo<Way>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match check(&site, way, request) {
        Ok(request) => next.run(request).await,
        Err(answer) => *answer,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if way.secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn check(site: &Site, way: Way, mut request: Request) -> Result<Request, Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    if site.has_tls && !way.secure {
        return Err(Box::new(to_https(&request)));
    }
    let access = site.secrets.borrow().access.clone();
    let host = host(&request);
    // HTTP/2 has it in the address; whoever comes after this looks for the header.
    if let Some(value) = host.as_deref().and_then(|host| HeaderValue::from_str(host).ok()) {
        request.headers_mut().insert(HOST, value);
    }
    if access.role(None).is_some() && !host.as_deref().is_some_and(is_private) {
        let what = "without tokens this coordinator is asked for by an address or by a name of a private network only; \
            give it tokens (--operator-token-file), or use its address";
        return Err(refuse(Problem::new(StatusCode::MISDIRECTED_REQUEST, what)));
    }
    let path = request.uri().path();
    // Whoever wants a session has none yet.
    if !path.starts_with("/api/") || path.starts_with("/api/v1/session") || path == "/api/v1/openapi.json" {
        return Ok(request);
    }
    let Some(person) = person(&access, request.headers(), way.secure, site.seconds()) else {
        Counters::count(&site.counters.calls_unauthorised);
        let what = "a token is needed: sign in, or give an access token (BLOCTRAIN_TOKEN) as `Authorization: Bearer`";
        return Err(refuse(Problem::new(StatusCode::UNAUTHORIZED, what)));
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        refuse_strangers(request.headers(), person.shown).map_err(refuse)?;
    }
    request.extensions_mut().insert::<Person>(person);
    Ok(request)
}

/// The name and port that a request was sent to.
fn host(request: &Request) -> Option<String> {
    let of_header = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let of_uri = || request.uri().authority().map(|authority| authority.as_str());
    of_header.or_else(of_uri).map(str::to_owned)
}

/// Where the same is to be had over TLS.
fn to_https(request: &Request) -> Response {
    let what = "this address has certificates: ask for the same with https";
    let place = host(request).map(|host| format!("https://{host}{}", request.uri()));
    let place = place.and_then(|place| HeaderValue::from_str(&place).ok());
    match place {
        Some(place) if request.method() == Method::GET => {
            (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, place)], what).into_response()
        }
        _ => Problem::new(StatusCode::FORBIDDEN, what).into_response(),
    }
}

/// Whether no stranger's page can be found under a name: it is an address, has no dots, or is of a private domain.
fn is_private(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_of = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.is_empty()
        && (name.parse::<IpAddr>().is_ok() || !name.contains('.') || PRIVATE.iter().any(|domain| is_of(domain)))
}

/// Refuses a change that a page of another site may have asked for.
pub(super) fn refuse_strangers(headers: &HeaderMap, shown: Shown) -> Result<(), Problem> {
    let foreign = |what: String| Err(Problem::new(StatusCode::FORBIDDEN, what));
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site").filter(|site| !matches!(*site, "same-origin" | "none")) {
        return foreign(format!("a page of another site may not do this (Sec-Fetch-Site: {site})"));
    }
    if let Some(origin) = text(ORIGIN.as_str()) {
        let own = text(HOST.as_str()).unwrap_or_default();
        let from = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if own.is_empty() || from != Some(own) {
            return foreign("a page of another site may not do this (Origin)".into());
        }
    }
    if shown != Shown::Bearer && !headers.contains_key(OWN_HEADER) {
        return foreign(format!("send the header `{OWN_HEADER}: 1`, so that no other site's page can do this"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_strangers_can_have_are_known() {
        for own in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "localhost",
            "node7:80",
            "c.fleet.svc",
            "c.fleet.svc.cluster.local:9090",
            "10.0.0.3",
        ] {
            assert!(is_private(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "",
            ":80",
            "127.0.0.1.evil.example",
            "mylocal.evil",
        ] {
            assert!(!is_private(foreign), "{foreign}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let of = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        };
        let may = |pairs: &[(&'static str, &'static str)], shown| refuse_strangers(&of(pairs), shown).is_ok();
        let own = [("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin"), (OWN_HEADER, "1")];
        assert!(may(&own, Shown::Cookie) && may(&own, Shown::Nothing));
        assert!(!may(&own[..3], Shown::Cookie) && !may(&own[..3], Shown::Nothing), "without the header");
        assert!(may(&own[..3], Shown::Bearer) && may(&[], Shown::Bearer), "a program with a token");
        for (name, value) in
            [("origin", "http://evil"), ("origin", "null"), ("origin", "http://h:2"), ("sec-fetch-site", "cross-site")]
        {
            let mut headers = of(&own);
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            for shown in [Shown::Bearer, Shown::Cookie, Shown::Nothing] {
                assert!(refuse_strangers(&headers, shown).is_err(), "{name}: {value}");
            }
        }
        assert!(!may(&[("origin", "http://h:1"), (OWN_HEADER, "1")], Shown::Cookie), "nobody knows the own name");
    }
}
