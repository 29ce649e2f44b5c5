//! Stores to test on: memory, a folder, and whatever servers the environment names (`scripts/test-servers`).

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use bloctrain_store::{Artefacts, RetryPolicy};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::time::Duration;

/// A store of its own for one test; a folder lasts as long as this does.
pub struct Fresh {
    pub store: Artefacts,
    _folder: Option<tempfile::TempDir>,
}

/// Short pauses: the servers are on this machine.
pub fn impatient() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        ..RetryPolicy::default()
    }
}

/// Opens a backend by name; `None` when its server is not named, which is said.
pub fn open(backend: &str) -> Option<Fresh> {
    let prefix = format!("{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish());
    let (location, settings, folder) = match backend {
        "memory" => ("memory://".to_owned(), Vec::new(), None),
        "folder" => {
            let folder = tempfile::tempdir().expect("a folder");
            (folder.path().to_str().expect("utf-8").to_owned(), Vec::new(), Some(folder))
        }
        "minio" => (format!("s3://bloctrain-test/{prefix}"), s3(0)?, None),
        "moto" => (format!("s3://bloctrain-test/{prefix}"), s3(1)?, None),
        "azurite" => (format!("az://bloctrain-test/{prefix}"), azure()?, None),
        other => panic!("no backend is called {other}"),
    };
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let store = Artefacts::open_with(&location, &settings).expect("opens").with_retry(impatient());
    Some(Fresh { store, _folder: folder })
}

/// Settings of the S3 server at a place in `BLOCTRAIN_TEST_S3`.
pub fn s3(place: usize) -> Option<Vec<(&'static str, String)>> {
    let servers = variable("BLOCTRAIN_TEST_S3")?;
    let endpoint = servers.split(',').nth(place).expect("BLOCTRAIN_TEST_S3 names MinIO, then moto");
    Some(vec![
        ("AWS_ENDPOINT", endpoint.to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", variable("BLOCTRAIN_TEST_S3_KEY")?),
        ("AWS_SECRET_ACCESS_KEY", variable("BLOCTRAIN_TEST_S3_SECRET")?),
    ])
}

fn azure() -> Option<Vec<(&'static str, String)>> {
    let endpoint = format!("{}/devstoreaccount1", variable("BLOCTRAIN_TEST_AZURE")?);
    // The account and the key that every azurite has.
    let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    Some(vec![
        ("AZURE_STORAGE_ENDPOINT", endpoint),
        ("AZURE_ALLOW_HTTP", "true".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", key.to_owned()),
    ])
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if value.is_none() {
        assert!(
            std::env::var_os("BLOCTRAIN_REQUIRE_SERVERS").is_none(),
            "{name} is not set, and nothing may be skipped"
        );
        // Not `eprintln!`, which a test that passes keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {name} is not set; `eval \"$(scripts/test-servers start)\"` starts the servers and sets it"
        );
    }
    value
}
