//! Pictures as people have them, as pixels.
//!
//! A picture is turned as its metadata (EXIF) say, as people see it. One that is cut off is refused, though decoders of
//! JPEG would fill the rest with grey.

use crate::file::FileError;
use bloctrain_shared::ImageShape;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Extensions of files that are read, in lower case.
pub const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// The formats, for messages.
pub const FORMATS: &str = "PNG, JPEG, WebP, BMP, GIF or TIFF";

/// Pixels of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// One plane of a gray picture, three of one in colour.
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a file. With a size it is scaled so that its shorter side has it, and the middle is taken (`data.size`).
    ///
    /// # Errors
    /// When it cannot be read, is cut off, or is of another format.
    pub fn read(path: &Path, size: Option<u32>) -> Result<Self, FileError> {
        let image = decode(path, size)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let channels = if is_gray(image.color()) { 1 } else { 3 };
        Ok(Self { width, height, pixels: planes(&image, channels) })
    }

    /// Whether it has no colour.
    pub fn is_gray(&self) -> bool {
        self.pixels.len() == self.width * self.height
    }

    /// Its pixels with one or three channels, channels first.
    pub fn into_planes(self, channels: usize) -> Vec<u8> {
        match (self.is_gray(), channels) {
            (true, 3) => self.pixels.repeat(3),
            _ => self.pixels,
        }
    }

    /// Width x height, as everything here says it.
    pub fn size(&self) -> String {
        format!("{} x {}", self.width, self.height)
    }
}

/// Reads one picture as pixels of a shape, channels first; gray and colour are converted into each other. `size` is
/// `data.size` of the network's specification.
///
/// # Errors
/// When it cannot be read or has another size.
pub fn read_image(path: &Path, shape: ImageShape, size: Option<u32>) -> Result<Vec<u8>, FileError> {
    let image = decode(path, size)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if (width, height) != (shape.width, shape.height) {
        let problem = format!(
            "the image is {width} x {height} pixels, the network takes {} x {}; resize it, or train with `data.size`",
            shape.width, shape.height
        );
        return Err(FileError::content(path, problem));
    }
    Ok(planes(&image, shape.channels))
}

/// Reads a file; with a size it is [`scaled`].
fn decode(path: &Path, size: Option<u32>) -> Result<DynamicImage, FileError> {
    let bytes = std::fs::read(path).map_err(|error| FileError::read(path, error))?;
    let image = decode_bytes(path, &bytes)?;
    Ok(match size {
        Some(size) => scaled(&image, size),
        None => image,
    })
}

/// Bytes of memory that the pixels of any picture may take.
pub const LEAST_BYTES: usize = 64 << 20;

/// Bytes of memory that they may take besides for each byte of its file: a palette of two colours, one byte a pixel,
/// and the most that deflate makes smaller.
pub const BYTES_FOR_EACH: usize = 8 * 1032;

/// Decodes what a file holds; its name is for messages.
///
/// # Errors
/// When it is cut off, or of another format.
pub fn decode_bytes(path: &Path, bytes: &[u8]) -> Result<DynamicImage, FileError> {
    if bytes.is_empty() {
        return Err(FileError::content(path, "the file is empty"));
    }
    let wrong = |problem: &dyn std::fmt::Display| {
        FileError::content(path, format!("it is not a readable {FORMATS} image: {problem}"))
    };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| wrong(&error))?;
    if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(bytes) {
        return Err(FileError::content(path, "the JPEG image is cut off: its data ends before the image does"));
    }
    if reader.format() == Some(ImageFormat::WebP) && !webp_parts_fit(bytes) {
        return Err(FileError::content(
            path,
            "the WebP image is cut off, or a part of it says that it is longer than the file",
        ));
    }
    let mut decoder = reader.into_decoder().map_err(|error| wrong(&error))?;
    let (width, height) = decoder.dimensions();
    let allowed = LEAST_BYTES as u64 + BYTES_FOR_EACH as u64 * bytes.len() as u64;
    if decoder.total_bytes() > allowed {
        return Err(FileError::content(path, format!("it claims {width} x {height} pixels in {} bytes", bytes.len())));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(allowed);
    decoder.set_limits(limits).map_err(|error| wrong(&error))?;
    // Metadata that make no sense turn nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| wrong(&error))?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether the parts of a WebP image (RIFF chunks) lie within the file: its decoder reserves what a part says.
fn webp_parts_fit(bytes: &[u8]) -> bool {
    const PARTS: [&[u8; 4]; 9] = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "];
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((name, after)) = rest.split_first_chunk::<4>()
        && let Some((length, content)) = after.split_first_chunk::<4>()
    {
        let length = u32::from_le_bytes(*length) as usize;
        if length > content.len() {
            // What else stands behind the image is no part of it.
            return !PARTS.contains(&name);
        }
        // Parts of odd length are filled up.
        rest = content.get(length + length % 2..).unwrap_or_default();
    }
    true
}

/// Whether the marker that ends a JPEG image (EOI) is there (ITU T.81, annex B). Pictures inside the metadata have
/// their own, so segments are gone through one by one.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2;
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += offset;
        // Bytes of 0xff before a marker are filling.
        let Some(filling) = bytes[at..].iter().position(|&byte| byte != 0xff) else { return false };
        let marker = bytes[at + filling];
        at += filling + 1;
        match marker {
            END_OF_IMAGE => return true,
            // A stuffed byte, restarts and markers without content: data of the scan go on.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else { return false };
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if length < 2 {
                    return false;
                }
                // After the header of a scan (SOS) come its data, in which the next marker is looked for.
                at += length;
            }
        }
    }
    false
}

/// The picture so scaled that its shorter side has `size` pixels, and the square in its middle. Scaling averages over
/// the area that a new pixel covers (a triangle filter, as Pillow's `BILINEAR`).
fn scaled(image: &DynamicImage, size: u32) -> DynamicImage {
    let (width, height) = (image.width().max(1), image.height().max(1));
    let long = |side: u32, shorter: u32| {
        let scaled = u64::from(side) * u64::from(size) * 2 + u64::from(shorter);
        u32::try_from(scaled / (2 * u64::from(shorter))).unwrap_or(u32::MAX).max(size)
    };
    let (new_width, new_height) =
        if width < height { (size, long(height, width)) } else { (long(width, height), size) };
    let scaled = if (new_width, new_height) == (image.width(), image.height()) {
        image.clone()
    } else {
        image.resize_exact(new_width, new_height, FilterType::Triangle)
    };
    scaled.crop_imm((new_width - size) / 2, (new_height - size) / 2, size, size)
}

/// Pixels of a data set's image, scaled like a picture's.
pub fn scaled_planes(pixels: &[u8], shape: ImageShape, size: u32) -> Vec<u8> {
    let plane = |plane: &[u8]| {
        let (width, height) = (shape.width as u32, shape.height as u32);
        let image = image::GrayImage::from_raw(width, height, plane.to_vec()).unwrap_or_default();
        scaled(&DynamicImage::ImageLuma8(image), size).to_luma8().into_raw()
    };
    pixels.chunks(shape.area().max(1)).flat_map(plane).collect()
}

fn is_gray(color: ColorType) -> bool {
    matches!(color, ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16)
}

/// Pixels channels first, as one gray or three colour planes.
fn planes(image: &DynamicImage, channels: usize) -> Vec<u8> {
    if channels == 1 {
        return image.to_luma8().into_raw();
    }
    let pixels = image.to_rgb8().into_raw();
    (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied().collect::<Vec<u8>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG image of 16 x 8 pixels, black on the left and white on the right, that metadata turn.
    fn turned(orientation: u8) -> Vec<u8> {
        let image = image::GrayImage::from_fn(16, 8, |x, _| image::Luma([if x < 8 { 0 } else { 255 }]));
        let mut plain = Vec::new();
        image.write_to(&mut Cursor::new(&mut plain), ImageFormat::Jpeg).expect("written");
        // EXIF: a TIFF header, and a folder with the one entry 0x0112.
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let mut bytes = plain[..2].to_vec();
        bytes.extend([0xff, 0xe1, length[0], length[1]]);
        bytes.extend(exif);
        bytes.extend(&plain[2..]);
        bytes
    }

    #[test]
    fn pictures_are_turned_as_people_see_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        for (orientation, size, first_is_black) in
            [(1, "16 x 8", true), (3, "16 x 8", false), (6, "8 x 16", true), (8, "8 x 16", false)]
        {
            std::fs::write(&path, turned(orientation)).expect("written");
            let picture = Picture::read(&path, None).expect("reads");
            assert_eq!(picture.size(), size, "orientation {orientation}");
            let shape = ImageShape::new(1, picture.height, picture.width);
            assert_eq!(read_image(&path, shape, None).expect("as in training"), picture.clone().into_planes(1));
            let pixels = picture.into_planes(1);
            assert_eq!(
                (pixels[0] < 50, pixels[127] > 200),
                (first_is_black, first_is_black),
                "orientation {orientation}"
            );
        }
    }

    #[test]
    fn parts_of_a_webp_image_lie_within_the_file() {
        let mut bytes = Vec::new();
        DynamicImage::new_rgb8(9, 7).write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP).expect("written");
        let decoded = |bytes: &[u8]| decode_bytes(Path::new("file"), bytes);
        assert!(decoded(&bytes).is_ok());
        let followed = [&bytes[..], b"\xff of something else"].concat();
        assert!(decoded(&followed).is_ok(), "what follows is no part of it");
        bytes[18] = 0xff;
        let refused = decoded(&bytes).expect_err("a part of 16 MB").to_string();
        assert!(refused.contains("longer than the file"), "{refused}");
    }

    #[test]
    fn a_jpeg_has_to_end() {
        let whole = turned(6);
        assert!(is_whole_jpeg(&whole));
        assert!(is_whole_jpeg(&[whole.as_slice(), b"what a camera appends"].concat()));
        for length in 0..whole.len() - 1 {
            assert!(!is_whole_jpeg(&whole[..length]), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn scaling_by_hand() {
        let shape = ImageShape::new(2, 2, 4);
        let (left, right) = ([0, 0, 100, 100, 0, 0, 100, 100], [8; 8]);
        let pixels = [left, right].concat();
        assert_eq!(scaled_planes(&pixels, shape, 2), [0, 100, 0, 100, 8, 8, 8, 8], "the middle of what has the size");
        assert_eq!(
            scaled_planes(&[3; 4 * 9], ImageShape::new(1, 9, 4), 8),
            vec![3; 64],
            "a tall one is scaled up and cut"
        );
    }

    #[test]
    fn another_size_is_refused_width_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        image::GrayImage::new(5, 3).save(&path).expect("saved");
        let error = read_image(&path, ImageShape::new(1, 7, 9), None).expect_err("size").to_string();
        assert!(error.contains("is 5 x 3 pixels") && error.contains("takes 9 x 7"), "{error}");
        assert_eq!(read_image(&path, ImageShape::new(3, 6, 6), Some(6)).expect("scaled").len(), 108);
    }
}
