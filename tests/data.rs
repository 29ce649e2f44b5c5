//! Data as people have them, by the real command: paths of specifications, notes on classes, data that moved or differ.

mod common;

use common::{bloctrain, run, stderr, summary};
use std::path::Path;
use std::process::Output;

/// IDX files of 8 x 8 images with these labels.
fn idx(folder: &Path, train: &[u8], test: &[u8]) {
    std::fs::create_dir_all(folder).expect("made");
    for (part, labels) in [("train", train), ("t10k", test)] {
        let count = (labels.len() as u32).to_be_bytes();
        let mut images = [&[0, 0, 8, 3], count.as_slice(), &8_u32.to_be_bytes(), &8_u32.to_be_bytes()].concat();
        images.extend(labels.iter().enumerate().flat_map(|(index, &label)| {
            (0..64_u32).map(move |pixel| (pixel * u32::from(label + 1) * 37 + index as u32 * 11) as u8)
        }));
        std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).expect("written");
        std::fs::write(
            folder.join(format!("{part}-labels-idx1-ubyte")),
            [&[0, 0, 8, 1], count.as_slice(), labels].concat(),
        )
        .expect("written");
    }
}

const SPEC: &str = "[data]\ndir = \"DIR\"\n[network]\nwidth = 4\n[train]\nepochs = 1\nwarmup_epochs = 0\nbatch = 8\n";

fn failed(output: &Output, texts: &[&str]) {
    let message = stderr(output);
    assert!(output.status.code() == Some(1) && !message.contains("panicked"), "{message}");
    texts.iter().for_each(|text| assert!(message.contains(text), "`{text}` is not in: {message}"));
}

#[test]
fn a_folder_in_a_spec_is_relative_to_the_spec_or_to_the_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    idx(&at.join("digits"), &[0, 1, 2].repeat(10), &[0, 1, 2]);
    std::fs::create_dir_all(at.join("specs/deep")).expect("made");
    std::fs::create_dir_all(at.join("elsewhere")).expect("made");
    std::fs::write(at.join("specs/deep/a.toml"), SPEC.replace("DIR", "../../digits")).expect("written");
    std::fs::write(at.join("home.toml"), SPEC.replace("DIR", "~/digits")).expect("written");
    for spec in ["../specs/deep/a.toml", "../home.toml"] {
        let check =
            bloctrain(&at.join("elsewhere")).env("HOME", at).args(["spec", "check", spec]).output().expect("runs");
        assert!(check.status.success(), "{spec}: {}", stderr(&check));
    }
    // On the command line it is relative to where that runs, and wins.
    let check = run(&at.join("elsewhere"), &["spec", "check", "../home.toml", "--data", "../digits"]);
    assert!(check.status.success(), "{}", stderr(&check));
}

#[test]
fn odd_classes_are_said_and_a_package_knows_its_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = at.join("digits");
    // Class 3 has one image, class 4 none to test on, class 5 none at all.
    idx(&data, &[[0, 1, 2, 4].repeat(8), vec![3, 6, 6, 6]].concat(), &[0, 1, 2, 3, 6]);
    std::fs::write(at.join("a.toml"), SPEC.replace("DIR", "digits")).expect("written");
    let trained = run(at, &["train", "a.toml", "--json"]);
    let model = summary(&trained)["model"].as_str().expect("a model").to_owned();
    let notes = stderr(&trained);
    for note in [
        "1 of 7 classes have no images; nothing is learned about them: `5`",
        "no test images",
        "one training image each",
    ] {
        assert!(notes.contains(note), "`{note}` is not in: {notes}");
    }
    assert!(run(&at.join("digits"), &["eval", &at.join(&model).to_string_lossy()]).status.success(), "from anywhere");

    std::fs::rename(&data, at.join("moved")).expect("moved");
    failed(&run(at, &["eval", &model]), &["the model was trained on digits", "--data DIR", "there is no such folder"]);
    assert!(run(at, &["eval", &model, "--data", "moved"]).status.success());
    idx(&at.join("others"), &[0, 1].repeat(4), &[0, 1]);
    failed(&run(at, &["eval", &model, "--data", "others"]), &["tells 7 classes apart, these data have 2"]);
    idx(&at.join("counted"), &[1, 2, 3, 4, 5, 6, 7], &[1, 2]);
    failed(&run(at, &["eval", &model, "--data", "counted"]), &["where the model has `0`, these data have `1`"]);
}

#[test]
fn images_are_scaled_for_training_and_evaluation_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    idx(&at.join("digits"), &[0, 1, 2].repeat(8), &[0, 1, 2]);
    std::fs::write(at.join("a.toml"), SPEC.replace("DIR\"", "digits\"\nsize = 12")).expect("written");
    let trained = summary(&run(at, &["train", "a.toml", "--json"]));
    let evaluated = summary(&run(at, &["eval", trained["model"].as_str().expect("a model"), "--json"]));
    assert_eq!(evaluated["accuracy"], trained["accuracy"]["test"]);
    let shape = run(at, &["spec", "check", "a.toml"]);
    assert!(stderr(&shape).contains("1x12x12"), "{}", stderr(&shape));
}
