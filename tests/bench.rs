//! The benchmarks with the real binary: what they print, not how fast it is.

mod common;

use common::{run, stderr};
use serde_json::Value;

fn lines(args: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[&["bench"], args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("utf-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

fn positive(line: &Value, fields: &[&str]) {
    for field in fields {
        assert!(line[field].as_f64().is_some_and(|value| value > 0.0), "`{field}` in {line}");
    }
}

const SMALL: [&str; 6] = ["--preset", "small", "--width", "4", "--train-steps", "3"];

#[test]
fn a_step_is_timed_by_block_and_end_to_end() {
    let step =
        |flags: &[&str]| lines(&[&["step"], SMALL.as_slice(), &["--batch", "8", "--iters", "2"], flags].concat());
    for (flags, blocks) in [(&[][..], 3), (&["--end-to-end"][..], 1)] {
        let found = step(flags);
        assert_eq!((found.len(), found[0]["blocks"].as_array().map(Vec::len)), (1, Some(blocks)));
        positive(&found[0], &["images_per_s", "training_mib", "firing_rate"]);
        assert_eq!(found[0]["blocks"][0]["input_rate"], Value::Null);
    }
    let rate = |found: &Value| found["firing_rate"].clone();
    assert_eq!(rate(&step(&[])[0]), rate(&step(&[])[0]), "the same numbers but time");
}

#[test]
fn a_layer_has_a_line_for_every_rate() {
    let layer = ["layer", "--inputs", "8", "--outputs", "8", "--side", "8", "--batch", "2", "--iters", "2"];
    let found = lines(&[layer.as_slice(), &["--rate", "0.1", "--rate", "0.5"]].concat());
    assert_eq!(found.len(), 2);
    for (line, rate) in found.iter().zip([0.1, 0.5]) {
        positive(line, &["images_per_s", "forward_s", "backward_s", "forward_gadd_per_s", "reference_ratio"]);
        assert!(line["rate"].as_f64().is_some_and(|found| (found - rate).abs() < 0.05), "{line}");
    }
}

#[test]
fn inference_makes_the_asked_share_leave() {
    let args =
        [&["inference"], SMALL.as_slice(), &["--batch", "64", "--iters", "8", "--exit-fraction", "0.25"]].concat();
    let found = lines(&args);
    assert_eq!(found.len(), 2);
    found.iter().for_each(|line| positive(line, &["images_per_s"]));
    assert_eq!((&found[0]["exits"], &found[0]["exit_fraction"]), (&"none".into(), &serde_json::json!([0.0, 0.0, 1.0])));
    let left = found[1]["exit_fraction"][0].as_f64().expect("a fraction");
    assert!((left - 0.25).abs() < 0.02, "{}", found[1]);
}

#[test]
fn the_cache_is_timed_beside_its_bounds() {
    let found = lines(&[&["cache"], SMALL.as_slice(), &["--shards", "1"]].concat());
    let speeds = ["write_gb_per_s", "read_gb_per_s", "disk_write_gb_per_s", "disk_read_gb_per_s"];
    positive(&found[0], &speeds);
    positive(&found[0], &["zstd_compress_gb_per_s", "zstd_decompress_gb_per_s", "compression_ratio", "firing_rate"]);
    // 4 steps of 14x14 positions with 4 channels in a byte.
    assert_eq!(found[0]["bytes"], 1024 * 4 * 14 * 14);
}
