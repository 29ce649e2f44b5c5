//! What people have beside what is read here: named as what it is, with what to do.

use super::DataError;
use std::path::{Path, PathBuf};

/// What a file is, by its name, and what to do with it.
pub(super) fn file(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let folder = path.parent().map(|parent| parent.display().to_string()).filter(|parent| !parent.is_empty());
    let folder = folder.unwrap_or_else(|| ".".into());
    let what = if ends(&[".tar.gz", ".tgz", ".tar", ".tar.xz", ".tar.bz2"]) {
        format!(
            "it is still packed; unpack it (`tar -xf {} -C {folder}`) and give the folder that comes out",
            path.display()
        )
    } else if ends(&[".zip"]) {
        format!(
            "it is still packed; unpack it (`unzip {} -d {folder}`) and give the folder that comes out",
            path.display()
        )
    } else if ends(&[".mat"]) {
        format!("it is a MATLAB file (as SVHN and CIFAR have them), which is not read here; {CONVERT}")
    } else if ends(&[".npz", ".npy"]) {
        format!("it is a NumPy file (as Kuzushiji-49 and MedMNIST have them), which is not read here; {CONVERT}")
    } else if ends(&[".parquet", ".arrow"]) {
        format!("it is a table (as Hugging Face's data sets), which is not read here; {CONVERT}")
    } else if ends(&[".h5", ".hdf5"]) {
        format!("it is an HDF5 file, which is not read here; {CONVERT}")
    } else if name == "train_x.bin" || name == "train_y.bin" {
        format!("it is STL-10's binary form, which is not read here; {CONVERT}")
    } else {
        return None;
    };
    Some(what)
}

const CONVERT: &str = "save its images as train/<class>/*.png and test/<class>/*.png";

/// The first file of a folder that is known, and what it is.
pub(super) fn inside(folder: &Path) -> Result<Option<(PathBuf, String)>, DataError> {
    let read = std::fs::read_dir(folder).map_err(|error| DataError::read(folder, error))?;
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    if let Some(found) = paths.iter().find_map(|path| file(path).map(|what| (path.clone(), what))) {
        return Ok(Some(found));
    }
    let validation = paths
        .iter()
        .find(|path| path.is_dir() && ["val", "valid", "validation"].iter().any(|name| path.ends_with(name)));
    let hint = "the folders have to be called `train` and `test`; rename this one to `test`, and the other to `train`";
    Ok(validation.map(|path| (path.clone(), hint.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::{Options, open};

    #[test]
    fn what_is_not_read_here_is_named_with_what_to_do() {
        for (name, what) in [
            ("cifar-10-binary.tar.gz", "tar -xf"),
            ("archive.zip", "unzip"),
            ("train_32x32.mat", "MATLAB"),
            ("k49-train-imgs.npz", "NumPy"),
            ("train-00000-of-00001.parquet", "Hugging Face"),
            ("train_X.bin", "STL-10"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(name);
            std::fs::write(&path, b"x").expect("written");
            for given in [folder.path(), &path] {
                let error = open(given, &Options::default()).expect_err("not read").to_string();
                assert!(error.contains(name) && error.contains(what), "{error}");
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("val")).expect("made");
        assert!(open(folder.path(), &Options::default()).expect_err("val").to_string().contains("rename"));
    }
}
