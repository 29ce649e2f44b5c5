//! Damaged input for every parser of outside bytes: an error or a data set, never a panic.
//!
//! `BLOCTRAIN_DAMAGED=1000000 cargo test --release -p bloctrain-data damage` tries as many of each; without it, some thousand.

use super::{cifar, idx, pickle};
use bloctrain_infer::picture;
use bloctrain_shared::seed;
use image::ImageFormat;
use rand::{Rng, RngExt};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Inputs of each kind.
fn count() -> u64 {
    std::env::var("BLOCTRAIN_DAMAGED").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000)
}

/// A few bytes changed, taken out or doubled, or the end cut off.
fn damaged(rng: &mut impl Rng, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes.insert(at, bytes[at]),
            3 if at < bytes.len() => bytes[at] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)],
            4 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            _ if at < bytes.len() => bytes[at] = rng.random(),
            _ => {}
        }
    }
    bytes
}

fn each(name: &str, whole: &[Vec<u8>], parse: impl Fn(&[u8]) -> bool) {
    let mut read = 0_u64;
    for number in 0..count() {
        let mut rng = seed::rng(number, name, &[]);
        let whole = &whole[rng.random_range(0..whole.len())];
        read += u64::from(parse(&damaged(&mut rng, whole)));
    }
    assert!(read < count(), "{name}: damage goes unnoticed in all of {read}");
    whole.iter().for_each(|whole| assert!(parse(whole), "{name}: undamaged"));
}

#[test]
fn damaged_idx_files() {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4][..], &[7; 24]].concat();
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 2, 1, 2];
    let file = |bytes: &[u8]| (PathBuf::from("file"), bytes.to_vec());
    let set = |images: &[u8], labels: &[u8]| {
        let contents = [file(images), file(labels), file(images), file(labels)];
        idx::dataset("set", Some("letters"), &contents).is_ok()
    };
    each("idx images", std::slice::from_ref(&images), |bytes| set(bytes, &labels));
    each("idx labels", std::slice::from_ref(&labels), |bytes| set(&images, bytes));
}

#[test]
fn damaged_cifar_files() {
    let records = [vec![3; 3073], vec![4; 3073]].concat();
    each("cifar", &[records], |bytes| cifar::records(Path::new("file"), bytes, 1, 10).is_ok());
}

#[test]
fn damaged_pickles() {
    each("pickle", &[pickle::tests::python2()], |bytes| {
        pickle::Dict::read(bytes)
            .is_ok_and(|dict| dict.integers("labels").is_ok() && dict.array("data").is_ok() && dict.texts("names").is_ok())
    });
}

#[test]
fn damaged_pictures() {
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, (x * y) as u8]));
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::WebP];
    let whole = formats.map(|format| {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).expect("written");
        bytes
    });
    each("pictures", &whole, |bytes| picture::decode_bytes(Path::new("file"), bytes).is_ok());
}
