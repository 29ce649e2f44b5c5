//! Compiles the protocol without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["bloctrain/v1/worker_service.proto", "bloctrain/v1/run_service.proto"];
    let descriptors = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let mut bytes = Vec::new();
    prost::Message::encode(&descriptors, &mut bytes)?;
    std::fs::write(out.join("descriptors.bin"), bytes)?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}
