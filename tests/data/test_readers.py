"""Readers: what they read, that large files are mapped, and one clear line for every fault."""

import gzip
import lzma
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from minigen import data
from minigen.data import DataError, arrays, catalogue, cifar, embedded, idx

RNG = np.random.default_rng(0)
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def is_mapped(array):
    while not isinstance(array, np.memmap) and isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, np.memmap)


def faults(match, call, *args, **options):
    with pytest.raises(DataError, match=match) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)


# --- the embedded data ---------------------------------------------------------------------------


def test_embedded_fashion_mnist():
    train, test = data.load("fashion-mnist"), data.load("fashion-mnist", "test")
    assert len(train) == 10_000 and len(test) == 1_000 and train.image_shape == (1, 28, 28)
    assert len(train.classes) == 10 and train.classes[9] == "Ankle boot"
    # Known values of the published files: the first ten labels, and the mean of all pixels.
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert 0.28 < train.images.mean() / 255 < 0.29
    assert np.bincount(train.labels).min() > 900


def test_embedded_files_are_small_and_licensed():
    sizes = [path.stat().st_size for path in embedded.FOLDER.iterdir() if path.is_file()]
    assert max(sizes) < 4 * 1024 * 1024 and sum(sizes) < 5.5 * 1024 * 1024
    assert "Zalando" in (embedded.FOLDER / "LICENSE.fashion-mnist").read_text()
    licence = (embedded.FOLDER / "LICENSE.photos").read_text()
    assert all(file in licence for file in embedded.PHOTOS.values())


def test_photographs():
    shapes = {name: data.photo(name).shape for name in data.photo_names()}
    assert shapes == {
        "brick": (3, 512, 512),
        "camera": (3, 512, 512),
        "chelsea": (3, 300, 451),
        "coffee": (3, 400, 600),
    }
    train, test, both = (data.load("photos", split) for split in ("train", "test", "all"))
    assert len(train) + len(test) == len(both) == 64 + 64 + 4 * 7 + 6 * 9
    assert set(test.labels) == {train.classes.index("chelsea")}
    assert np.array_equal(test.images[1], data.photo("chelsea")[:, :64, 64:128])
    assert data.load("photos", image_size=(128, 100), channels=1).image_shape == (1, 128, 100)
    faults("chelsea is 451x300 pixels, too small", data.load, "photos", "test", image_size=301)
    faults("no photograph 'lena'", data.photo, "lena")


def test_a_changed_embedded_file_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    (tmp_path / "camera.png").write_bytes(b"other")
    faults(r"camera\.png: SHA-256 is .* the file was changed", embedded.verified, "camera.png")
    faults("cannot be read .* reinstall minigen", embedded.verified, "coffee.png")
    faults("not in SHA256SUMS", embedded.verified, "other.png")


def test_the_maker_makes_the_same_files(tmp_path, monkeypatch):
    from minigen.data.embedded import make

    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    test_files = embedded.FASHION_MNIST["test"]  # the training images take long to compress
    monkeypatch.setattr(make, "FASHION_MNIST", {"train": (), "test": test_files})
    for name in test_files:
        idx_file = lzma.decompress((embedded.FOLDER / name).read_bytes())
        (source / name.replace(".xz", ".gz")).write_bytes(gzip.compress(idx_file, 1))
    made = make.make(source, embedded.FOLDER, out)
    for name in test_files:
        ours = lzma.decompress((out / name).read_bytes())
        assert ours == lzma.decompress((embedded.FOLDER / name).read_bytes())
    for name in embedded.PHOTOS.values():
        assert made[name] == embedded._checksums()[name]
    assert (out / "SHA256SUMS").read_text().count("\n") == 6
    (source / test_files[1].replace(".xz", ".gz")).write_bytes(gzip.compress(idx_bytes(pixels(9))))
    with pytest.raises(SystemExit, match="the source has 9 items, 1000 are wanted"):
        make.make(source, embedded.FOLDER, out)


# --- names and specs -----------------------------------------------------------------------------


def test_names_and_specs(tmp_path):
    assert next(name for name, _ in data.names()) == "fashion-mnist"
    assert all(text and "\n" not in text for _, text in data.names())
    faults("neither a dataset's name nor a path; there are fashion-mnist", data.load, "mnits")
    faults("needs a path, as in mnist:FOLDER", data.load, "mnist")
    faults("nothing after the colon", data.load, "folder:")
    faults("built in and takes no path", data.load, "photos:x")
    faults("does not exist", data.load, f"npy:{tmp_path}/none.npy")
    faults("no split 'valid'", data.load, "photos", "valid")
    faults("channels=2", data.load, "photos", channels=2)
    faults("image_size=0", data.load, "photos", image_size=0)
    faults("'all' is for data without any", data.load, "fashion-mnist", "all")
    (tmp_path / "a.txt").write_text("")
    faults("or write kind:PATH", data.load, tmp_path / "a.txt")
    faults("is a file, mnist needs a folder", data.load, f"mnist:{tmp_path}/a.txt")
    faults("is a folder, npy needs a file", data.load, f"npy:{tmp_path}")


def test_the_full_set_is_looked_for_where_debian_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "FASHION_FOLDER", tmp_path / "none")
    faults("install Debian's dataset-fashion-mnist", data.load, "fashion-mnist-full")
    monkeypatch.setattr(catalogue, "FASHION_FOLDER", tmp_path)
    write_mnist(tmp_path, ".gz", 12)
    full = data.load("fashion-mnist-full")
    assert len(full) == 12 and full.classes[9] == "Ankle boot"
    assert len(data.load(f"fashion-mnist-full:{tmp_path}", "test")) == 4


# --- IDX -----------------------------------------------------------------------------------------


def write_mnist(folder, suffix, count):
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    images, labels = pixels(count, 5, 4), np.arange(count, dtype=np.uint8) % 10
    for prefix, part in (("train", slice(None)), ("t10k", slice(4))):
        path = folder / f"{prefix}-images-idx3-ubyte{suffix}"
        path.write_bytes(pack(idx_bytes(images[part])))
        path = folder / f"{prefix}-labels-idx1-ubyte{suffix}"
        path.write_bytes(pack(idx_bytes(labels[part])))
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_idx_folder_and_file(tmp_path, suffix):
    images, labels = write_mnist(tmp_path, suffix, 12)
    file = tmp_path / f"train-images-idx3-ubyte{suffix}"
    for spec in (f"mnist:{tmp_path}", f"idx:{tmp_path}", tmp_path, file, f"idx:{file}"):
        dataset = data.load(spec)
        assert np.array_equal(dataset.images[:, 0], images)
        assert np.array_equal(dataset.labels, labels)
        assert is_mapped(dataset.images) == (suffix == "")
    assert len(data.load(tmp_path, "test")) == 4
    assert data.load(f"mnist:{tmp_path}").classes == tuple("0123456789")
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").unlink()
    assert data.load(tmp_path).labels is None
    faults("one file has no test split", data.load, file, "test")


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_every_idx_type(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    back = idx.read_idx(tmp_path / "a")
    assert back.dtype.newbyteorder("=") == array.dtype and np.array_equal(back, array)


def test_idx_faults(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    whole = idx_bytes(pixels(3, 4, 5))
    for content, message in (
        (b"", "starts with nothing, not an IDX file"),
        (b"\x89PNG....", "starts with 89504e47, not an IDX file"),
        (whole[:9], "ends inside its header"),
        (whole[:-1], r"59 bytes of data, uint8 of shape \(3, 4, 5\) needs 60"),
        (whole + b"x", "61 bytes of data"),
        (idx_bytes(pixels(4)), r"has shape \(4,\), expected images"),
        (idx_bytes(np.zeros((3, 4, 5), np.int32)), "images are int32|images are >i4"),
        (idx_bytes(pixels(0, 4, 5)), "no length may be 0"),
    ):
        path.write_bytes(content)
        faults(message, data.load, f"idx:{path}")
    path.write_bytes(whole)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(pixels(2)))
    faults(r"labels have shape \(2,\), train-images-idx3-ubyte holds 3", data.load, path)
    faults("no t10k-images-idx3-ubyte", data.load, tmp_path, "test")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 1, 12], "u1")))
    faults(r"labels run from 0 to 12, but there are 10 classes", data.load, f"mnist:{tmp_path}")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(3, "f4")))
    faults("labels are .*f4|labels are float32", data.load, path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_broken_compression(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    path = tmp_path / f"images-idx3-ubyte{suffix}"
    whole = idx_bytes(pixels(30, 40, 5))
    good = pack(whole)
    for bad in (
        good[: len(good) // 2],
        b"not compressed",
        good[:-4],
        good[:100] + b"!" + good[101:],
    ):
        path.write_bytes(bad)
        faults(f"broken {suffix} compression", data.load, f"idx:{path}")
    path.write_bytes(pack(whole[:-1]))
    faults("5999 bytes of data", data.load, f"idx:{path}")
    path.write_bytes(pack(whole + b"xyz"))
    faults("more than 6000 bytes of data", data.load, f"idx:{path}")
    huge = whole[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    path.write_bytes(pack(huge + whole[16:]))
    faults("6000 bytes of data", data.load, f"idx:{path}")  # and no memory for the promise


# --- NumPy files ---------------------------------------------------------------------------------


def test_npy_layouts_are_mapped(tmp_path):
    path = tmp_path / "a.npy"
    for shape, expected in (
        ((6, 5, 4), (6, 1, 5, 4)),
        ((6, 3, 5, 4), (6, 3, 5, 4)),
        ((6, 5, 4, 3), (6, 3, 5, 4)),
    ):
        array = pixels(*shape)
        np.save(path, array)
        dataset = data.load(path)
        assert dataset.images.shape == expected and is_mapped(dataset.images)
        first = dataset.images[0]
        first = first.transpose(1, 2, 0) if shape[-1] == 3 else first.reshape(array[0].shape)
        assert np.array_equal(first, array[0])
    np.save(path, np.asfortranarray(pixels(6, 5, 4)))
    assert data.load(path).images.shape == (6, 1, 5, 4)
    np.save(tmp_path / "a-labels.npy", np.arange(6))
    assert data.load(path).labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.save(tmp_path / "a-labels.npy", np.arange(5))
    faults("5 labels for 6 images", data.load, path)


def test_npy_faults(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    faults("holds Python objects .* never opened", data.load, path)
    path.write_bytes(pickle.dumps([1, 2]))
    faults("not a .npy file", data.load, path)
    path.write_bytes(b"")
    faults("not a .npy file", data.load, path)
    np.save(path, pixels(6, 5))
    faults(r"has shape \(6, 5\), expected", data.load, path)
    np.save(path, pixels(6, 5, 4, 2))
    faults(r"has shape \(6, 5, 4, 2\)", data.load, path)
    np.save(path, np.zeros((6, 5, 4), np.int64))
    faults("images are int64, expected uint8", data.load, path)
    np.save(path, np.zeros((0, 5, 4), np.uint8))
    faults("no length may be 0", data.load, path)
    np.save(path, pixels(6, 5, 4))
    path.write_bytes(path.read_bytes()[:-1])
    faults(
        r"119 bytes of data, uint8 of shape \(6, 5, 4\) needs 120; .* truncated", data.load, path
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    path, images, labels = tmp_path / "a.npz", pixels(6, 5, 4), np.arange(6)
    save(path, images=images, labels=labels)
    dataset = data.load(path)
    assert np.array_equal(dataset.images[:, 0], images) and np.array_equal(dataset.labels, labels)
    assert is_mapped(dataset.images) == (save is np.savez)
    faults(r"has the arrays \['images', 'labels'\], split 'test' needs", data.load, path, "test")
    save(path, x_train=images, y_train=labels[:, None], x_test=images[:2], y_test=labels[:2])
    assert data.load(path).labels.tolist() == labels.tolist()
    assert len(data.load(path, "test")) == 2
    save(path, images)
    assert data.load(path).labels is None
    save(path, images=np.array([None, 1]))
    faults("images.npy: holds Python objects", data.load, path)


def test_npz_faults(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no zip")
    faults("damaged or not a .npz file", data.load, path)
    np.savez_compressed(path, images=pixels(60, 50, 40))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    faults("damaged or not a .npz file", data.load, path)
    np.savez(path, other=pixels(3, 4, 5))
    faults(r"has the arrays \['other'\]", data.load, path)
    assert arrays.as_images(np.zeros((2, 3, 4)), "x").shape == (2, 1, 3, 4)


# --- CIFAR-10 ------------------------------------------------------------------------------------


def write_cifar(folder, kind, count=20):
    images, labels = pixels(6 * count, 3, 32, 32), RNG.integers(0, 10, 6 * count)
    for i, name in enumerate([*cifar.BATCHES["train"], *cifar.BATCHES["test"]]):
        x = images[i * count : (i + 1) * count].reshape(count, -1)
        y = labels[i * count : (i + 1) * count]
        if kind == "binary":
            rows = np.concatenate([y[:, None].astype(np.uint8), x], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        elif kind == "python":
            batch = {b"data": x, b"labels": y.tolist(), b"batch_label": b"a", b"filenames": [b"b"]}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        elif kind == "sprite":
            rows = x.reshape(count, 3, 1024).transpose(0, 2, 1)
            Image.fromarray(np.ascontiguousarray(rows)).save(folder / f"{name}.png")
    if kind == "sprite":
        (folder / "train_lables.json").write_text(str(labels[: 5 * count].tolist()))
        (folder / "test_lables.json").write_text(str(labels[5 * count :].tolist()))
    return images, labels


@pytest.mark.parametrize("kind", ["binary", "python", "sprite"])
def test_cifar10(tmp_path, kind):
    images, labels = write_cifar(tmp_path, kind)
    for spec in (f"cifar10:{tmp_path}", tmp_path):
        train, test = data.load(spec), data.load(spec, "test")
        assert np.array_equal(train.images, images[:100]) and np.array_equal(
            test.images, images[100:]
        )
        assert np.array_equal(train.labels, labels[:100]) and np.array_equal(
            test.labels, labels[100:]
        )
        assert train.classes[3] == "cat"


def test_cifar10_as_folders_of_images(tmp_path):
    for split, classes in (("train", ("airplane", "cat", "dog")), ("test", ("cat",))):
        for name in classes:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(pixels(32, 32, 3)).save(folder / "0.png")
    assert data.load(f"cifar10:{tmp_path}").image_shape == (3, 32, 32)
    test = data.load(f"cifar10:{tmp_path}", "test")
    assert test.labels.tolist() == [1] and test.classes == ("airplane", "cat", "dog")


def test_cifar10_faults(tmp_path):
    faults("no CIFAR-10 there; expected data_batch_1.bin", data.load, f"cifar10:{tmp_path}")
    write_cifar(tmp_path, "binary")
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3072)
    faults(r"data_batch_3\.bin: 3072 bytes, not a whole number", data.load, f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_3.bin").unlink()
    faults(r"data_batch_3\.bin: missing; the train split has 5", data.load, f"cifar10:{tmp_path}")
    (tmp_path / "test_batch.bin").write_bytes(b"\x0b" + b"x" * 3072)
    faults("labels run from 11 to 11", data.load, f"cifar10:{tmp_path}", "test")


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_is_never_executed(tmp_path, capsys):
    path = tmp_path / "test_batch"
    spec = f"cifar10:{tmp_path}"
    good = {b"data": pixels(2, 3072), b"labels": [1, 2]}
    for batch, message in (
        (Evil(), r"asks for (__builtin__|builtins)\.print, which is never executed"),
        ({b"data": Evil(), b"labels": []}, "never executed"),
        ([1], "not a CIFAR-10 batch"),
        ({**good, b"labels": [1, 10]}, "labels must be integers from 0 to 9"),
        ({**good, b"labels": [1]}, r"data is uint8 of shape \(2, 3072\), expected .*\(1, 3072\)"),
        ({**good, b"data": np.array([None] * 3072)}, "a pickle of dtype 'O8'"),
        ({**good, b"data": np.zeros((2, 3072), "f8")}, "a pickle of dtype 'f8'"),
    ):
        path.write_bytes(pickle.dumps(batch, protocol=2))
        faults(message, data.load, spec, "test")
    for cut in (0, 3, 50, 500):
        path.write_bytes(pickle.dumps(good, protocol=2)[:cut])
        faults("a damaged CIFAR-10 Python batch", data.load, spec, "test")
    assert capsys.readouterr().out == ""
