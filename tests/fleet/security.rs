//! Who may speak with whom.

use crate::common::stderr;
use crate::process::Fleet;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::Path;

#[test]
fn beyond_this_machine_only_with_certificates_and_tokens() {
    let fleet = Fleet::new();
    let output = fleet.run(&["coordinator", "--store", "store", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--insecure") && stderr(&output).contains("--tls-cert"), "{}", stderr(&output));
    // The same for the address of the dashboard, which may stop runs as well.
    let output = fleet.run(&["coordinator", "--store", "store", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--insecure") && stderr(&output).contains("--tls-cert"), "{}", stderr(&output));
    let output = fleet.run(&["train", "--store", "store", "--http", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("reached from other machines") && stderr(&output).contains("ssh -L"),
        "{}",
        stderr(&output)
    );
}

/// Writes an authority, and a certificate of it for this machine, as `NAME.pem` and `NAME.key`.
pub(crate) fn certificates(folder: &Path, authority: &str, names: &[&str]) {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let own = params.self_signed(&key).expect("signed");
    std::fs::write(folder.join(format!("{authority}.pem")), own.pem()).expect("written");
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}

#[test]
fn a_fleet_with_mutual_tls_and_tokens_works_and_strangers_are_refused() {
    let mut fleet = Fleet::new();
    certificates(fleet.path(), "ca", &["server", "client"]);
    certificates(fleet.path(), "other", &["stranger"]);
    let token = |name: &str| format!("{name}-0123456789abcdef");
    for name in ["join", "viewer", "operator", "wrong"] {
        std::fs::write(fleet.path().join(name), format!("{}\n", token(name))).expect("written");
    }
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem"];
    let tokens = ["--join-token-file", "join", "--viewer-token-file", "viewer", "--operator-token-file", "operator"];
    let (coordinator, address) = fleet.coordinator("coordinator", &[tls, tokens].concat());
    let address = address.replace("http://", "https://");
    let connect = |token: &str, certificate: &str| -> Vec<String> {
        let (pem, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
        let args = [
            "--coordinator",
            &address,
            "--tls-ca",
            "ca.pem",
            "--tls-cert",
            &pem,
            "--tls-key",
            &key,
            "--token-file",
            token,
        ];
        args.map(str::to_owned).to_vec()
    };
    let with = |args: &[&str], token: &str, certificate: &str| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).chain(connect(token, certificate)).collect();
        fleet.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let submit = [&["submit"], crate::process::spec()].concat();
    assert!(stderr(&with(&submit, "viewer", "client")).contains("may only read"));
    assert!(stderr(&with(&["runs"], "wrong", "client")).contains("not one of this coordinator's"));
    assert!(
        stderr(&with(&["runs"], "join", "client")).contains("not one of this coordinator's"),
        "a join token reads nothing"
    );
    assert!(with(&["runs"], "viewer", "client").status.success());
    assert!(!with(&["runs"], "viewer", "stranger").status.success(), "a certificate of another authority");
    let worker = |token: &str| {
        ["worker", "--name", "w1"].map(str::to_owned).into_iter().chain(connect(token, "client")).collect()
    };
    let refused: Vec<String> = worker("operator");
    let refused = fleet.run(&refused.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(stderr(&refused).contains("the coordinator refuses this worker"), "{}", stderr(&refused));
    let submitted = with(&submit, "operator", "client");
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let run = String::from_utf8(submitted.stdout).expect("utf-8").trim().to_owned();
    let args: Vec<String> = worker("join");
    let watched = {
        let _worker = fleet.start("w1", &args.iter().map(String::as_str).collect::<Vec<_>>());
        let args: Vec<String> =
            ["watch", &run].map(str::to_owned).into_iter().chain(connect("viewer", "client")).collect();
        fleet.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(watched.status.success(), "{}", stderr(&watched));
    let found = std::fs::read(fleet.path().join("store/models").join(&run).join("model.safetensors")).expect("a model");
    assert!(found == crate::process::baseline());
    for name in ["join", "viewer", "operator", "wrong"] {
        assert!(!coordinator.log().contains(&token(name)), "a token was logged");
    }
}
