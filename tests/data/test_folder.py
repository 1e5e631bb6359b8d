"""Folders of images: any mode and size in, one shape out; damage is named when it is met."""

import numpy as np
import pytest
from PIL import Image

from minigen import data
from minigen.data import DataError
from minigen.data.folder import read_image

RNG = np.random.default_rng(0)


def picture(path, height=20, width=30, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels


def test_subfolders_are_the_classes(tmp_path):
    for name in ("dog/b.png", "dog/a.jpg", "cat/sub/c.png", "cat/.hidden.png", ".git/x.png"):
        picture(tmp_path / name)
    (tmp_path / "dog" / "notes.txt").write_text("")
    for spec in (tmp_path, f"folder:{tmp_path}"):
        dataset = data.load(spec, image_size=16)
        assert dataset.image_shape == (3, 16, 16) and len(dataset) == 3
        assert dataset.classes == ("cat", "dog") and dataset.labels.tolist() == [0, 1, 1]
    picture(tmp_path / "root.png")
    assert data.load(tmp_path, image_size=16).labels is None


def test_splits(tmp_path):
    picture(tmp_path / "train" / "a" / "0.png")
    picture(tmp_path / "val" / "b" / "0.png")
    train, test = data.load(tmp_path), data.load(tmp_path, "test")
    assert train.classes == test.classes == ("a", "b")
    assert train.labels.tolist() == [0] and test.labels.tolist() == [1]
    assert len(data.load(tmp_path, "all")) == 2
    (tmp_path / "train" / "a" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no images there; expected files ending in \.bmp"):
        data.load(tmp_path)
    with pytest.raises(DataError, match="no sub-folder 'test' for the test split"):
        data.load(tmp_path / "val", "test")
    (tmp_path / "train" / "a").rmdir(), (tmp_path / "train").rmdir()
    with pytest.raises(DataError, match="no sub-folder 'train'"):
        data.load(tmp_path)


def test_images_are_lazy_and_exact(tmp_path):
    pictures = [picture(tmp_path / f"{i:03}.png") for i in range(5)]
    dataset = data.load(tmp_path)
    assert dataset.images.shape == (5, 3, 20, 30) and dataset.images.dtype == np.uint8
    assert np.array_equal(dataset.images[2], pictures[2].transpose(2, 0, 1))
    assert np.array_equal(dataset.images[-1:][0], pictures[-1].transpose(2, 0, 1))
    assert np.array_equal(np.asarray(dataset.images)[1], pictures[1].transpose(2, 0, 1))
    batch, labels = dataset.batch([4, 0])
    assert batch.dtype == np.float32 and labels is None
    assert np.array_equal(batch[0], pictures[4].transpose(2, 0, 1) / np.float32(255))
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous


def test_grey_or_colour(tmp_path):
    picture(tmp_path / "a.png", mode="L")
    picture(tmp_path / "b.png")
    assert data.load(tmp_path).image_shape == (1, 20, 30)
    assert data.load(tmp_path, channels=3).image_shape == (3, 20, 30)
    colour = data.load(tmp_path, channels=3)
    assert np.array_equal(colour.images[0][0], colour.images[0][2])
    assert data.load(tmp_path, channels=1).batch([1])[0].shape == (1, 1, 20, 30)


def test_other_modes(tmp_path):
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "I;16"):
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        picture(path, mode="L" if mode == "I;16" else mode)
        assert read_image(path).shape == (3, 20, 30)
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", channels=1).tolist() == [[[0, 1, 255]]]
    clear = Image.fromarray(np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8), "RGBA")
    clear.save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[:, 0, :].T.tolist() == [[255, 255, 255], [255, 0, 0]]
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif: pixels of mode 'F' have no known range"):
        read_image(tmp_path / "float.tif")


def test_a_turned_photograph_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    picture(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 30, 20)


def test_resizing_covers_and_crops(tmp_path):
    path = tmp_path / "a.png"
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 255  # what a centred square crop of 40x80 keeps
    Image.fromarray(pixels).save(path)
    image = read_image(path, (10, 10))
    assert image.shape == (3, 10, 10) and image[:, :, 1:-1].min() == 255
    assert read_image(path, (64, 32)).shape == (3, 64, 32)


def test_embedded_images_can_be_resized_and_coloured():
    dataset = data.load("fashion-mnist", "test", image_size=32, channels=3)
    images, labels = dataset.batch(range(4))
    assert images.shape == (4, 3, 32, 32) and labels.shape == (4,)
    small = data.load("fashion-mnist", "test").batch(range(4))[0]
    assert abs(images.mean() - small.mean()) < 0.01
    assert np.array_equal(images[:, 0], images[:, 2])


def test_faults_name_the_image(tmp_path):
    with pytest.raises(DataError, match="no images there"):
        data.load(tmp_path)
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", height=21)
    dataset = data.load(tmp_path)
    with pytest.raises(
        DataError, match=r"b\.png: is 30x21 pixels, a\.png is 30x20; give image_size"
    ):
        dataset.batch([0, 1])
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.png: cannot be read as an image") as error:
            dataset.batch([1])
        assert "\n" not in str(error.value)
    with pytest.raises(IndexError, match="indices run from 0 to 2, the dataset has 2 images"):
        dataset.batch([0, 2])


def test_float_images_must_lie_between_0_and_1(tmp_path):
    images = RNG.uniform(size=(5, 4, 4)).astype(np.float64)
    np.save(tmp_path / "a.npy", images)
    batch, _ = data.load(tmp_path / "a.npy").batch([1])
    assert np.array_equal(batch[0, 0], images[1].astype(np.float32))
    for bad in (-1.0, 255.0, np.nan, np.inf, 1e300):
        images[3, 0, 0] = bad
        np.save(tmp_path / "a.npy", images)
        with pytest.raises(
            DataError, match=r"image 3 has pixels from .*expected floats in \[0, 1\]"
        ):
            data.load(tmp_path / "a.npy").batch([2, 3])
    with pytest.raises(DataError, match=r"a\.npy: image_size and channels need uint8"):
        data.load(tmp_path / "a.npy", image_size=8)


def test_holdout_and_select():
    whole = data.load("fashion-mnist", "test")
    train, test = whole.holdout(10)
    assert len(train) == 900 and len(test) == 100
    assert np.array_equal(test.images[0], whole.images[9])
    assert np.array_equal(train.batch([9])[0], whole.batch([10])[0])
    assert np.array_equal(train.labels[8:10], whole.labels[[8, 10]])
    with pytest.raises(DataError, match="needs 2 <= every <= 4"):
        whole.select(range(4)).holdout(5)
