//! Who may connect at all: certificates of other authorities, expired ones, wrong names, none.

use crate::server::{Server, token};
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::server::Tls;
use bloctrain_proto::dial::{Dialer, Trust};
use bloctrain_proto::v1::ListRunsRequest;
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tonic::{Code, Status};

/// A certificate and its key, as PEM.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// An authority that signs for this test.
pub(crate) struct Authority {
    pub(crate) pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem().into_bytes();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}

fn later(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(4001, 1, 1);
    params.not_after = date_time_ymd(4002, 1, 1);
}

/// One call with some certificates and a token.
pub(crate) async fn list(
    address: &str,
    ca: &Authority,
    identity: Option<&Pair>,
    name: Option<&str>,
    token: &str,
) -> Result<(), Status> {
    let trust = Trust {
        ca: Some(ca.pem.clone()),
        identity: identity.cloned(),
        name: name.map(str::to_owned),
        is_insecure: false,
    };
    // A certificate with the key of another fails before anything is sent.
    let refuse = |error: bloctrain_proto::dial::DialError| Status::unavailable(error.to_string());
    let mut dialer = Dialer::new(vec![address.to_owned()], trust, Some(token), 1).map_err(refuse)?;
    let link = dialer.next().await.map_err(refuse)?;
    RunServiceClient::new(link).list_runs(ListRunsRequest::default()).await.map(drop)
}

async fn guarded(certificate: Pair, client_ca: Option<&Authority>) -> (Server, String) {
    let access = Access::new(&[token("join")], &[token("viewer")], &[token("operator")]).expect("long enough");
    let tls = Tls { certificate: certificate.0, key: certificate.1, client_ca: client_ca.map(|ca| ca.pem.clone()) };
    let server = Server::start(access, Some(tls), None).await;
    let address = server.address.replace("http://", "https://");
    (server, address)
}

/// Waits until the coordinator is active for one who may call it.
async fn until_ready(address: &str, ca: &Authority, identity: Option<&Pair>) {
    let mut turn = tokio::time::interval(std::time::Duration::from_millis(10));
    for _ in 0..1_000 {
        turn.tick().await;
        match list(address, ca, identity, None, &token("viewer")).await {
            Ok(()) => return,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    panic!("the right certificates do not connect");
}

#[tokio::test]
async fn strangers_do_not_connect_under_mutual_tls() {
    let (ours, other) = (Authority::new(), Authority::new());
    let client = ours.sign("client", |_| {});
    let (server, address) = guarded(ours.sign("127.0.0.1", |_| {}), Some(&ours)).await;
    until_ready(&address, &ours, Some(&client)).await;
    let strangers = [
        ("a certificate of another authority", Some(other.sign("client", |_| {}))),
        ("an expired certificate", Some(ours.sign("client", expired))),
        ("a certificate of the future", Some(ours.sign("client", later))),
        ("the certificate of ours with the key of another", Some((client.0.clone(), other.sign("client", |_| {}).1))),
        ("no certificate", None),
    ];
    for (what, identity) in &strangers {
        let answer = list(&address, &ours, identity.as_ref(), None, &token("operator")).await;
        // The handshake fails, so there is no answer at all: not even a good token helps.
        assert!(matches!(answer.map_err(|status| status.code()), Err(Code::Unavailable | Code::Unknown)), "{what}");
    }
    let plain = list(&server.address, &ours, None, None, &token("operator")).await;
    assert!(plain.is_err(), "plain text on a port with TLS");
    let wrong = list(&address, &ours, Some(&client), None, &token("wrong")).await;
    assert_eq!(wrong.expect_err("a wrong token").code(), Code::Unauthenticated, "a certificate alone opens nothing");
    list(&address, &ours, Some(&client), None, &token("viewer")).await.expect("and the right ones still do");
    server.close().await;
}

#[tokio::test]
async fn clients_do_not_speak_with_a_strange_coordinator() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (server, address) = guarded(ours.sign("127.0.0.1", |_| {}), None).await;
    until_ready(&address, &ours, None).await;
    assert!(list(&address, &other, None, None, &token("viewer")).await.is_err(), "an authority that we do not trust");
    assert!(list(&address, &ours, None, Some("fleet.example.org"), &token("viewer")).await.is_err(), "another name");
    server.close().await;
    for (what, certificate, name) in [
        ("a certificate for another name", ours.sign("fleet.example.org", |_| {}), None),
        ("an expired certificate", ours.sign("127.0.0.1", expired), None),
        ("a certificate of another authority", other.sign("127.0.0.1", |_| {}), None),
        ("a certificate by its own name", ours.sign("fleet.example.org", |_| {}), Some("fleet.example.org")),
    ] {
        let (server, address) = guarded(certificate, None).await;
        let mut turn = tokio::time::interval(std::time::Duration::from_millis(10));
        let mut answers = Vec::new();
        // While it opens its state, a coordinator answers that it stands by.
        for _ in 0..100 {
            turn.tick().await;
            answers.push(list(&address, &ours, None, name, &token("viewer")).await.is_ok());
            if answers.last() == Some(&true) {
                break;
            }
        }
        assert_eq!(answers.last().copied().unwrap_or_default(), name.is_some(), "{what}");
        server.close().await;
    }
}
