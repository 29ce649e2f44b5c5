//! What people read when object storage is not as it should be: what is wrong, where, and what to do.

mod common;

use bloctrain_store::{Artefacts, ErrorKind, RetryPolicy, StoreError};
use std::time::Duration;

/// First contact with MinIO under other settings; `None` without a server.
async fn contact(location: &str, change: &[(&str, &str)]) -> Option<StoreError> {
    let settings = common::s3(0)?;
    let base = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let kept = base.filter(|(name, _)| change.iter().all(|(other, _)| other != name));
    let changed: Vec<(&str, &str)> =
        kept.chain(change.iter().copied()).filter(|(_, value)| !value.is_empty()).collect();
    let retry = RetryPolicy { patience: Duration::ZERO, ..common::impatient() };
    let store = match Artefacts::open_with(location, &changed) {
        Ok(store) => store.with_retry(retry),
        Err(error) => return Some(error),
    };
    Some(store.check_format().await.expect_err("it cannot be used"))
}

#[tokio::test]
async fn a_bucket_that_is_not_there() {
    let Some(error) = contact("s3://no-such-bucket/x", &[]).await else { return };
    assert!(matches!(&error, StoreError::NoBucket { .. }), "{error:?}");
    assert!(error.to_string().contains("s3://no-such-bucket/x") && error.to_string().contains("create it"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Fatal);
}

#[tokio::test]
async fn credentials_that_the_store_does_not_accept() {
    for change in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SKIP_SIGNATURE", "true")]
    {
        let Some(error) = contact("s3://bloctrain-test/x", &[change]).await else { return };
        assert!(matches!(&error, StoreError::Denied { .. }), "{change:?}: {error:?}");
        assert!(error.to_string().contains("check the credentials"), "{error}");
        assert!(!error.to_string().contains("wrong;"), "no secret is named: {error}");
        assert_eq!(error.kind(), ErrorKind::Fatal);
    }
}

#[tokio::test]
async fn half_of_the_credentials() {
    let Some(error) = contact("s3://bloctrain-test/x", &[("AWS_SECRET_ACCESS_KEY", "")]).await else { return };
    assert!(matches!(&error, StoreError::BadConfiguration { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_"), "{error}");
}

#[tokio::test]
async fn no_credentials_at_all() {
    // Without keys, the machine's role is asked for; nothing answers at this address.
    let settings = [
        ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/latest/meta-data"),
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ("AWS_CONFIG_FILE", "/nowhere"),
    ];
    let store = Artefacts::open_with("s3://bucket/x", &settings).expect("nothing is sent yet");
    let retry = RetryPolicy { patience: Duration::ZERO, ..common::impatient() };
    let error = store.with_retry(retry).check_format().await.expect_err("no credentials");
    assert!(matches!(&error, StoreError::NoCredentials { .. } | StoreError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_where_nothing_answers() {
    let settings = [
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let store = Artefacts::open_with("s3://bucket/x", &settings).expect("nothing is sent yet");
    let retry = RetryPolicy { patience: Duration::ZERO, ..common::impatient() };
    let error = store.with_retry(retry).check_format().await.expect_err("nothing listens");
    assert!(matches!(&error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_ENDPOINT"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Retry);
}

#[test]
fn settings_that_a_store_does_not_have() {
    let error = Artefacts::open_with("s3://bucket/x", &[("AWS_NONSENSE", "1")]).expect_err("no such setting");
    assert!(
        matches!(&error, StoreError::BadConfiguration { .. }) && error.to_string().contains("aws_nonsense"),
        "{error}"
    );
}
