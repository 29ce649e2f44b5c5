//! Answers to an image file: `cargo run --release -p bloctrain-infer --example classify -- MODEL IMAGE`.
//!
//! MODEL is the folder that `bloctrain train` names at its end.

use bloctrain_infer::{Package, Predictor};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, image] = arguments.as_slice() else {
        return Err("usage: classify MODEL IMAGE".into());
    };
    let package = Package::load(Path::new(model))?;
    let predictor = Predictor::new(&package)?;
    for answer in predictor.files(&[image.into()])? {
        let class = &package.manifest.dataset.classes[usize::from(answer.class)];
        println!("{class} ({:.1} %), exit at block {}", 100.0 * answer.probability, answer.exit + 1);
    }
    Ok(())
}
