//! Damaged input for every parser of outside bytes: an error or a data set, never a panic.

use super::{cifar, idx, pickle};
use bloctrain_damage::{Allowance, each};
use bloctrain_infer::picture;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ImageEncoder, ImageFormat};
use std::io::Cursor;
use std::path::{Path, PathBuf};

const PLAIN: Allowance = Allowance { least: 1 << 16, each: 64 };

#[test]
fn damaged_idx_files() {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4][..], &[7; 24]].concat();
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 2, 1, 2];
    let file = |bytes: &[u8]| (PathBuf::from("file"), bytes.to_vec());
    let set = |images: &[u8], labels: &[u8]| {
        let contents = [file(images), file(labels), file(images), file(labels)];
        idx::dataset("set", Some("letters"), &contents).is_ok()
    };
    each("idx images", std::slice::from_ref(&images), PLAIN, |bytes| set(bytes, &labels));
    each("idx labels", std::slice::from_ref(&labels), PLAIN, |bytes| set(&images, bytes));
}

#[test]
fn damaged_cifar_files() {
    let records = [vec![3; 3073], vec![4; 3073]].concat();
    each("cifar", &[records], PLAIN, |bytes| cifar::records(Path::new("file"), bytes, 1, 10).is_ok());
}

#[test]
fn damaged_pickles() {
    each("pickle", &[pickle::tests::python2()], PLAIN, |bytes| {
        pickle::Dict::read(bytes).is_ok_and(|dict| {
            dict.integers("labels").is_ok() && dict.array("data").is_ok() && dict.texts("names").is_ok()
        })
    });
}

/// EXIF with the orientation 6 (a quarter turn).
fn exif() -> Vec<u8> {
    let entry =
        [&0x0112_u16.to_le_bytes()[..], &3_u16.to_le_bytes(), &1_u32.to_le_bytes(), &6_u32.to_le_bytes()].concat();
    [&b"II*\0"[..], &8_u32.to_le_bytes(), &1_u16.to_le_bytes(), &entry, &0_u32.to_le_bytes()].concat()
}

#[test]
fn damaged_pictures() {
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, (x * y) as u8]));
    let formats =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::WebP];
    let mut whole: Vec<Vec<u8>> = Vec::new();
    for format in formats {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).expect("written");
        whole.push(bytes);
    }
    macro_rules! with_metadata {
        ($($encoder:expr),*) => {$(
            let mut bytes = Vec::new();
            let mut encoder = $encoder(&mut bytes);
            encoder.set_exif_metadata(exif()).expect("taken");
            encoder.write_image(&image, 9, 7, image::ExtendedColorType::Rgb8).expect("written");
            whole.push(bytes);
        )*};
    }
    with_metadata!(JpegEncoder::new, PngEncoder::new, WebPEncoder::new_lossless);
    // Its pixels, what a decoder works on, and a copy that is turned.
    let allowance = Allowance { least: 6 * picture::LEAST_BYTES, each: 6 * picture::BYTES_FOR_EACH };
    let path = Path::new("file");
    each("pictures", &whole, allowance, |bytes| picture::decode_bytes(path, bytes).is_ok());
}
