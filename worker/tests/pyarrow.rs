//! A block's spikes, written to the cache and read by pyarrow.

use bloctrain_shared::spec::{BlockSpec, LayerSpec, RunSpec};
use bloctrain_shared::task::Split;
use bloctrain_shared::{Digest, ImageShape};
use bloctrain_store::cache::{CacheMeta, SpikeShard, encode};
use bloctrain_worker::kernel::{BodyInput, Mode};
use bloctrain_worker::snn::block::{BlockConfig, BlockNet};
use bloctrain_worker::snn::pass::Pass;
use burn_flex::Flex;
use burn_tensor::{Tensor, TensorData};
use std::io::Write;
use std::path::Path;
use std::process::Command;

#[test]
fn pyarrow_finds_the_spikes_that_the_block_emits() {
    let available = Command::new("python3")
        .args(["-c", "import pyarrow, numpy"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !available {
        assert!(std::env::var_os("BLOCTRAIN_REQUIRE_PYARROW").is_none(), "pyarrow is required here and missing");
        // Not `eprintln!`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "skipped: python3 with pyarrow and numpy is not installed");
        return;
    }
    let mut spec = RunSpec::default();
    spec.network.block = vec![BlockSpec { layers: vec![LayerSpec::conv(10, 3, 1)] }];
    let image = ImageShape::new(1, 6, 5);
    let config = BlockConfig::new(&spec, image, 1, 3).expect("resolves");
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    let samples = 7;
    let pixels: Vec<f32> = (0..samples * image.len()).map(|i| (i * 37 % 19) as f32 / 4.0 - 2.0).collect();
    let input = BodyInput::Image(Tensor::from_data(TensorData::new(pixels, [samples, 1, 6, 5]), &Default::default()));
    let dims = net.spike_dims();
    let emitted = net.body(input, &mut Pass::new(dims.steps, samples, Mode::Eval)).into_spikes(samples);
    let spikes = emitted.to_values();
    let (frame, mut packed, mut expected) = (dims.sites() / dims.steps, Vec::new(), Vec::new());
    for sample in 0..samples {
        let own: Vec<f32> =
            (0..dims.steps).flat_map(|step| spikes[(step * samples + sample) * frame..][..frame].to_vec()).collect();
        expected.extend(own.iter().map(|&spike| spike as u8));
        emitted.pack_sample(sample, &mut packed);
    }
    assert!(expected.contains(&1) && expected.contains(&0), "some spike, some do not");
    let digest = Digest::of(b"");
    let meta = CacheMeta {
        dims,
        blocks: vec![digest],
        dataset: digest,
        encoding: "{}".into(),
        seed: 1,
        split: Split::Train,
        view: 0,
        arithmetic: 1,
        backend: "cpu".into(),
    };
    let shard = SpikeShard { meta, ids: (0..7).collect(), labels: vec![1; samples], packed };
    let folder = tempfile::tempdir().expect("a folder");
    let (arrow, raw) = (folder.path().join("shard.arrow"), folder.path().join("expected.bin"));
    std::fs::write(&arrow, encode(&shard).expect("encodes")).expect("written");
    std::fs::write(&raw, expected).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/check_cache_pyarrow.py");
    let sizes = [dims.steps, dims.channels, dims.height, dims.width].map(|size| size.to_string());
    let output = Command::new("python3").arg(script).arg(&arrow).arg(&raw).args(sizes).output().expect("python runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
