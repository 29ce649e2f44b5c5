//! More runs than fit into one answer.

use crate::server::Server;
use bloctrain_proto::convert::from_json;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{GetHistoryRequest, ListRunsRequest};
use bloctrain_shared::key;
use bloctrain_shared::view::RunView;
use std::collections::BTreeSet;

#[tokio::test]
async fn every_run_is_on_one_page() {
    let server = Server::open().await.ready().await;
    let mut submitted = BTreeSet::new();
    for seed in 0..120 {
        submitted.insert(server.submit(seed).await.expect("submits"));
    }
    for (page_size, pages) in [(0, 2), (7, 18), (120, 2), (u32::MAX, 2)] {
        let (mut found, mut after) = (Vec::new(), String::new());
        for page in 1.. {
            let request = ListRunsRequest { page_size, after };
            let answer =
                RunServiceClient::new(server.channel.clone()).list_runs(request).await.expect("answers").into_inner();
            assert!(answer.view_json.len() <= 100, "a page is never larger, whatever is asked");
            found.extend(answer.view_json.iter().map(|json| from_json::<RunView>(json).expect("a view").run));
            after = answer.next;
            if after.is_empty() {
                assert_eq!(page, pages, "pages of {page_size}");
                break;
            }
        }
        assert_eq!(found.len(), submitted.len(), "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), submitted);
    }
    server.close().await;
}

#[tokio::test]
async fn a_history_is_told_as_it_is_written() {
    let server = Server::open().await.ready().await;
    let run = server.submit(1).await.expect("submits");
    server.finish_run(&run).await;
    let ask = async |run: &str, skip: u32| {
        let request = GetHistoryRequest { run: run.to_owned(), skip };
        RunServiceClient::new(server.channel.clone()).get_history(request).await.map(tonic::Response::into_inner)
    };
    let all = ask(&run, 0).await.expect("a history");
    assert!(all.line_json.len() >= 2 && all.next == 0, "{all:?}");
    assert_eq!(ask(&run, 1).await.expect("the rest").line_json, all.line_json[1..]);
    assert_eq!(ask(&run, u32::MAX).await.expect("nothing").line_json, [] as [String; 0]);
    assert_eq!(ask("r0", 0).await.expect_err("no run").code(), tonic::Code::NotFound);
    let store = server.close().await;
    let file = store.get_unverified(&key::model(&run, key::HISTORY)).await.expect("written before it closes");
    let text = String::from_utf8(file.to_vec()).expect("text");
    assert_eq!(text.lines().collect::<Vec<_>>(), all.line_json);
}
