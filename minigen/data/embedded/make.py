"""Makes the embedded files from their sources, so that anybody can check what they are.

    python -m minigen.data.embedded.make --fashion-mnist FOLDER --photos FOLDER [--out FOLDER]

FOLDER of Fashion-MNIST: the four IDX .gz files (Debian: dataset-fashion-mnist, in
/usr/share/datasets/fashion-mnist). FOLDER of photos: skimage/data of an installed scikit-image.
The same sources and the same liblzma give the same bytes; SHA256SUMS records them.
"""

import argparse
import gzip
import hashlib
import lzma
import struct
import sys
from pathlib import Path

from minigen.data.embedded import FASHION_MNIST, FOLDER, PHOTOS

TRAIN_IMAGES, TEST_IMAGES = 10_000, 1_000
LARGEST_FILE = 4 * 1024 * 1024
# What scikit-image's own registry records (skimage/data/_registry.py): the photographs are shipped
# byte for byte, because their licences were read for exactly these files.
PHOTO_SHA256 = {
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
}


def make(fashion_mnist: Path, photos: Path, out: Path) -> dict[str, str]:
    """Writes every embedded file and SHA256SUMS into `out`; returns name -> SHA-256."""
    files = {}
    for split, keep in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        for name in FASHION_MNIST[split]:
            source = gzip.decompress((fashion_mnist / name.replace(".xz", ".gz")).read_bytes())
            files[name] = _compress(_first(source, keep))
    for name in PHOTOS.values():
        files[name] = (photos / name).read_bytes()
        if (found := hashlib.sha256(files[name]).hexdigest()) != PHOTO_SHA256[name]:
            raise SystemExit(f"{photos / name}: SHA-256 {found}, expected {PHOTO_SHA256[name]}")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        if len(content) >= LARGEST_FILE:
            raise SystemExit(f"{name}: {len(content)} bytes, the limit is {LARGEST_FILE}")
        (out / name).write_bytes(content)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    (out / "SHA256SUMS").write_text(lines, encoding="ascii", newline="\n")
    return sums


def _first(idx: bytes, count: int) -> bytes:
    """The same IDX file with its first `count` items only."""
    dimensions = idx[3]
    total, *rest = struct.unpack(f">{dimensions}I", idx[4 : 4 + 4 * dimensions])
    if total < count:
        raise SystemExit(f"the source has {total} items, {count} are wanted")
    header = idx[:4] + struct.pack(f">{dimensions}I", count, *rest)
    size = count
    for length in rest:
        size *= length
    start = 4 + 4 * dimensions
    return header + idx[start : start + size]


def _compress(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23}]
    packed = lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters)
    if lzma.decompress(packed) != data:
        raise SystemExit("xz did not give back what it was given")
    return packed


def main() -> None:
    """Reads the command line, makes the files and reports their sizes."""
    parser = argparse.ArgumentParser(description="make the embedded data files")
    parser.add_argument("--fashion-mnist", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    for name, digest in make(options.fashion_mnist, options.photos, options.out).items():
        sys.stdout.write(f"{digest}  {(options.out / name).stat().st_size:>8}  {name}\n")


if __name__ == "__main__":
    main()
