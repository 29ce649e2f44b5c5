//! A folder of class folders: `train/<class>/...` and `test/<class>/...` with pictures in them, or in folders of
//! theirs.
//!
//! Hidden files and folders, and what systems leave behind, are no data. Files that are no pictures are counted, and
//! said.

use super::{DataError, Dataset, Opened, Options, Split};
use bloctrain_infer::FileError;
use bloctrain_infer::picture::{EXTENSIONS, FORMATS, Picture};
use bloctrain_shared::ImageShape;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What systems and tools leave in folders, besides names that begin with a dot.
const LEFT_BEHIND: [&str; 6] = ["__MACOSX", "@eaDir", "__pycache__", "Thumbs.db", "desktop.ini", "lost+found"];

/// A picture to be read.
struct Source {
    is_train: bool,
    class: u16,
    path: PathBuf,
}

/// Reads class folders; `None` when there is no `train` folder.
pub(super) fn open(folder: &Path, options: &Options) -> Result<Option<Opened>, DataError> {
    let (train, test) = (folder.join("train"), folder.join("test"));
    if !train.is_dir() {
        return Ok(None);
    }
    let classes = class_folders(&train)?;
    if classes.len() < 2 {
        return Err(DataError::content(
            &train,
            format!("it has {} class folders, at least 2 are needed", classes.len()),
        ));
    }
    if !test.is_dir() {
        return Err(DataError::content(
            folder,
            "it has a folder `train` but no folder `test`; test images must be apart",
        ));
    }
    if let Some(stranger) = class_folders(&test)?.into_iter().find(|name| !classes.contains(name)) {
        return Err(DataError::content(&test.join(stranger), "this class does not exist in train"));
    }
    let mut skipped = Skipped::default();
    let mut sources = Vec::new();
    for (is_train, split) in [(true, &train), (false, &test)] {
        for (class, name) in classes.iter().enumerate() {
            let at = split.join(name);
            let own = if at.is_dir() { pictures(&at, &mut skipped)? } else { Vec::new() };
            if own.is_empty() && is_train {
                return Err(DataError::content(&at, format!("the class folder holds no {FORMATS} image")));
            }
            sources.extend(own.into_iter().map(|path| Source { is_train, class: class as u16, path }));
        }
    }
    if sources.iter().all(|source| source.is_train) {
        return Err(DataError::content(&test, format!("its class folders hold no {FORMATS} image")));
    }
    let (shape, [train, test]) = read(&sources, options.size)?;
    let dataset = Dataset::new(name(folder), classes, shape, train, test);
    Ok(Some(Opened { dataset, notes: skipped.notes(folder) }))
}

/// Reads all pictures; every one that is wrong is found before anything is said.
fn read(sources: &[Source], size: Option<u32>) -> Result<(ImageShape, [Split; 2]), DataError> {
    let read: Vec<Result<Picture, FileError>> =
        sources.par_iter().map(|source| Picture::read(&source.path, size)).collect();
    let (mut pictures, mut errors) = (Vec::with_capacity(read.len()), Vec::new());
    for picture in read {
        picture.map_or_else(|error| errors.push(error.into()), |picture| pictures.push(picture));
    }
    if let Some(error) = DataError::several(errors) {
        return Err(error);
    }
    let channels = if pictures.iter().all(Picture::is_gray) { 1 } else { 3 };
    let (first, first_path) = (pictures[0].size(), sources[0].path.display());
    let others: Vec<usize> = (1..pictures.len()).filter(|&index| pictures[index].size() != first).collect();
    if let Some(&other) = others.first() {
        let problem = format!(
            "the image is {} pixels, {first_path} is {first}, and {} of {} images differ from that one; all must \
             have one size: set `data.size` to have them scaled",
            pictures[other].size(),
            others.len(),
            pictures.len()
        );
        return Err(DataError::content(&sources[other].path, problem));
    }
    let shape = ImageShape::new(channels, pictures[0].height, pictures[0].width);
    let mut splits = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for (source, picture) in sources.iter().zip(pictures) {
        let (labels, pixels) = &mut splits[usize::from(!source.is_train)];
        labels.push(source.class);
        pixels.extend(picture.into_planes(channels));
    }
    Ok((shape, splits.map(|(labels, pixels)| Split::new(labels, pixels, shape.len()))))
}

pub(super) fn name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_data(name: &str) -> bool {
    !name.starts_with('.') && !LEFT_BEHIND.contains(&name)
}

/// Names of the class folders, in order.
fn class_folders(split: &Path) -> Result<Vec<String>, DataError> {
    let read = std::fs::read_dir(split).map_err(|error| DataError::read(split, error))?;
    let mut names = Vec::new();
    for entry in read {
        let path = entry.map_err(|error| DataError::read(split, error))?.path();
        let is_hidden = path.file_name().is_none_or(|name| !is_data(&name.to_string_lossy()));
        if is_hidden || !path.is_dir() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let problem = "the name of a class has to be UTF-8; rename the folder";
        names.push(name.ok_or_else(|| DataError::content(&path, problem))?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// Pictures in a class folder and the folders inside it, in order of their paths.
fn pictures(folder: &Path, skipped: &mut Skipped) -> Result<Vec<PathBuf>, DataError> {
    let is_visible = |entry: &walkdir::DirEntry| entry.depth() == 0 || is_data(&entry.file_name().to_string_lossy());
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_visible) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            DataError::read(&path, error.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of links")))
        })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let extension = entry.path().extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if extension.as_deref().is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            found.push(entry.into_path());
        } else {
            skipped.add(extension, entry.path());
        }
    }
    Ok(found)
}

/// Files that are no pictures, by extension: how many, and the first.
#[derive(Default)]
struct Skipped(BTreeMap<String, (usize, PathBuf)>);

impl Skipped {
    fn add(&mut self, extension: Option<String>, path: &Path) {
        let kind = extension.map_or_else(|| "without extension".to_owned(), |extension| format!(".{extension}"));
        self.0.entry(kind).or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    fn notes(&self, folder: &Path) -> Vec<String> {
        let note = |(kind, (count, first)): (&String, &(usize, PathBuf))| {
            let first = first.strip_prefix(folder).unwrap_or(first).display();
            let files = if *count == 1 { "file" } else { "files" };
            format!(
                "{count} {files} {kind} left out, which are no {FORMATS} images: {first}{}",
                if *count > 1 { " ..." } else { "" }
            )
        };
        self.0.iter().map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Result<Dataset, DataError> {
        opened(folder).map(|opened| opened.dataset)
    }

    fn opened(folder: &Path) -> Result<Opened, DataError> {
        crate::open(folder, &Options::default())
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (split, class, value) in
            [("train", "ant", 10), ("train", "bee", 20), ("test", "ant", 30), ("test", "bee", 40)]
        {
            let at = folder.path().join(split).join(class);
            std::fs::create_dir_all(&at).expect("made");
            image::GrayImage::from_pixel(4, 3, image::Luma([value])).save(at.join("1.png")).expect("saved");
        }
        folder
    }

    #[test]
    fn class_folders_are_read() {
        let folder = folder();
        let dataset = read(folder.path()).expect("reads");
        assert_eq!((dataset.classes.join(","), dataset.shape), ("ant,bee".into(), ImageShape::new(1, 3, 4)));
        assert_eq!((dataset.train.image(1)[0], dataset.test.label(1)), (20, 1));
        image::RgbImage::from_pixel(4, 3, image::Rgb([1, 2, 3]))
            .save(folder.path().join("test/bee/2.png"))
            .expect("saved");
        let dataset = read(folder.path()).expect("reads");
        assert_eq!((dataset.shape.channels, dataset.test.image(2)[12]), (3, 2));
    }

    #[test]
    fn wrong_folders_are_named() {
        let at = folder();
        image::GrayImage::new(5, 3).save(at.path().join("train/bee/2.png")).expect("saved");
        let error = read(at.path()).expect_err("size").to_string();
        assert!(
            error.contains("2.png") && error.contains("is 5 x 3 pixels") && error.contains("1.png is 4 x 3"),
            "{error}"
        );
        assert!(error.contains("1 of 5 images") && error.contains("data.size"), "{error}");
        std::fs::write(at.path().join("train/bee/2.png"), b"no image").expect("written");
        assert!(read(at.path()).expect_err("no image").to_string().contains("not a readable"));
        std::fs::remove_dir_all(at.path().join("test")).expect("removed");
        assert!(read(at.path()).expect_err("no test").to_string().contains("no folder `test`"));
        assert!(read(&at.path().join("nowhere")).expect_err("missing").to_string().contains("no such folder"));
        let empty = tempfile::tempdir().expect("a folder");
        assert!(matches!(read(empty.path()), Err(DataError::NotRecognised { .. })));
    }

    #[test]
    fn hidden_files_are_no_data_and_folders_inside_classes_are() {
        let at = folder();
        for left in ["train/.ipynb_checkpoints", "train/__MACOSX", "train/ant/.cache", "test/@eaDir"] {
            let hidden = at.path().join(left);
            std::fs::create_dir_all(&hidden).expect("made");
            image::GrayImage::new(9, 9).save(hidden.join("1.png")).expect("saved");
        }
        std::fs::write(at.path().join("train/ant/Thumbs.db"), b"x").expect("written");
        std::fs::write(at.path().join("train/ant/._1.png"), b"x").expect("written");
        let inside = at.path().join("train/bee/more/2");
        std::fs::create_dir_all(&inside).expect("made");
        image::GrayImage::new(4, 3).save(inside.join("2.bmp")).expect("saved");
        let opened = opened(at.path()).expect("reads");
        assert_eq!(
            (opened.dataset.classes.join(","), opened.dataset.train.labels()),
            ("ant,bee".into(), [0, 1, 1].as_slice())
        );
        assert_eq!(opened.notes.len(), 1, "only that ant has one image: {:?}", opened.notes);
    }

    #[test]
    fn what_is_left_out_is_counted_and_classes_are_named() {
        let at = folder();
        for name in ["a.txt", "b.TXT", "c.heic", "d"] {
            std::fs::write(at.path().join("train/ant").join(name), b"x").expect("written");
        }
        std::fs::remove_dir_all(at.path().join("test/bee")).expect("removed");
        let notes = opened(at.path()).expect("reads").notes.join("\n");
        assert!(notes.contains("2 files .txt left out") && notes.contains("train/ant/a.txt ..."), "{notes}");
        assert!(notes.contains("1 file .heic") && notes.contains("1 file without extension"), "{notes}");
        assert!(notes.contains("1 of 2 classes have no test images") && notes.contains("`bee`"), "{notes}");
        std::fs::remove_file(at.path().join("train/bee/1.png")).expect("removed");
        let error = read(at.path()).expect_err("empty").to_string();
        assert!(error.contains("train/bee") && error.contains("holds no PNG"), "{error}");
    }

    #[test]
    fn every_damaged_picture_is_found() {
        let at = folder();
        let image = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 3, y as u8 * 3, (x * y) as u8]));
        for extension in ["png", "jpg", "bmp", "gif", "tiff", "webp"] {
            let path = at.path().join("train/ant").join(format!("cut.{extension}"));
            image.save(&path).expect("saved");
            let whole = std::fs::read(&path).expect("there");
            std::fs::write(&path, &whole[..whole.len() / 2]).expect("cut");
        }
        (0..6).for_each(|number| {
            std::fs::write(at.path().join(format!("test/bee/empty{number}.jpg")), b"").expect("written")
        });
        let error = read(at.path()).expect_err("damaged").to_string();
        assert!(error.starts_with("12 files cannot be used") && error.ends_with("and 2 more"), "{error}");
        for extension in ["png", "jpg", "bmp", "gif", "tiff", "webp"] {
            assert!(error.contains(&format!("cut.{extension}")), "{error}");
        }
        assert!(error.contains("the JPEG image is cut off") && error.contains("the file is empty"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf_8_work_for_files_and_are_refused_for_classes() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let at = folder();
        let file = at.path().join("train/ant").join(OsStr::from_bytes(b"caf\xe9.png"));
        std::fs::copy(at.path().join("train/ant/1.png"), file).expect("copied");
        assert_eq!(read(at.path()).expect("reads").train.len(), 3);
        std::fs::create_dir(at.path().join("train").join(OsStr::from_bytes(b"caf\xe9"))).expect("made");
        let error = read(at.path()).expect_err("refused").to_string();
        assert!(error.contains("caf") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn images_of_any_size_are_scaled_where_that_is_asked_for() {
        let at = folder();
        image::GrayImage::from_pixel(50, 20, image::Luma([77])).save(at.path().join("train/bee/2.png")).expect("saved");
        let opened = crate::open(at.path(), &Options { size: Some(8) }).expect("reads");
        assert_eq!(
            (opened.dataset.shape, opened.dataset.train.image(2)),
            (ImageShape::new(1, 8, 8), [77; 64].as_slice())
        );
    }
}
