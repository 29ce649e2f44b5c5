//! A folder of class folders: `train/<class>/*.png` and `test/<class>/*.png` (or .jpg, .jpeg).

use super::{DataError, Dataset, Split};
use bloctrain_infer::{decode, is_gray, planes};
use bloctrain_shared::ImageShape;
use std::path::{Path, PathBuf};

/// Reads class folders; `None` when there is no `train` folder.
pub(super) fn open(folder: &Path) -> Result<Option<Dataset>, DataError> {
    let (train, test) = (folder.join("train"), folder.join("test"));
    if !train.is_dir() {
        return Ok(None);
    }
    let classes = entries(&train)?.into_iter().filter(|path| path.is_dir()).map(|path| name(&path)).collect::<Vec<_>>();
    if classes.len() < 2 {
        return Err(DataError::content(&train, format!("it has {} class folders, at least 2 are needed", classes.len())));
    }
    if !test.is_dir() {
        return Err(DataError::content(folder, "it has a folder `train` but no folder `test`; test images must be apart"));
    }
    if let Some(stranger) = entries(&test)?.iter().find(|path| path.is_dir() && !classes.contains(&name(path))) {
        return Err(DataError::content(stranger, "this class does not exist in train"));
    }
    let files: Vec<(bool, u16, PathBuf)> = list(&train, &classes)?
        .into_iter()
        .map(|(class, path)| (true, class, path))
        .chain(list(&test, &classes)?.into_iter().map(|(class, path)| (false, class, path)))
        .collect();
    let mut images = Vec::with_capacity(files.len());
    for (_, _, path) in &files {
        images.push(decode(path)?);
    }
    let channels = if images.iter().all(is_gray) { 1 } else { 3 };
    let first = &images[0];
    let shape = ImageShape::new(channels, first.height() as usize, first.width() as usize);
    let mut splits = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for ((train, class, path), image) in files.iter().zip(&images) {
        let size = ImageShape::new(channels, image.height() as usize, image.width() as usize);
        if size != shape {
            return Err(DataError::content(path, format!("the image is {size}, the first one {shape}; all must have one size")));
        }
        let (labels, pixels) = &mut splits[usize::from(!train)];
        labels.push(*class);
        pixels.extend(planes(image, channels));
    }
    let [train, test] = splits.map(|(labels, pixels)| Split::new(labels, pixels, shape.len()));
    Ok(Some(Dataset::new(name(folder), classes, shape, train, test)))
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = std::fs::read_dir(folder).map_err(|error| DataError::read(folder, error))?;
    let mut paths = read
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| DataError::read(folder, error))?;
    paths.sort();
    Ok(paths)
}

fn list(split: &Path, classes: &[String]) -> Result<Vec<(u16, PathBuf)>, DataError> {
    let mut files = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let folder = split.join(name);
        let is_image = |path: &PathBuf| {
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
        };
        let own: Vec<PathBuf> = entries(&folder)?.into_iter().filter(is_image).collect();
        if own.is_empty() {
            return Err(DataError::content(&folder, "the class folder holds no .png, .jpg or .jpeg image"));
        }
        files.extend(own.into_iter().map(|path| (class as u16, path)));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (split, class, value) in [("train", "ant", 10), ("train", "bee", 20), ("test", "ant", 30), ("test", "bee", 40)] {
            let at = folder.path().join(split).join(class);
            std::fs::create_dir_all(&at).expect("made");
            image::GrayImage::from_pixel(4, 3, image::Luma([value])).save(at.join("1.png")).expect("saved");
        }
        folder
    }

    #[test]
    fn class_folders_are_read() {
        let folder = folder();
        let dataset = Dataset::open(folder.path()).expect("reads");
        assert_eq!((dataset.classes.join(","), dataset.shape), ("ant,bee".into(), ImageShape::new(1, 3, 4)));
        assert_eq!((dataset.train.image(1)[0], dataset.test.label(1)), (20, 1));
        image::RgbImage::from_pixel(4, 3, image::Rgb([1, 2, 3])).save(folder.path().join("test/bee/2.png")).expect("saved");
        let dataset = Dataset::open(folder.path()).expect("reads");
        assert_eq!((dataset.shape.channels, dataset.test.image(2)[12]), (3, 2));
    }

    #[test]
    fn wrong_folders_are_named() {
        let at = folder();
        image::GrayImage::new(5, 3).save(at.path().join("train/bee/2.png")).expect("saved");
        let error = Dataset::open(at.path()).expect_err("size").to_string();
        assert!(error.contains("2.png") && error.contains("1x3x5") && error.contains("1x3x4"), "{error}");
        std::fs::write(at.path().join("train/bee/2.png"), b"no image").expect("written");
        assert!(Dataset::open(at.path()).expect_err("no image").to_string().contains("not a readable"));
        std::fs::remove_dir_all(at.path().join("test")).expect("removed");
        assert!(Dataset::open(at.path()).expect_err("no test").to_string().contains("no folder `test`"));
        assert!(Dataset::open(&at.path().join("nowhere")).expect_err("missing").to_string().contains("no such folder"));
        let empty = tempfile::tempdir().expect("a folder");
        assert!(matches!(Dataset::open(empty.path()), Err(DataError::NotRecognised { .. })));
    }
}
