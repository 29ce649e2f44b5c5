//! Image files as bytes of the shape that a network takes.

use bloctrain_shared::ImageShape;
use image::{ColorType, DynamicImage};
use std::path::{Path, PathBuf};

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content is wrong.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a PNG or JPEG file.
///
/// # Errors
/// When it cannot be read, or is no such image.
pub fn decode(path: &Path) -> Result<DynamicImage, ImageError> {
    let bytes = std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    image::load_from_memory(&bytes).map_err(|error| ImageError::Content {
        path: path.to_owned(),
        problem: format!("it is not a readable PNG or JPEG image: {error}"),
    })
}

/// Whether an image has no colours.
pub fn is_gray(image: &DynamicImage) -> bool {
    matches!(image.color(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16)
}

/// Pixels channels first, as one gray or three colour planes.
pub fn planes(image: &DynamicImage, channels: usize) -> Vec<u8> {
    if channels == 1 {
        return image.to_luma8().into_raw();
    }
    let pixels = image.to_rgb8().into_raw();
    (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied().collect::<Vec<u8>>()).collect()
}

/// Reads one image file as pixels of a shape, channels first; gray and colour are converted into each other.
///
/// # Errors
/// When it cannot be read or has another size.
pub(crate) fn read_image(path: &Path, shape: ImageShape) -> Result<Vec<u8>, ImageError> {
    let image = decode(path)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    if (height, width) != (shape.height, shape.width) {
        let problem =
            format!("the image is {width}x{height} pixels, the network takes {}x{}; resize it first", shape.width, shape.height);
        return Err(ImageError::Content { path: path.to_owned(), problem });
    }
    Ok(planes(&image, shape.channels))
}
