//! Which token opens which call: a table over all of them.

use crate::server::{Server, bearer, calls, log, token};
use bytes::Bytes;
use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Everybody.
    Anybody,
    /// Whoever has a join token.
    Workers,
    /// Whoever may read.
    Readers,
    /// Whoever may do everything.
    Operators,
}

/// The whole surface of a coordinator.
const TABLE: [(&str, Who); 22] = [
    ("/bloctrain.v1.WorkerService/Register", Who::Workers),
    ("/bloctrain.v1.WorkerService/Lease", Who::Workers),
    ("/bloctrain.v1.WorkerService/Heartbeat", Who::Workers),
    ("/bloctrain.v1.WorkerService/Complete", Who::Workers),
    ("/bloctrain.v1.WorkerService/Leave", Who::Workers),
    ("/bloctrain.v1.RunService/Submit", Who::Operators),
    ("/bloctrain.v1.RunService/GetRun", Who::Readers),
    ("/bloctrain.v1.RunService/GetHistory", Who::Readers),
    ("/bloctrain.v1.RunService/ListRuns", Who::Readers),
    ("/bloctrain.v1.RunService/WatchRun", Who::Readers),
    ("/bloctrain.v1.RunService/CancelRun", Who::Operators),
    ("/bloctrain.v1.RunService/PauseRun", Who::Operators),
    ("/bloctrain.v1.RunService/ResumeRun", Who::Operators),
    ("/bloctrain.v1.RunService/DeleteRun", Who::Operators),
    ("/bloctrain.v1.RunService/StreamLog", Who::Readers),
    ("/bloctrain.v1.RunService/ListWorkers", Who::Readers),
    ("/bloctrain.v1.RunService/GetFleet", Who::Readers),
    ("/bloctrain.v1.RunService/GetStatus", Who::Readers),
    ("/grpc.health.v1.Health/Check", Who::Anybody),
    ("/grpc.health.v1.Health/Watch", Who::Anybody),
    ("/grpc.health.v1.Health/List", Who::Anybody),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Who::Readers),
];

/// Headers, and what their bearers may do.
fn shown() -> Vec<(Option<MetadataValue<Ascii>>, &'static [Who])> {
    let nothing: &[Who] = &[Who::Anybody];
    let plain = |text: &str| text.parse::<MetadataValue<Ascii>>().expect("a header");
    let strange = MetadataValue::try_from(b"Bearer \xff\xfe0123456789abcdef".as_slice()).expect("a header");
    vec![
        (None, nothing),
        (Some(plain("")), nothing),
        (Some(plain("Bearer")), nothing),
        (Some(plain("Bearer ")), nothing),
        (Some(strange), nothing),
        (Some(bearer(&token("wrong"))), nothing),
        (Some(bearer(&token("old"))), nothing),
        (Some(bearer("")), nothing),
        (Some(bearer(&token("operator")[..15])), nothing),
        (Some(bearer(&format!("{} ", token("operator")))), nothing),
        (Some(bearer(&format!("{},{}", token("join"), token("operator")))), nothing),
        (Some(plain(&format!("Basic {}", token("operator")))), nothing),
        (Some(plain(&token("operator"))), nothing),
        (Some(bearer(&token("join"))), &[Who::Anybody, Who::Workers]),
        (Some(bearer(&token("join2"))), &[Who::Anybody, Who::Workers]),
        (Some(bearer(&token("viewer"))), &[Who::Anybody, Who::Readers]),
        (Some(bearer(&token("operator"))), &[Who::Anybody, Who::Readers, Who::Operators]),
    ]
}

#[tokio::test]
async fn every_token_opens_its_own_calls_only() {
    let server = Server::guarded().await.ready().await;
    let named: Vec<&str> = TABLE.iter().map(|(path, _)| *path).collect();
    assert!(calls().iter().all(|path| named.contains(&path.as_str())), "a call is not in the table: {:?}", calls());
    server.submit(1).await.expect("an operator");
    let before = server.state().await;
    for (path, who) in TABLE {
        for (header, may) in shown() {
            let shown = header.clone();
            // An empty message is a valid one of every call; what it asks for is not there.
            let code = server.call(path, header, Bytes::new()).await.err().map_or(Code::Ok, |status| status.code());
            let refused = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
            assert_eq!(!refused, may.contains(&who), "{path} with {shown:?}: {code:?}");
            if refused {
                let reads = may.contains(&Who::Readers) && !path.contains("WorkerService");
                assert_eq!(code == Code::PermissionDenied, reads, "{path} with {shown:?}: {code:?}");
            }
        }
    }
    assert_eq!(server.state().await, before, "a refused call changed something");
    assert!(log().contains("a call was refused") && log().contains("/bloctrain.v1.WorkerService/Register"));
    for secret in ["join", "viewer", "operator", "wrong"] {
        assert!(!log().contains(&token(secret)), "a token was logged");
    }
    server.close().await;
}
