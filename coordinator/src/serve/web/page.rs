//! Files: the dashboard's, and the description of the API.

use super::answer::Problem;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bloctrain_dashboard::{Asset, asset as find};
use bloctrain_shared::Digest;

/// The API for programs; a test compares it with answers.
const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// A file; browsers keep it and ask whether it is still the same.
fn send(headers: &HeaderMap, media: &'static str, bytes: &'static [u8]) -> Response {
    let tag = format!("\"{}\"", Digest::of(bytes).short(16));
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [(ETAG, tag), (CACHE_CONTROL, "no-cache".to_owned()), (CONTENT_TYPE, media.to_owned())];
    if is_known { (StatusCode::NOT_MODIFIED, head).into_response() } else { (head, bytes).into_response() }
}

pub(super) async fn openapi(headers: HeaderMap) -> Response {
    send(&headers, "application/json", OPENAPI)
}

pub(super) async fn index(headers: HeaderMap) -> Response {
    asset(Path("index.html".to_owned()), headers).await
}

pub(super) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    match find(&file) {
        Some(Asset { media, bytes, .. }) => send(&headers, media, bytes),
        None => nothing().await.into_response(),
    }
}

pub(super) async fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path; the API is below /api/v1")
}
