//! More connections than a coordinator takes.

use crate::server::{Server, log};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_proto::v1::{GetStatusRequest, ListRunsRequest};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

async fn connect(server: &Server) -> Option<Channel> {
    Endpoint::from_shared(server.address.clone()).expect("an address").connect().await.ok()
}

async fn call(channel: &Channel) -> Result<(), Status> {
    RunServiceClient::new(channel.clone()).list_runs(ListRunsRequest::default()).await.map(|_| ())
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_has_its_turn_when_another_goes() {
    // One of them is the server's own, which looks at it.
    let server = Server::narrow(3).await.ready().await;
    let mut within = Vec::new();
    for _ in 0..2 {
        within.push(connect(&server).await.expect("connects"));
        call(&within[within.len() - 1]).await.expect("answered");
    }
    let surplus = connect(&server).await.expect("connects");
    let refused = call(&surplus).await.expect_err("one too many");
    assert_eq!(
        (refused.code(), refused.message().contains("--max-connections")),
        (Code::ResourceExhausted, true),
        "{refused}"
    );
    assert!(log().contains("a connection is one too many"), "it is logged");
    call(&within[0]).await.expect("the others are answered as before");
    let mut own = RunServiceClient::new(within[0].clone());
    let status = own.get_status(GetStatusRequest {}).await.expect("answered").into_inner();
    assert_eq!((status.connections, status.connections_refused), (4, 1), "it is counted");
    drop(within.pop());
    let mut turn = tokio::time::interval(Duration::from_millis(5));
    loop {
        turn.tick().await;
        let next = connect(&server).await.expect("connects");
        if call(&next).await.is_ok() {
            break;
        }
    }
    server.close().await;
}

#[tokio::test]
async fn connections_far_above_the_limit_are_closed_and_those_within_go_on() {
    let server = Server::narrow(1).await.ready().await;
    let mut open = Vec::new();
    let (mut refused, mut closed) = (0, 0);
    for _ in 0..80 {
        match connect(&server).await {
            Some(channel) => {
                match call(&channel).await.map_err(|status| status.code()) {
                    Err(Code::ResourceExhausted) => refused += 1,
                    Err(_) => closed += 1,
                    Ok(()) => panic!("the place was taken"),
                }
                open.push(channel);
            }
            None => closed += 1,
        }
    }
    assert_eq!((refused, closed), (64, 16));
    server.state().await;
    server.close().await;
}

/// A flood of connections that say nothing: people and workers are let in all the same.
#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let server = Server::narrow(16).await.ready().await;
    let address = server.address.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..10 {
        for _ in 0..40 {
            silent.push(tokio::net::TcpStream::connect(&address).await.expect("listens"));
        }
        let channel = connect(&server).await.expect("connects");
        call(&channel).await.expect("let in");
    }
    let mut own = RunServiceClient::new(server.channel.clone());
    let status = own.get_status(GetStatusRequest {}).await.expect("answered").into_inner();
    assert_eq!(status.connections_refused, 0, "nobody was one too many");
    server.close().await;
}
