//! Preemption notices, against imitations of the three clouds' metadata services on a local port.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use bloctrain_operations::notice::{Cloud, Metadata};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// Whether the imitated machine will be taken away.
type Goes = Arc<AtomicBool>;

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|given| given == value)
}

async fn aws_token(headers: HeaderMap) -> Result<&'static str, StatusCode> {
    let is_asked_well = has(&headers, "x-aws-ec2-metadata-token-ttl-seconds", "60");
    is_asked_well.then_some("TOKEN==").ok_or(StatusCode::BAD_REQUEST)
}

async fn aws_action(State(goes): State<Goes>, headers: HeaderMap) -> Result<&'static str, StatusCode> {
    if !has(&headers, "x-aws-ec2-metadata-token", "TOKEN==") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let action = r#"{"action": "terminate", "time": "2026-09-18T08:22:00Z"}"#;
    goes.load(Ordering::Relaxed).then_some(action).ok_or(StatusCode::NOT_FOUND)
}

/// EC2: version 2 of the service, which wants a token that was asked for with PUT.
fn aws() -> Router<Goes> {
    Router::new()
        .route("/latest/api/token", put(aws_token))
        .route("/latest/meta-data/spot/instance-action", get(aws_action))
}

async fn gcp_preempted(State(goes): State<Goes>, headers: HeaderMap) -> Result<&'static str, StatusCode> {
    let is_asked_well = has(&headers, "metadata-flavor", "Google");
    let answer = if goes.load(Ordering::Relaxed) { "TRUE" } else { "FALSE" };
    is_asked_well.then_some(answer).ok_or(StatusCode::FORBIDDEN)
}

fn gcp() -> Router<Goes> {
    Router::new().route("/computeMetadata/v1/instance/preempted", get(gcp_preempted))
}

async fn azure_events(State(goes): State<Goes>, headers: HeaderMap) -> Result<String, StatusCode> {
    let event = |kind: &str, machine: &str| {
        format!(r#"{{"EventId": "1", "EventStatus": "Scheduled", "EventType": "{kind}", "Resources": ["{machine}"]}}"#)
    };
    let mut events = vec![event("Preempt", "pool_7"), event("Reboot", "pool_3")];
    if goes.load(Ordering::Relaxed) {
        events.push(event("Preempt", "pool_3"));
    }
    let document = format!(r#"{{"DocumentIncarnation": 2, "Events": [{}]}}"#, events.join(","));
    has(&headers, "metadata", "true").then_some(document).ok_or(StatusCode::BAD_REQUEST)
}

async fn azure_name() -> &'static str {
    "pool_3"
}

/// Azure: another machine of the scale set is taken away first.
fn azure() -> Router<Goes> {
    Router::new()
        .route("/metadata/scheduledevents", get(azure_events))
        .route("/metadata/instance/compute/name", get(azure_name))
}

async fn serve(service: Router<Goes>) -> (String, Goes) {
    let goes = Goes::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let service = service.with_state(Arc::clone(&goes));
    tokio::spawn(async move { axum::serve(listener, service).await });
    (address, goes)
}

async fn is_leaving(metadata: &Metadata) -> bool {
    let metadata = metadata.clone();
    tokio::task::spawn_blocking(move || metadata.is_leaving()).await.expect("asked").expect("answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cloud_s_notice_is_heard_and_nothing_else() {
    for (cloud, service) in [(Cloud::Aws, aws()), (Cloud::Gcp, gcp()), (Cloud::Azure, azure())] {
        let (address, goes) = serve(service).await;
        let metadata = Metadata::new(cloud, Some(&address));
        assert!(!is_leaving(&metadata).await, "{cloud}: nothing was said yet");
        let notice = tokio::spawn({
            let metadata = metadata.clone();
            async move { metadata.notice().await }
        });
        goes.store(true, Ordering::Relaxed);
        assert!(is_leaving(&metadata).await, "{cloud}");
        notice.await.expect("the notice was heard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_an_error_and_no_notice() {
    let (address, goes) = serve(gcp()).await;
    goes.store(true, Ordering::Relaxed);
    for cloud in [Cloud::Aws, Cloud::Azure] {
        let metadata = Metadata::new(cloud, Some(&address));
        let answer = tokio::task::spawn_blocking(move || metadata.is_leaving()).await.expect("asked");
        assert!(answer.expect_err("another cloud's service").to_string().contains("404"), "{cloud}");
    }
    assert!("ibm".parse::<Cloud>().is_err() && "gcp".parse() == Ok(Cloud::Gcp));
}
