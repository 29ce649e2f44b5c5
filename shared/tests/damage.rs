//! Damaged specifications, sweeps and overrides: an error, never a panic.

use bloctrain_damage::{Allowance, each_text};
use bloctrain_shared::spec::check::check_on;
use bloctrain_shared::spec::sweep::parse_sweep;
use bloctrain_shared::spec::{Override, parse};
use bloctrain_shared::{ImageShape, RunSpec};

const ALLOWANCE: Allowance = Allowance { least: 1 << 20, each: 1 << 10 };

/// A specification is read, checked and resolved, and a sweep planned: nothing of it may panic.
#[test]
fn damaged_specifications() {
    let own = r#"
        network.block = [
          { layers = [{ type = "conv", channels = 4, kernel = 3 }, { type = "max-pool", size = 2 }] },
          { layers = [{ type = "linear", features = 8 }] },
        ]
        [data]
        augment = ["flip"]
        views = 2
        [train]
        epochs = 3
        batch = 9
    "#;
    let printed = RunSpec::default().printed();
    let whole = [printed.as_str(), own];
    each_text("specifications", &whole, ALLOWANCE, |text| {
        let Ok(spec) = parse(text, &[]) else { return false };
        check_on(&spec, ImageShape::new(1, 28, 28)).is_ok()
    });
    let sweep = "[train]\nepochs = 2\n[sweep]\n'train.batch' = [8, 9]\n'run.seed' = [1, 2, 3]\n";
    each_text("sweeps", &[sweep], ALLOWANCE, |text| parse_sweep(text, &[], "name", 100).is_ok());
    each_text("overrides", &["train.batch=12", "data.augment=[\"flip\"]"], ALLOWANCE, |text| {
        Override::parse(text).is_ok_and(|set| parse("", &[set]).is_ok())
    });
}
