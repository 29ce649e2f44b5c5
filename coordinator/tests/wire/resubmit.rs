//! The same run, submitted again with its data at another place.

use crate::server::Server;
use bloctrain_proto::convert::to_json;
use bloctrain_proto::v1::SubmitRequest;
use bloctrain_proto::v1::run_service_client::RunServiceClient;

/// A coordinator that was replaced may still be about to write a specification: it may take the place of no other.
#[tokio::test]
async fn a_specification_is_never_written_over() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let specs = async || server.artefacts.list(&format!("runs/{run}")).await.expect("lists");
    let before = specs().await;
    let content = server.artefacts.get_unverified(&before[0].0).await.expect("read");
    let mut moved = crate::fleet::submission(1, 2, 0);
    moved.spec.data.dir = Some("/elsewhere".into());
    let request = SubmitRequest { submission_json: to_json(&moved) };
    let again = RunServiceClient::new(server.channel.clone()).submit(request).await.expect("submits").into_inner().run;
    assert_eq!(again, run, "the place of the data is not part of a run");
    let after = specs().await;
    assert_eq!((before.len(), after.len()), (1, 2), "{after:?}");
    assert_eq!(server.artefacts.get_unverified(&before[0].0).await, Ok(content), "as it was");
    server.finish().await;
    server.close().await;
}
