#!/usr/bin/env python3
"""Chooses the embedded subset of Fashion-MNIST: class-balanced, the first images of each class in file order.

  python3 scripts/make_embedded_dataset.py /usr/share/datasets/fashion-mnist data/assets/fashion-mnist

The first folder holds the four published IDX files (.gz); the second receives four IDX files of the same names.
Training images come from the training files, test images from the test files. Standard library only.
"""

import gzip
import struct
import sys
from pathlib import Path

CLASSES, TRAIN_PER_CLASS, TEST_PER_CLASS = 10, 680, 190


def read(path):
    data = gzip.decompress(path.read_bytes())
    dims = data[3]
    sizes = struct.unpack(f">{dims}I", data[4 : 4 + 4 * dims])
    return sizes, data[4 + 4 * dims :]


def write(path, sizes, data):
    header = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
    path.write_bytes(gzip.compress(header + data, 9, mtime=0))


def choose(source, target, prefix, per_class):
    (count, height, width), images = read(source / f"{prefix}-images-idx3-ubyte.gz")
    _, labels = read(source / f"{prefix}-labels-idx1-ubyte.gz")
    left = [per_class] * CLASSES
    chosen = []
    for index in range(count):
        if left[labels[index]]:
            left[labels[index]] -= 1
            chosen.append(index)
    size = height * width
    write(
        target / f"{prefix}-images-idx3-ubyte.gz",
        (len(chosen), height, width),
        b"".join(images[i * size : (i + 1) * size] for i in chosen),
    )
    write(target / f"{prefix}-labels-idx1-ubyte.gz", (len(chosen),), bytes(labels[i] for i in chosen))


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    choose(source, target, "train", TRAIN_PER_CLASS)
    choose(source, target, "t10k", TEST_PER_CLASS)


if __name__ == "__main__":
    main()
