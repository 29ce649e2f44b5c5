//! The specifications in `examples/`: each is complete, and each trains.

mod common;

use common::{run, stderr, summary};
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

/// Ten classes of a few images in CIFAR-10's own form.
fn cifar(folder: &Path) {
    std::fs::create_dir(folder).expect("made");
    let record = |label: u8, number: usize| {
        let pixel = |index: usize| (usize::from(label) * 25 + (index * 31 + number * 97) % 61).min(255) as u8;
        [vec![label], (0..3072).map(pixel).collect()].concat()
    };
    for (number, file) in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        .into_iter()
        .enumerate()
    {
        let records: Vec<u8> = (0..40).flat_map(|sample| record((sample % 10) as u8, number * 40 + sample)).collect();
        std::fs::write(folder.join(format!("{file}.bin")), records).expect("written");
    }
}

/// One channel of 28x28, as the embedded images have it.
fn gray(folder: &Path) {
    std::fs::create_dir(folder).expect("made");
    for (name, samples) in [("train", 200_u32), ("t10k", 40)] {
        let size = [samples.to_be_bytes(), 28_u32.to_be_bytes(), 28_u32.to_be_bytes()].concat();
        let pixel = |sample: u32, index: u32| (sample % 10 * 25 + (index * 31 + sample * 97) % 61).min(255) as u8;
        let pixels: Vec<u8> = (0..samples).flat_map(|sample| (0..784).map(move |index| pixel(sample, index))).collect();
        let labels: Vec<u8> = (0..samples).map(|sample| (sample % 10) as u8).collect();
        let images = [&[0, 0, 8, 3][..], &size, &pixels].concat();
        let labels = [&[0, 0, 8, 1][..], &samples.to_be_bytes(), &labels].concat();
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).expect("written");
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).expect("written");
    }
}

#[test]
fn every_example_is_checked_and_trains_for_one_epoch_a_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    cifar(&at.join("cifar10"));
    gray(&at.join("gray"));
    let examples = examples();
    assert!(examples.len() >= 6, "{examples:?}");
    for example in examples {
        let text = std::fs::read_to_string(&example).expect("text");
        // Folders in a specification are relative to its file.
        let file = at.join("examples").join(example.file_name().expect("a name"));
        std::fs::create_dir_all(at.join("examples")).expect("made");
        std::fs::copy(&example, &file).expect("copied");
        let file = file.to_str().expect("utf-8");
        assert!(
            text.starts_with("# ")
                && text.contains(&format!("examples/{}", example.file_name().expect("a name").display()))
        );
        let checked = run(at, &["spec", "check", file]);
        assert!(checked.status.success(), "{file}: {}", stderr(&checked));
        // What is printed is a specification too, and of the same run.
        let printed = at.join("printed.toml");
        std::fs::write(&printed, &checked.stdout).expect("written");
        let again = run(at, &["spec", "check", "printed.toml"]);
        assert_eq!((again.status.code(), &again.stdout), (Some(0), &checked.stdout), "{file}: {}", stderr(&again));
        let data = if text.contains("cifar10") { "cifar10" } else { "gray" };
        let short = ["--set", "train.epochs=1", "--set", "train.warmup_epochs=0", "--set", "train.batch=16"];
        let short = [&short[..], &["--set", "run.seed=3", "--data", data, "--json"]].concat();
        let trained = summary(&run(at, &[&["train", file], &short[..]].concat()));
        assert!(trained["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty()), "{file}: {trained}");
    }
}
