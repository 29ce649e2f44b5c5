//! What processes have for whoever operates them: settings by the environment, health, metrics, secrets that change,
//! identities, preemption notices.

use crate::common::stderr;
use crate::process::{Fleet, Process, baseline, spec, wait_until};
use crate::security::certificates;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The body of a page.
fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// A field of the JSON that a process prints first, once it does.
fn said(process: &Process, field: &str) -> String {
    let mut found = None;
    wait_until("the process says where it is", || {
        let said: Option<serde_json::Value> =
            process.out().lines().next().and_then(|line| serde_json::from_str(line).ok());
        found = said.and_then(|said| said[field].as_str().map(str::to_owned));
        found.is_some()
    });
    found.expect("waited for")
}

#[test]
fn health_and_metrics_tell_an_active_coordinator_from_one_that_stands_by() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &["--http", "127.0.0.1:0"]);
    coordinator.wait_for(&["is active"]);
    let (standby, _) = fleet.coordinator("standby", &["--http", "127.0.0.1:0", "--standby"]);
    let (active, waiting) = (said(&coordinator, "http"), said(&standby, "http"));
    let is = |address: &str, question: &str| fleet.run(&["health", address, "--is", question]);
    wait_until("the standby is ready", || is(&waiting, "ready").status.success());
    assert!(["live", "ready", "active"].into_iter().all(|question| is(&active, question).status.success()));
    let address_of_all = active.replace("127.0.0.1", "0.0.0.0");
    let asked = fleet.run_with(&["health"], &[("BLOCTRAIN_HTTP", &address_of_all)]);
    assert!(asked.status.success(), "as a probe's command in the same container");
    let refused = is(&waiting, "active");
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("stands by"), "{}", stderr(&refused));
    let run = fleet.submit(&address);
    let metrics = page(&active, "/metrics");
    assert!(metrics.contains("bloctrain_tasks_stranded{backend=\"any\"} 1.0"), "{metrics}");
    let shown = fleet.run(&["show", &run, "--coordinator", &address]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("nobody can work on it: no worker has joined this fleet"), "{shown}");
}

#[test]
fn a_worker_is_told_everything_by_its_environment_and_takes_its_own_place_again() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let settings = [
        ("BLOCTRAIN_COORDINATOR", address.as_str()),
        ("BLOCTRAIN_IDENTITY", "pod-1"),
        ("BLOCTRAIN_POD", "worker-abc"),
        ("BLOCTRAIN_HTTP", "127.0.0.1:0"),
        ("BLOCTRAIN_LOG_FORMAT", "json"),
        ("BLOCTRAIN_GRACE", "5s"),
    ];
    let run = fleet.submit(&address);
    let mut first = fleet.start_with("first", &["worker"], &settings);
    first.wait_for(&["\"pod\":\"worker-abc\"", "a task begins"]);
    first.kill();
    let mut second = fleet.start_with("second", &["worker"], &settings);
    // Not when the lease ends.
    coordinator.wait_for(&["registered anew"]);
    let http = said(&second, "http");
    let health = |question: &str| fleet.run(&["health", &http, "--is", question]);
    wait_until("the worker is ready", || health("ready").status.success());
    assert!(health("live").status.success() && health("active").status.success());
    fleet.finish(&run, "a worker was started again under its identity");
    let metrics = page(&http, "/metrics");
    for part in ["bloctrain_worker_registered 1.0", "bloctrain_worker_tasks_total{stage=\"train\",result=\"done\"}"] {
        assert!(metrics.contains(part), "{part} in\n{metrics}");
    }
    second.signal("-TERM");
    wait_until("the worker left", || second.child.try_wait().expect("a child").is_some());
}

/// A metadata service that says, once it is told to, that the machine goes.
fn metadata() -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, goes) =
        (format!("http://{}", listener.local_addr().expect("bound")), Arc::new(AtomicBool::new(false)));
    let says = Arc::clone(&goes);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            let asks_well =
                String::from_utf8_lossy(&request[..read]).to_lowercase().contains("metadata-flavor: google");
            let answer = if says.load(Ordering::Relaxed) && asks_well { "TRUE" } else { "FALSE" };
            let length = answer.len();
            // The worker may have gone meanwhile.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        }
    });
    (address, goes)
}

#[test]
fn a_worker_hands_back_at_its_cloud_s_notice_and_stays_until_the_machine_goes() {
    let mut fleet = Fleet::new();
    let (mut coordinator, address) = fleet.coordinator("coordinator", &[]);
    let (service, goes) = metadata();
    let more = ["--preemption", "gcp", "--metadata", &service];
    let mut spot = fleet.start("spot", &[&["worker", "--coordinator", &address, "--name", "spot"][..], &more].concat());
    let run = fleet.submit(&address);
    coordinator.wait_for(&["handed out", "spot"]);
    goes.store(true, Ordering::Relaxed);
    spot.wait_for(&["waiting for the machine to be taken away"]);
    assert!(spot.child.try_wait().expect("a child").is_none(), "it would be started again on the same machine");
    let _other = fleet.worker("other", &address);
    fleet.finish(&run, "a machine was taken away");
    spot.signal("-TERM");
    wait_until("the worker ended", || spot.child.try_wait().expect("a child").is_some());
}

#[test]
fn a_coordinator_takes_a_new_token_without_a_restart() {
    let mut fleet = Fleet::new();
    let write = |fleet: &Fleet, text: &str| std::fs::write(fleet.path().join("viewer"), text).expect("written");
    write(&fleet, "old-0123456789abcdef\n");
    let (mut coordinator, address) = fleet.coordinator("coordinator", &["--viewer-token-file", "viewer"]);
    coordinator.wait_for(&["is active"]);
    std::fs::write(fleet.path().join("new"), "new-0123456789abcdef").expect("written");
    let runs = |fleet: &Fleet| fleet.run(&["runs", "--coordinator", &address, "--token-file", "new"]).status.success();
    assert!(!runs(&fleet), "the token is not known yet");
    write(&fleet, "old-0123456789abcdef\nnew-0123456789abcdef\n");
    coordinator.wait_for(&["changed and are used from now on"]);
    assert!(runs(&fleet));
    write(&fleet, "\n");
    coordinator.wait_for(&["everybody would be let in"]);
    assert!(runs(&fleet), "an empty file changes nothing");
}

const OLD: &str = "old-0123456789abcdef";
const NEW: &str = "new-0123456789abcdef";

/// Puts other secrets in place, as a kubelet does: by one link to another folder.
fn place(fleet: &Fleet, version: &str, authority: &str, join: &str, token: &str) {
    let folder = fleet.path().join(version);
    std::fs::create_dir(&folder).expect("made");
    for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        std::fs::copy(fleet.path().join(authority).join(name), folder.join(name)).expect("copied");
    }
    std::fs::write(folder.join("join"), join).expect("written");
    std::fs::write(folder.join("token"), token).expect("written");
    std::os::unix::fs::symlink(version, fleet.path().join("link")).expect("linked");
    std::fs::rename(fleet.path().join("link"), fleet.path().join("secrets")).expect("in place");
}

fn took(process: &Process, times: usize) {
    let what = format!("{} takes changed secrets for the {times}. time", process.name);
    wait_until(&what, || process.log().matches("changed and are used from now on").count() >= times);
}

#[test]
fn a_fleet_goes_over_to_other_certificates_and_tokens_while_it_works() {
    let mut fleet = Fleet::new();
    for authority in ["first", "second"] {
        std::fs::create_dir(fleet.path().join(authority)).expect("made");
        certificates(&fleet.path().join(authority), "ca", &["server", "client"]);
    }
    place(&fleet, "1", "first", OLD, OLD);
    let serves =
        ["--tls-cert", "secrets/server.pem", "--tls-key", "secrets/server.key", "--tls-client-ca", "secrets/ca.pem"];
    let serves = [&serves[..], &["--join-token-file", "secrets/join"]].concat();
    let calls = ["--tls-ca", "secrets/ca.pem", "--tls-cert", "secrets/client.pem", "--tls-key", "secrets/client.key"];
    let calls = [&["--store", "store"][..], &calls].concat();
    let (mut coordinator, _) = fleet.coordinator("coordinator", &serves);
    coordinator.wait_for(&["is active"]);
    let mut worker =
        fleet.start("worker", &[&["worker", "--name", "w", "--token-file", "secrets/token"][..], &calls].concat());
    worker.wait_for(&["registered"]);
    place(&fleet, "2", "second", &format!("{OLD}\n{NEW}\n"), OLD);
    took(&coordinator, 1);
    took(&worker, 1);
    place(&fleet, "3", "second", &format!("{OLD}\n{NEW}\n"), NEW);
    took(&worker, 2);
    place(&fleet, "4", "second", NEW, NEW);
    took(&coordinator, 2);
    coordinator.kill();
    // It has to connect again, with what it has by now.
    let (mut other, _) = fleet.coordinator("other", &serves);
    other.wait_for(&["a worker registered"]);
    let submitted = fleet.run(&[&["submit"][..], spec(), &calls[..]].concat());
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let run = String::from_utf8(submitted.stdout).expect("utf-8").trim().to_owned();
    let watched = fleet.run(&[&["watch", &run][..], &calls].concat());
    assert!(watched.status.success(), "{}", stderr(&watched));
    assert!(fleet.weights(&run) == baseline(), "other weights than undisturbed");
    assert!(worker.child.try_wait().expect("a child").is_none(), "it went on all the time");
}

#[test]
fn training_in_one_process_is_shown_at_an_address_of_this_machine() {
    let mut fleet = Fleet::new();
    let long =
        ["train", "--store", "shown", "--http", "127.0.0.1:0", "--set", "network.width=4", "--set", "train.epochs=200"];
    let process = fleet.start("train", &long);
    let mut address = None;
    wait_until("it says where it can be looked at", || {
        address = process
            .log()
            .lines()
            .find_map(|line| line.split_once("http://").map(|(_, address)| address.trim().to_owned()));
        address.is_some()
    });
    let address = address.expect("waited for");
    assert!(page(&address, "/").contains("<title>bloctrain</title>"));
    wait_until("the run is shown", || page(&address, "/api/v1/runs").contains("\"state\":\"running\""));
    wait_until("its first epoch is shown", || {
        let runs = page(&address, "/api/v1/runs");
        let run = runs.split("\"run\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a run").to_owned();
        page(&address, &format!("/api/v1/runs/{run}/history")).contains("\"epoch\":1")
    });
}
