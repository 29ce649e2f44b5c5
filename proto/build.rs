//! Compiles the protocols without an installed `protoc`.

/// Our own protocol, and KEDA's, each with the file that its descriptors go to.
const PROTOCOLS: [(&[&str], &str); 2] = [
    (&["bloctrain/v1/worker_service.proto", "bloctrain/v1/run_service.proto"], "descriptors.bin"),
    (&["externalscaler/externalscaler.proto"], "externalscaler.bin"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    for (files, name) in PROTOCOLS {
        let descriptors = protox::compile(files, ["."])?;
        let mut bytes = Vec::new();
        prost::Message::encode(&descriptors, &mut bytes)?;
        std::fs::write(out.join(name), bytes)?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
        for file in files {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    Ok(())
}
