//! A sample's image as a small PNG, for people.

use base64::prelude::{BASE64_STANDARD, Engine};
use bloctrain_shared::ImageShape;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageBuffer, Luma, Rgb};

/// Longest side in pixels.
const SIDE: u32 = 64;

/// An image of a shape, channels first, as PNG in Base64; empty where it is none. Three channels are red, green and
/// blue, two are red and green, of others the first is grey.
pub(super) fn png(shape: ImageShape, pixels: &[u8]) -> String {
    let written = image(shape, pixels).and_then(|image| {
        let small = if image.width().max(image.height()) > SIDE { image.thumbnail(SIDE, SIDE) } else { image };
        let mut bytes = Vec::new();
        small.write_with_encoder(PngEncoder::new(&mut bytes)).ok()?;
        Some(bytes)
    });
    written.map(|bytes| BASE64_STANDARD.encode(bytes)).unwrap_or_default()
}

fn image(shape: ImageShape, pixels: &[u8]) -> Option<DynamicImage> {
    let (width, height) = (u32::try_from(shape.width).ok()?, u32::try_from(shape.height).ok()?);
    let plane = shape.width * shape.height;
    if plane == 0 || pixels.len() < plane * shape.channels {
        return None;
    }
    if !matches!(shape.channels, 2 | 3) {
        return ImageBuffer::<Luma<u8>, _>::from_raw(width, height, pixels.get(..plane)?.to_vec())
            .map(DynamicImage::from);
    }
    let colour = |at: usize| [pixels[at], pixels[plane + at], pixels.get(2 * plane + at).copied().unwrap_or(0)];
    let bytes = (0..plane).flat_map(colour).collect();
    ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, bytes).map(DynamicImage::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DynamicImage {
        let bytes = BASE64_STANDARD.decode(text).expect("Base64");
        image::load_from_memory(&bytes).expect("a PNG")
    }

    #[test]
    fn pixels_come_back_and_large_images_become_small() {
        let shape = |channels, height, width| ImageShape { channels, height, width };
        let colours: Vec<u8> = (0..12).collect();
        let small = read(&png(shape(3, 2, 2), &colours)).into_rgb8();
        assert_eq!(small.get_pixel(1, 1).0, [3, 7, 11]);
        assert_eq!(read(&png(shape(2, 2, 2), &colours[..8])).into_rgb8().get_pixel(0, 1).0, [2, 6, 0]);
        assert_eq!(read(&png(shape(1, 2, 2), &colours[..4])).into_luma8().get_pixel(1, 0).0, [1]);
        let large = read(&png(shape(1, 100, 200), &vec![9; 20_000]));
        assert_eq!((large.width(), large.height()), (64, 32));
        assert_eq!(png(shape(3, 2, 2), &colours[..5]), "");
    }
}
