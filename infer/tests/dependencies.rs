//! What a program that only answers, and one that only decides, do not link.

use std::path::Path;
use std::process::Command;

/// Names of all crates that a package links, its own among them.
fn linked(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "--format", "{lib}", "--edges", "normal", "--package", package])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

fn links_none_of(package: &str, banned: &[&str]) {
    let linked = linked(package);
    assert!(linked.iter().any(|name| name == "bloctrain_shared"), "{package}: {linked:?}");
    for banned in banned {
        let found = linked.iter().find(|name| name == banned || name.starts_with(&format!("{banned}_")));
        assert_eq!(found, None, "{package}");
    }
}

#[test]
fn inference_links_no_tensor_library_no_runtime_and_no_network() {
    for package in ["bloctrain-infer", "bloctrain-kernel"] {
        links_none_of(package, &["burn", "cubecl", "tokio", "tonic", "hyper", "object_store", "reqwest", "slatedb"]);
    }
}

#[test]
fn the_coordinator_links_nothing_that_computes() {
    links_none_of(
        "bloctrain-coordinator",
        &["burn", "cubecl", "bloctrain_kernel", "bloctrain_infer", "bloctrain_worker"],
    );
}
