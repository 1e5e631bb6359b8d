"""Photographs on disk: what is read is what is written, in every format, to the last bit."""

import io
import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from minigen.data import DataError
from minigen.data.exif import kept, tables
from minigen.data.photo_file import Photo, read_photo, write_photo

SIZE = 9, 13
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(0)


def photo(channels=3, alpha=False, depth=8, smooth=False):
    """A photo of noise, or of ramps, whose values a file of that depth can hold."""
    most = 2**depth - 1
    if smooth:
        ramp = np.linspace(0, most, SIZE[0] * SIZE[1]).reshape(SIZE).astype(int)
        planes = np.stack([ramp, ramp[::-1], ramp[:, ::-1], ramp])
    else:
        planes = RNG.integers(0, most + 1, (4, *SIZE))
    planes = planes.astype(np.float32) / np.float32(most)
    return Photo(planes[:channels], planes[3] if alpha else None, depth)


def exif(orientation=1, **more):
    """EXIF bytes of a camera, with its table of the exposure."""
    tags = Image.Exif()
    tags[271], tags[274], tags[305] = "Maker", orientation, "firmware"
    tags[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: SIZE[1], 0xA003: SIZE[0], 0x829A: 0.01}
    tags[0x8825] = {1: "N", 2: (10.0, 20.0, 30.0)}
    return tags.tobytes()


def same(a, b):
    assert np.array_equal(a.pixels, b.pixels) and a.depth == b.depth
    assert (a.alpha is None) == (b.alpha is None)
    assert a.alpha is None or np.array_equal(a.alpha, b.alpha)


def fault(path, message):
    with pytest.raises(DataError) as caught:
        read_photo(path)
    text = str(caught.value)
    assert message in text and text.startswith(f"{path}: ") and "\n" not in text


@pytest.mark.parametrize("ending", ["png", "tif", "tiff"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_round_trip(tmp_path, channels, alpha, depth, ending):
    one = photo(channels, alpha, depth)
    path = write_photo(tmp_path / f"a.{ending}", one.pixels, like=one)
    two = read_photo(path)
    if (channels, alpha, path.suffix[:4]) == (1, True, ".tif"):  # which few programs read: colour
        one = replace(one, pixels=one.pixels.repeat(3, 0))
    same(one, two)
    assert two.icc == two.exif == b""
    same(two, read_photo(write_photo(tmp_path / f"b.{ending}", two.pixels, like=two)))


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_round_trip(tmp_path, channels, alpha, depth, ending, caplog):
    one = photo(channels, alpha, depth, smooth=True)
    path = tmp_path / f"a.{ending}"
    if alpha and ending != "webp":
        with pytest.raises(DataError, match="JPEG holds no transparency"):
            write_photo(path, one.pixels, like=one)
        assert not path.exists()
        return
    write_photo(path, one.pixels, like=one)
    assert ("holds 8 bits, so 16 are rounded" in caplog.text) == (depth == 16)
    two = read_photo(path)
    assert two.depth == 8 and len(two.pixels) == (3 if ending == "webp" else channels)
    assert abs(two.pixels - one.pixels).mean() < 0.03
    if alpha:  # WebP keeps it without loss
        np.testing.assert_allclose(two.alpha, one.alpha, atol=0.51 / 255)


def test_little_is_lost(tmp_path):
    """Colours at full size in a JPEG, and what is transparent in a WebP."""
    one = photo()
    with Image.open(write_photo(tmp_path / "a.jpg", one.pixels, like=one)) as image:
        assert JpegImagePlugin.get_sampling(image) == 0 and image.quantization[0][0] <= 2
    one = replace(photo(smooth=True), alpha=np.zeros(SIZE, np.float32))
    two = read_photo(write_photo(tmp_path / "a.webp", one.pixels, like=one))
    assert abs(two.pixels - one.pixels).mean() < 0.05


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_of_another_program(tmp_path, channels, interlace):
    values = RNG.integers(0, 65536, (*SIZE, channels)).astype(np.uint16)
    writer = png.Writer(
        SIZE[1], SIZE[0], greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16,
        interlace=interlace,
    )  # fmt: skip
    with open(tmp_path / "a.png", "wb") as file:
        writer.write_array(file, values.ravel().tolist())
    one = read_photo(tmp_path / "a.png")
    planes = [*one.pixels] + ([] if one.alpha is None else [one.alpha])
    assert one.depth == 16
    assert np.array_equal(np.rint(np.stack(planes, -1) * np.float32(65535)), values)
    # And ours by that program.
    write_photo(tmp_path / "b.png", one.pixels, like=one)
    width, height, rows, info = png.Reader(bytes=(tmp_path / "b.png").read_bytes()).read()
    assert (width, height, info["bitdepth"], info["planes"]) == (*SIZE[::-1], 16, channels)
    assert np.array_equal(np.array([list(row) for row in rows]).reshape(values.shape), values)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_tiff_of_another_program(tmp_path, channels, compression, byteorder):
    values = RNG.integers(0, 65536, (*SIZE, channels)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", values[..., 0] if channels == 1 else values, byteorder=byteorder,
        photometric="minisblack" if channels == 1 else "rgb", compression=compression,
        predictor=compression is not None, extrasamples=["unassalpha"] if channels == 4 else None,
    )  # fmt: skip
    one = read_photo(tmp_path / "a.tif")
    planes = [*one.pixels] + ([] if one.alpha is None else [one.alpha])
    assert np.array_equal(np.rint(np.stack(planes, -1) * np.float32(65535)), values)
    write_photo(tmp_path / "b.tif", one.pixels, like=one)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert np.array_equal(file.asarray().reshape(values.shape), values)


def test_deep_layouts_that_are_refused_or_turned(tmp_path):
    values = RNG.integers(0, 65536, (3, *SIZE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "planar.tif", values, photometric="rgb", planarconfig=2)
    fault(tmp_path / "planar.tif", "would lose 8 of its 16 bits")
    tifffile.imwrite(
        tmp_path / "planar8.tif", values.astype(np.uint8), photometric="rgb", planarconfig=2
    )
    got = read_photo(tmp_path / "planar8.tif").pixels
    assert np.array_equal(np.rint(got * 255), values.astype(np.uint8))
    tifffile.imwrite(tmp_path / "white.tif", values[0], photometric="miniswhite")
    got = read_photo(tmp_path / "white.tif").pixels
    assert np.array_equal(np.rint(got[0] * 65535), 65535 - values[0])
    (tmp_path / "deep.ppm").write_bytes(b"P6 1 1 65535\n" + bytes(6))
    fault(tmp_path / "deep.ppm", "would lose 8 of its 16 bits")
    for most, grey in ((65535, 257), (1020, 4)):  # of which one is 1/255
        (tmp_path / "deep.pgm").write_bytes(b"P5 1 1 %d\n" % most + struct.pack(">H", grey))
        got = read_photo(tmp_path / "deep.pgm")
        assert got.depth == 16 and got.pixels == pytest.approx(1 / 255)
    pair = values[:2].transpose(1, 2, 0)
    tifffile.imwrite(tmp_path / "la.tif", pair, photometric="minisblack", extrasamples=[2])
    fault(tmp_path / "la.tif", "is a TIFF with pixels of a kind that is not read, or damaged; save")
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 255\n" + bytes([255, 0, 51]))
    assert read_photo(tmp_path / "a.ppm").pixels.ravel().tolist() == pytest.approx([1, 0, 0.2])


@pytest.mark.parametrize(("depth", "grey"), [(8, True), (8, False), (16, True), (16, False)])
def test_a_transparent_colour_becomes_alpha(tmp_path, depth, grey):
    values = RNG.integers(0, 2**depth, (*SIZE, 1 if grey else 3)).astype(int)
    key = tuple(values[2, 3].tolist())
    writer = png.Writer(
        SIZE[1], SIZE[0], greyscale=grey, bitdepth=depth, transparent=key[0] if grey else key
    )
    with open(tmp_path / "a.png", "wb") as file:
        writer.write_array(file, values.ravel().tolist())
    one = read_photo(tmp_path / "a.png")
    assert one.depth == depth and len(one.pixels) == values.shape[2]
    assert np.array_equal(one.alpha, (values != values[2, 3]).any(-1).astype(np.float32))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_photos_are_upright(tmp_path, ending, orientation):
    ramp = np.add.outer(np.arange(40) * 2, np.arange(56)).astype(np.uint8) + 40
    ramp[:10, :10] = 240
    image = Image.fromarray(np.stack([ramp, ramp // 2, 255 - ramp], -1))
    tag = Image.Exif()
    tag[274] = orientation
    image.save(tmp_path / f"a.{ending}", exif=tag, **({} if ending == "png" else {"quality": 95}))
    with Image.open(tmp_path / f"a.{ending}") as saved:
        upright = np.asarray(ImageOps.exif_transpose(saved))
    one = read_photo(tmp_path / f"a.{ending}")
    assert np.array_equal(np.rint(one.pixels * 255).transpose(1, 2, 0), upright)
    for other in ("png", "tif"):
        path = write_photo(tmp_path / f"b.{other}", one.pixels, like=one)
        with Image.open(path) as written:
            assert np.array_equal(np.asarray(written), upright)
            assert written.getexif().get(274, 1) == 1
        same(one, read_photo(path))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_photos_are_upright(tmp_path, ending):
    one = replace(photo(depth=16), exif=exif(6))
    path = write_photo(tmp_path / f"a.{ending}", one.pixels, like=one)
    two = read_photo(path)  # the tag is written as given
    assert np.array_equal(two.pixels, np.rot90(one.pixels, 3, (1, 2))) and two.depth == 16


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_exif_profile_and_resolution_go_along(tmp_path, ending, depth):
    one = replace(photo(depth=depth, smooth=True), exif=exif(), icc=ICC, dpi=(300.0, 150.0))
    big = one.pixels.repeat(2, 1).repeat(2, 2)
    two = read_photo(write_photo(tmp_path / f"a.{ending}", big, like=one))
    assert two.icc == ICC
    if ending != "webp":
        assert two.dpi == pytest.approx((300, 150), rel=1e-3)
    found = tables(two.exif)
    assert found[271] == "Maker" and found[305] == "firmware" and found[274] == 1
    assert found[0x8825] == {1: "N", 2: (10.0, 20.0, 30.0)}
    exposure = found[0x8769]
    assert exposure[0x9003] == "2020:01:02 03:04:05" and exposure[0x829A] == pytest.approx(0.01)
    assert (exposure[0xA002], exposure[0xA003]) == (2 * SIZE[1], 2 * SIZE[0])
    assert two.pixels.shape == (3, 2 * SIZE[0], 2 * SIZE[1])


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_names_keep_their_accents(tmp_path, ending):
    tags = Image.Exif()
    tags[315] = "José Ångström".encode()
    one = replace(photo(), exif=tags.tobytes())
    for _ in range(2):
        one = read_photo(write_photo(tmp_path / f"a.{ending}", one.pixels, like=one))
        assert tables(one.exif)[315] == "José Ångström".encode()


def test_layout_tags_of_a_tiff_do_not_travel(tmp_path):
    one = photo()
    tiff = read_photo(write_photo(tmp_path / "a.tif", one.pixels, like=one))
    two = read_photo(write_photo(tmp_path / "a.png", one.pixels[:, :4, :4], like=tiff))
    assert two.pixels.shape == (3, 4, 4) and not {256, 257, 273} & set(tables(two.exif))


def test_only_a_resolution_that_the_file_has_is_kept(tmp_path):
    one = photo(smooth=True)
    tiff = write_photo(tmp_path / "a.tif", one.pixels, like=replace(one, dpi=(300.0, 300.0)))
    content = tiff.read_bytes()
    assert content.count(struct.pack("<2I", 300, 1)) == 2
    for numbers in ((0, 0), (300, 0), (2_000_000_000, 1)):
        tiff.write_bytes(content.replace(struct.pack("<2I", 300, 1), struct.pack("<2I", *numbers)))
        two = read_photo(tiff)
        assert two.dpi is None
        write_photo(tmp_path / "a.png", two.pixels, like=two)
    jpeg = write_photo(tmp_path / "a.jpg", one.pixels, like=replace(one, exif=exif()))
    assert read_photo(jpeg).dpi is None  # though Pillow has it that JPEGs with EXIF data are of 72
    tags = Image.Exif()
    tags[282], tags[283], tags[296] = 90.0, 90.0, 2
    jpeg = write_photo(tmp_path / "b.jpg", one.pixels, like=replace(one, exif=tags.tobytes()))
    assert read_photo(jpeg).dpi == (90, 90)
    with pytest.raises(DataError, match=r"a\.png: cannot be PNG: [^;]*$"):  # not: use .png
        write_photo(tmp_path / "a.png", one.pixels, like=replace(one, dpi=(np.nan, np.nan)))


def test_places_in_the_file_do_not_travel(tmp_path):
    written, tags = Image.Exif(), Image.Exif()
    written[0x8769] = {0x829A: 0.01, 0xA005: 1234}
    tags.load(written.tobytes())
    assert set(tables(kept(tags))[0x8769]) == {0x829A}


def test_alpha_grows_with_the_photo(tmp_path):
    one = photo(alpha=True)
    flat = replace(one, alpha=np.full(SIZE, 0.2, np.float32))
    big = one.pixels.repeat(2, 1).repeat(2, 2)
    two = read_photo(write_photo(tmp_path / "a.png", big, like=flat))
    assert two.alpha.shape == (18, 26) and np.allclose(two.alpha, 0.2)
    hard = replace(one, alpha=(np.arange(SIZE[1]) < 6) * np.ones(SIZE, np.float32))
    two = read_photo(write_photo(tmp_path / "b.png", big, like=hard))
    assert (two.alpha[:, :9] == 1).all() and (two.alpha[:, 16:] == 0).all()


def test_values_are_clipped_and_rounded(tmp_path):
    values = np.array([[[-1, 0.5 / 255 - 1e-5, 0.5 / 255 + 1e-5, 254.6 / 255, 7, np.nan]]], "f4")
    one = read_photo(write_photo(tmp_path / "a.png", values, like=Photo(values)))
    assert np.rint(one.pixels * 255).ravel().tolist() == [0, 0, 1, 255, 255, 0]


@pytest.mark.parametrize(
    ("mode", "channels", "alpha"),
    [("1", 1, False), ("L", 1, False), ("P", 3, False), ("LA", 1, True), ("PA", 3, True)],
)
def test_other_kinds_of_pixels(tmp_path, mode, channels, alpha):
    image = Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), np.uint8)).convert("L")
    path = tmp_path / "a.png"
    if mode == "PA":  # a palette with a transparent entry
        image.convert("P").save(path, transparency=7)
    else:
        image.convert(mode).save(path)
    one = read_photo(path)
    assert len(one.pixels) == channels and (one.alpha is not None) == alpha
    with Image.open(path) as saved:
        expected = np.asarray(saved.convert("RGBA"))
    colours = expected[..., :channels].transpose(2, 0, 1)
    assert np.array_equal(np.rint(one.pixels * 255), colours)
    if alpha:
        assert np.array_equal(np.rint(one.alpha * 255), expected[..., 3])


def test_a_phones_jpeg_of_several_pictures_is_its_first(tmp_path):
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    one = read_photo(tmp_path / "a.jpg")
    assert one.pixels.min() > 0.99


def test_what_is_no_single_photo_is_one_line(tmp_path):
    black = Image.new("RGB", (8, 8))
    for ending, what in (
        ("gif", "frames"),
        ("webp", "frames"),
        ("png", "frames"),
        ("tif", "pages"),
    ):
        path = tmp_path / f"many.{ending}"
        black.save(path, save_all=True, append_images=[Image.new("RGB", (8, 8), "white")])
        fault(path, f"has 2 {what}, expected a single image")
    for ending in ("jpg", "tif"):
        Image.new("CMYK", (8, 8)).save(tmp_path / f"cmyk.{ending}")
        fault(tmp_path / f"cmyk.{ending}", "is CMYK")
    for kind, what in (("i4", "32-bit"), ("i2", "signed"), ("f4", "floating-point")):
        tifffile.imwrite(tmp_path / f"{kind}.tif", np.zeros(SIZE, kind))
        fault(tmp_path / f"{kind}.tif", what)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.ico")
    fault(tmp_path / "a.ico", "is ICO, which is not read as a photo")


def test_what_is_no_image_is_one_line(tmp_path):
    fault(tmp_path / "none.png", "cannot be read: No such file")
    fault(tmp_path, "is a folder, expected an image file")
    (tmp_path / "empty.jpg").write_bytes(b"")
    fault(tmp_path / "empty.jpg", "is empty")
    (tmp_path / "text.png").write_text("no picture")
    fault(tmp_path / "text.png", "is no image that can be read; expected one of PNG, JPEG, TIFF")


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp", "gif", "bmp"])
def test_damage_is_one_line(tmp_path, ending, depth, capfd):
    """Wherever a file is cut, and whatever is written over a part of it."""
    one = replace(photo(depth=depth), exif=exif(), icc=ICC)
    path = tmp_path / f"a.{ending}"
    if ending in ("gif", "bmp"):
        Image.fromarray((one.pixels[0] * 255).astype(np.uint8)).save(path)
    else:
        write_photo(path, one.pixels, like=one)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 16, max(1, len(whole) // 12)):
        path.write_bytes(whole[:length])
        fault(path, "")
    rng, refused = np.random.default_rng(1), 0
    for i in range(40):
        noise = rng.integers(0, 256, 6, np.uint8).tobytes()
        start = int(rng.integers(0, (20, len(whole) - 6)[i % 2]))
        path.write_bytes(whole[:start] + noise + whole[start + 6 :])
        try:
            read_photo(path)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused
    assert capfd.readouterr().err == ""  # libtiff has its own opinions


def test_standard_error_is_heard_again_after_a_tiff(tmp_path, capfd):
    one = photo()
    read_photo(write_photo(tmp_path / "a.tif", one.pixels, like=one))
    os.write(2, b"heard")
    assert capfd.readouterr() == ("", "heard")


def test_bombs(tmp_path):
    stream = io.BytesIO()
    Image.new("1", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = struct.pack(">2I", 50_000, 50_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    fault(tmp_path / "bomb.png", "would be of more than 179 million pixels; cut it into parts")


def test_writing_fails_well(tmp_path):
    one = photo()
    for name, message in (
        ("a", "no photo is written with the ending ''"),
        ("a.gif", "no photo is written with the ending '.gif'; expected one of .png, .tif"),
    ):
        with pytest.raises(DataError, match=message):
            write_photo(tmp_path / name, one.pixels, like=one)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="is a folder, expected a file"):
        write_photo(tmp_path / "folder.png", one.pixels, like=one)
    with pytest.raises(ValueError, match=r"pixels are \(2, 9, 13\), expected \(1 or 3, H, W\)"):
        write_photo(tmp_path / "a.png", one.pixels[:2], like=one)
    wide = np.zeros((1, 1, 20_000), np.float32)
    with pytest.raises(DataError, match=r"wide.webp: cannot be WEBP: .*; use .png"):
        write_photo(tmp_path / "wide.webp", wide, like=Photo(wide))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="cannot be written"):
        write_photo(tmp_path / "file" / "a.png", one.pixels, like=one)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.png"]


def test_folders_are_made(tmp_path):
    one = photo()
    assert write_photo(tmp_path / "x/y/a.png", one.pixels, like=one).is_file()
