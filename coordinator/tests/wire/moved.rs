//! A store whose folder `state` was moved away, as the message about a damaged one advises.

use crate::server::Server;
use bloctrain_store::leader;

#[tokio::test]
async fn addresses_that_it_left_behind_stop_nobody() {
    let mut artefacts = Server::open().await.ready().await.close().await;
    for _ in 0..3 {
        artefacts = Server::start_on(artefacts, Default::default(), None, None).await.ready().await.close().await;
    }
    let before = leader::read(&artefacts).await.expect("read").expect("published");
    for (key, _) in artefacts.list("state").await.expect("lists") {
        artefacts.delete(&key).await.expect("moved away");
    }
    let server = Server::start_on(artefacts, Default::default(), None, None).await.ready().await;
    let run = server.submit(1).await.expect("submits");
    let mut turn = tokio::time::interval(std::time::Duration::from_millis(20));
    // It has counted once, so it has looked who else is there.
    let own = loop {
        turn.tick().await;
        match leader::read(&server.artefacts).await.expect("read") {
            Some(own) if own.beat > 0 && own.state != before.state => break own,
            _ => {}
        }
    };
    assert!(own.opening > before.opening, "its address is the newest: {own:?} after {before:?}");
    server.finish().await;
    assert_eq!(server.view(&run).await.run, run, "it goes on");
    server.close().await;
}
