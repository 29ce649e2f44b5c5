//! Work that is longer than a message may be.

use crate::server::Server;
use bloctrain_proto::convert::from_grant;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{LeaseRequest, SubmitRequest};
use bloctrain_shared::task::{ObjectRef, Work};

#[tokio::test]
async fn it_goes_through_the_store() {
    let server = Server::terse().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let worker = server.register("w").await;
    let answer = server.workers().lease(LeaseRequest { worker, wait_ms: 0 }).await.expect("answers").into_inner();
    let mut grant = answer.grant.expect("a task");
    assert!(grant.work_json.is_empty(), "it does not fit");
    let object: ObjectRef = grant.work.take().expect("an object").try_into().expect("a reference");
    assert!(object.key.starts_with(&format!("runs/{run}/work-")), "{}", object.key);
    let bytes = server.artefacts.get(&object).await.expect("stored");
    grant.work_json = String::from_utf8(bytes.to_vec()).expect("text");
    let (task, _) = from_grant(grant).expect("a grant");
    assert!(matches!(task.work, Work::Train(_)));
    server.close().await;
}

#[tokio::test]
async fn what_no_report_could_hold_is_refused_at_submission() {
    let server = Server::open().await.ready().await;
    let mut submission = serde_json::to_value(crate::fleet::submission(1, 1, 0)).expect("serialises");
    submission["spec"]["network"]["preset"] = "vgg16".into();
    submission["dataset"]["shape"] = serde_json::json!({ "channels": 3, "height": 32, "width": 32 });
    submission["dataset"]["classes"] = (0..60_000).map(|class| format!("{class}")).collect::<Vec<_>>().into();
    let request = SubmitRequest { submission_json: submission.to_string() };
    let refused =
        RunServiceClient::new(server.channel.clone()).submit(request).await.expect_err("too many").message().to_owned();
    assert!(refused.contains("60000 classes"), "{refused}");
    server.close().await;
}
