"""Patches of whole photographs: where they lie, what is held out, what is kept in memory."""

import struct

import numpy as np
import pytest
from PIL import Image

from minigen.data import Batches, DataError, load, patches, photo, takes_patches
from minigen.data.augment import parse, turn
from minigen.data.folder import read_image, upright_size

RNG = np.random.default_rng(0)


def picture(path, height=20, width=30, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels.transpose(2, 0, 1)


def grid(image, size):
    """The patches by their definition: each half size, and the last row and column."""
    _, height, width = image.shape
    tops = sorted({*range(0, height - size + 1, size // 2), height - size})
    lefts = sorted({*range(0, width - size + 1, size // 2), width - size})
    return np.stack([image[:, t : t + size, x : x + size] for t in tops for x in lefts])


def test_patches_lie_on_a_grid_that_covers_the_image(tmp_path):
    pictures = [picture(tmp_path / f"{i}.png", 20 + 3 * i, 31 - i) for i in range(3)]
    dataset = load(tmp_path, "all", patch_size=8)
    expected = np.concatenate([grid(each, 8) for each in pictures])
    assert dataset.images.shape == expected.shape and dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images[:], expected)
    order = RNG.permutation(len(expected))
    np.testing.assert_array_equal(dataset.images[order], expected[order])
    batch, labels = dataset.batch(order[:5])
    np.testing.assert_array_equal(batch, expected[order[:5]] / np.float32(255))
    assert labels is None and batch.transpose(0, 2, 3, 1).flags.c_contiguous
    counted = np.zeros((20, 31))
    for top in (0, 4, 8, 12):
        for left in (0, 4, 8, 12, 16, 20, 23):
            counted[top : top + 8, left : left + 8] += 1
    assert len(grid(pictures[0], 8)) == 28 and counted.min() >= 1


def test_a_patch_may_be_the_whole_image(tmp_path):
    image = picture(tmp_path / "a.png", 8, 8)
    dataset = load(tmp_path, "all", patch_size=8)
    assert len(dataset) == 1
    np.testing.assert_array_equal(dataset.images[0], image)
    assert len(load(tmp_path, "all", patch_size=1)) == 64


def test_the_photographs_come_in_patches_too():
    train, test = (load("photos", split, patch_size=64) for split in ("train", "test"))
    np.testing.assert_array_equal(test.images[:3], grid(photo("chelsea"), 64)[:3])
    assert train.image_shape == (3, 64, 64) and train.classes[2] == "chelsea"
    assert set(test.labels) == {2} and set(train.labels) == {0, 1, 3}
    assert load("photos", patch_size=32, channels=1).image_shape == (1, 32, 32)


@pytest.mark.parametrize("count, held", [(2, [1]), (9, [8]), (10, [9]), (23, [9, 19])])
def test_whole_files_are_held_out(tmp_path, count, held):
    for i in range(count):
        Image.new("L", (12, 10), i).save(tmp_path / f"{i:02}.png")
    train, test = (load(tmp_path, split, patch_size=8) for split in ("train", "test"))
    assert sorted(set(test.images[:].ravel())) == held
    assert sorted(set(train.images[:].ravel())) == sorted(set(range(count)) - set(held))
    assert train.image_shape == test.image_shape == (1, 8, 8)
    assert train.name.endswith("(train)") and test.name.endswith("(test)")


def test_one_file_is_trained_on_and_leaves_none_to_hold_out(tmp_path):
    picture(tmp_path / "a.png")
    assert len(load(tmp_path, patch_size=8)) == len(load(tmp_path, "all", patch_size=8))
    with pytest.raises(DataError, match="one image only, so none is held out; give at least two"):
        load(tmp_path, "test", patch_size=8)


def test_the_first_of_all_files_decides_between_grey_and_colour(tmp_path):
    picture(tmp_path / "a.png", mode="L")
    picture(tmp_path / "b.png")
    assert load(tmp_path, "test", patch_size=8).image_shape == (1, 8, 8)
    assert load(tmp_path, "test", patch_size=8, channels=3).image_shape == (3, 8, 8)


def test_a_test_folder_is_the_test_split_and_subfolders_are_classes(tmp_path):
    inside = picture(tmp_path / "train" / "cat" / "a.png")
    picture(tmp_path / "train" / "dog" / "b.png")
    alone = load(tmp_path, patch_size=16)  # no test folder: of the two files the last is held out
    assert alone.classes == ("cat", "dog") and set(alone.labels) == {0}
    outside = picture(tmp_path / "val" / "emu" / "c.png", 16, 16)
    train, test = (load(tmp_path, split, patch_size=16) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog", "emu")
    assert train.labels.tolist() == [0] * 6 + [1] * 6 and test.labels.tolist() == [2]
    np.testing.assert_array_equal(train.images[:6], grid(inside, 16))
    np.testing.assert_array_equal(test.images[0], outside)


@pytest.mark.parametrize(
    "kept, decoded", [(1 << 30, 3), (3 * 3 * 600 - 1, 3), (2 * 3 * 600 - 1, 11), (0, 15)]
)
def test_images_are_decoded_once_while_they_fit(tmp_path, monkeypatch, caplog, kept, decoded):
    for i in range(3):
        picture(tmp_path / f"{i}.png")
    calls = []
    read = patches.read_as_is
    monkeypatch.setattr(patches, "KEPT", kept)
    monkeypatch.setattr(patches, "read_as_is", lambda *args: calls.append(args[0]) or read(*args))
    dataset = load(tmp_path, "all", patch_size=8, channels=3)
    assert not calls  # headers only
    everything = [dataset.images[:] for _ in range(5)]
    assert len(calls) == decoded and all(np.array_equal(everything[0], e) for e in everything)
    assert sum(each.nbytes for each in dataset.images._kept.values()) <= kept
    slow = f"{3 - kept // 1800} of 3 images are decoded again and again"
    assert (slow in caplog.text) == (kept < 3 * 1800)


def test_every_kind_of_file_is_read_as_read_image_does(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    for name in ("a.jpg", "b.png", "c.webp", "d.tif"):
        picture(tmp_path / name, exif=exif)
    deep = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "e.png")
    Image.fromarray(deep).save(tmp_path / "f.tif")
    Image.fromarray(deep).save(tmp_path / "g.pgm")
    clear = np.zeros((20, 30, 4), np.uint8)
    Image.fromarray(clear, "RGBA").save(tmp_path / "h.png")
    picture(tmp_path / "i.gif")
    picture(tmp_path / "j.png", mode="1")
    for file in sorted(tmp_path.iterdir()):
        image = read_image(file)
        assert upright_size(file) == image.shape[1:] == ((30, 20) if file.name < "e" else (20, 30))
    exif[0x0112] = 99
    text = b"Exif\0\0MM\0*" + struct.pack(">IH2HI4sI", 8, 1, 0x0112, 2, 2, b"6", 0)
    for unknown in (exif, text):  # which turn nothing
        picture(tmp_path / "k.jpg", exif=unknown)
        assert upright_size(tmp_path / "k.jpg") == read_image(tmp_path / "k.jpg").shape[1:]
    (tmp_path / "k.jpg").unlink()
    dataset = load(tmp_path, "all", patch_size=16, channels=3)
    expected = [grid(read_image(file), 16) for file in sorted(tmp_path.iterdir())]
    np.testing.assert_array_equal(dataset.images[:], np.concatenate(expected))
    assert expected[7].min() == 255  # transparent on white
    for i in (4, 5, 6):  # 16 bits: the nearest of the 256 values, not the upper 8 bits
        scaled = grid(np.rint(deep / 257).astype(np.uint8)[None], 16)
        np.testing.assert_array_equal(expected[i][:, :1], scaled)


def test_faults_are_one_line_that_names_the_file(tmp_path):
    with pytest.raises(DataError, match="no images there"):
        load(f"folder:{tmp_path}", patch_size=8)
    picture(tmp_path / "a.png", 20, 30)
    with pytest.raises(DataError, match=r"a\.png: is 30x20 pixels, smaller than the patches of 24"):
        load(tmp_path, patch_size=24)
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"text", whole[:20]):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.png: cannot be read as an image") as error:
            load(tmp_path, "all", patch_size=8)
        assert "\n" not in str(error.value)
    (tmp_path / "b.png").write_bytes(whole[:300])  # a header, and half of the pixels
    dataset = load(tmp_path, "all", patch_size=8)
    with pytest.raises(DataError, match=r"b\.png: cannot be read as an image"):
        dataset.batch([len(dataset) - 1])
    picture(tmp_path / "b.png", 10, 10)
    with pytest.raises(DataError, match=r"b\.png: has 10x10 pixels, by its header 30x20 when"):
        dataset.batch([len(dataset) - 1])


def test_settings_that_do_not_fit_are_refused(tmp_path):
    for bad in (0, -3, True, 2.5):
        with pytest.raises(DataError, match="expected a whole number of at least 1"):
            load("photos", patch_size=bad)
    with pytest.raises(DataError, match=r"patch_size=8 and image_size=.*; give one"):
        load("photos", patch_size=8, image_size=16)
    with pytest.raises(DataError, match="of the kind fashion-mnist has no photographs to cut"):
        load("fashion-mnist", patch_size=8)
    with pytest.raises(
        DataError, match=r"brick\.png: is 512x512 .* patches of 600x600; cut smaller"
    ):
        load("photos", patch_size=600)
    assert takes_patches("photos") and takes_patches(tmp_path)
    assert not takes_patches("fashion-mnist")


def test_batches_of_patches_go_on_bit_for_bit(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png")

    def batches():
        dataset = load(tmp_path, patch_size=8)
        return Batches(dataset, 4, seed=3, augment="flip,turn", prefetch=1)

    with batches() as first, batches() as second:
        expected = [next(first)[0] for _ in range(9)]
        second.load_state_dict({**first.state_dict(), "batches": 4})
        for each in expected[4:]:
            np.testing.assert_array_equal(next(second)[0], each)


def test_turns_are_quarters_of_square_images():
    images = RNG.uniform(size=(4, 2, 5, 5)).astype(np.float32)
    out = turn(images, np.array([0, 0.25, 0.5, 0.999], np.float32))
    for k in range(4):
        np.testing.assert_array_equal(out[k], np.rot90(images[k], k, (1, 2)))
    with pytest.raises(ValueError, match="turn: images are 6x5 pixels, expected square ones"):
        turn(np.zeros((1, 1, 5, 6), np.float32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="turn takes no parameter"):
        parse("turn:2")
