//! Published data sets: where they are, under which licence, and how their files are recognised.

use md5::{Digest as _, Md5};

/// One published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedFile {
    /// File name.
    pub name: &'static str,
    /// MD5 as published.
    pub md5: &'static str,
    /// MD5 of the unpacked content, by which a file that was packed again is recognised; where it is known.
    pub unpacked: Option<&'static str>,
}

/// One published data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Name for `data get`.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Licence or terms.
    pub licence: &'static str,
    /// Address of the folder that holds the files.
    pub base: &'static str,
    /// Its files.
    pub files: &'static [PublishedFile],
}

const fn file(name: &'static str, md5: &'static str) -> PublishedFile {
    PublishedFile { name, md5, unpacked: None }
}

const fn packed(name: &'static str, md5: &'static str, unpacked: &'static str) -> PublishedFile {
    PublishedFile { name, md5, unpacked: Some(unpacked) }
}

/// Every data set that `data get` knows.
pub const PUBLISHED: [Published; 4] = [
    Published {
        name: "cifar10",
        title: "CIFAR-10: 60,000 colour images of 32x32, 10 classes",
        licence: "no licence stated; free for research",
        base: "https://www.cs.toronto.edu/~kriz/",
        files: &[file("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d13530")],
    },
    Published {
        name: "cifar100",
        title: "CIFAR-100: 60,000 colour images of 32x32, 100 classes",
        licence: "no licence stated; free for research",
        base: "https://www.cs.toronto.edu/~kriz/",
        files: &[file("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")],
    },
    Published {
        name: "mnist",
        title: "MNIST: 70,000 gray images of 28x28, 10 digits",
        licence: "CC BY-SA 3.0",
        base: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            packed("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", MNIST_TRAIN_IMAGES),
            packed(
                "train-labels-idx1-ubyte.gz",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "a25bea736e30d166cdddb491f175f624",
            ),
            packed("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
            packed("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
        ],
    },
    Published {
        name: "fashion-mnist",
        title: "Fashion-MNIST: 70,000 gray images of 28x28, 10 kinds of clothing",
        licence: "MIT",
        base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files: &[
            packed("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", FASHION_TRAIN_IMAGES),
            packed(
                "train-labels-idx1-ubyte.gz",
                "25c81989df183df01b3e8a0aad5dffbe",
                "9018921c3c673c538a1fc5bad174d6f9",
            ),
            packed("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
            packed("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
        ],
    },
];

/// The published data set of a name.
pub fn find(name: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|published| published.name == name)
}

/// MD5 of the unpacked Fashion-MNIST training images, by which the data set is recognised.
const FASHION_TRAIN_IMAGES: &str = "f4a8712d7a061bf5bd6d2ca38dc4d50a";

/// The same of MNIST.
const MNIST_TRAIN_IMAGES: &str = "6bbc9ace898e44ae57da46a324031adb";

const FASHION: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// Name of a published data set, by its unpacked training images.
pub(super) fn idx_name(train_images: &[u8]) -> Option<&'static str> {
    match md5_of(train_images).as_str() {
        FASHION_TRAIN_IMAGES => Some("fashion-mnist"),
        MNIST_TRAIN_IMAGES => Some("mnist"),
        _ => None,
    }
}

/// Class names of a published data set, where labels have other names than numbers.
pub(super) fn idx_classes(name: &str) -> Option<Vec<String>> {
    name.starts_with("fashion-mnist").then(|| FASHION.map(str::to_owned).to_vec())
}

/// MD5 of some bytes as hexadecimal digits. It guards against damage, not against an attacker.
pub fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
