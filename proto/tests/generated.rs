//! The generated code is that of the `.proto` files. `BLOCTRAIN_RENEW=1` makes it anew.

use prost::Message;
use std::path::Path;

/// Our own protocol, and KEDA's, each with the file that its descriptors go to.
const PROTOCOLS: [(&[&str], &str); 2] = [
    (&["bloctrain/v1/worker_service.proto", "bloctrain/v1/run_service.proto"], "descriptors.bin"),
    (&["externalscaler/externalscaler.proto"], "externalscaler.bin"),
];

fn generate(folder: &Path) {
    for (files, name) in PROTOCOLS {
        let descriptors = protox::compile(files, [env!("CARGO_MANIFEST_DIR")]).expect("the protocols compile");
        std::fs::write(folder.join(name), descriptors.encode_to_vec()).expect("a file is written");
        tonic_prost_build::configure().out_dir(folder).compile_fds(descriptors).expect("code is generated");
    }
}

/// Names and bytes of all files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry is read"));
    let read = |path: &Path| std::fs::read(path).expect("a file is read");
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path()))).collect();
    files.sort();
    files
}

#[test]
fn generated_code_is_that_of_the_protocols() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("BLOCTRAIN_RENEW").is_some() {
        generate(&kept);
    }
    let folder = tempfile::tempdir().expect("a folder");
    generate(folder.path());
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (made, kept) = (files(folder.path()), files(&kept));
    assert_eq!(names(&made), names(&kept));
    for ((name, made), (_, kept)) in made.iter().zip(&kept) {
        assert!(
            made == kept,
            "{name} is out of date: BLOCTRAIN_RENEW=1 cargo test -p bloctrain-proto --test generated"
        );
    }
}
