//! What a program that only answers does not link.

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

#[test]
fn inference_links_no_tensor_library_no_runtime_and_no_network() {
    for package in ["bloctrain-infer", "bloctrain-kernel"] {
        let linked = linked(package);
        assert!(linked.iter().any(|name| name == "bloctrain_shared"), "{package}: {linked:?}");
        for banned in ["burn", "cubecl", "tokio", "tonic", "hyper", "object_store", "reqwest", "slatedb"] {
            let found = linked.iter().find(|name| *name == banned || name.starts_with(&format!("{banned}_")));
            assert_eq!(found, None, "{package}");
        }
    }
}
