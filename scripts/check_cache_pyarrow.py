#!/usr/bin/env python3
"""Opens a file of the spike cache with pyarrow and compares its spikes with expected ones.

  python3 scripts/check_cache_pyarrow.py SHARD.arrow EXPECTED.bin T C H W

EXPECTED.bin holds one byte (0 or 1) for every spike, [samples, T, C, H, W]. Exits with 1 when they differ.
"""

import sys

import numpy
import pyarrow


def main():
    path, expected_path = sys.argv[1:3]
    t, c, h, w = map(int, sys.argv[3:7])
    with pyarrow.OSFile(path) as source:
        table = pyarrow.ipc.open_file(source).read_all()
    assert table.column_names == ["sample_id", "label", "view", "spikes"], table.column_names
    packed = numpy.frombuffer(b"".join(table["spikes"].to_pylist()), dtype=numpy.uint8).reshape(len(table), t, h, w, -1)
    bits = numpy.unpackbits(packed, axis=-1, bitorder="little")[..., :c]
    spikes = bits.transpose(0, 1, 4, 2, 3)
    expected = numpy.fromfile(expected_path, dtype=numpy.uint8).reshape(spikes.shape)
    if not (spikes == expected).all():
        sys.exit(f"{(spikes != expected).sum()} of {spikes.size} spikes differ")
    print(f"{len(table)} samples, {spikes.size} spikes, all equal; {table.schema.metadata[b'dims'].decode()}")


if __name__ == "__main__":
    main()
