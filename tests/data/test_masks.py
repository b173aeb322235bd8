"""Every mask and image format that is read, and what is said of those that are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from dinoseg.data.label_maps import write_label_map
from dinoseg.data.masks import mask_ignored_pixels, read_mask, read_pair, rotate_like
from dinoseg.data.pairs import Pair
from dinoseg.data.pictures import read_image, to_picture
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind

ORIENTATION = 0x0112
IDS = np.array([[0, 1, 2], [3, 1, 0]], dtype=np.uint8)
RGB = np.array([[[0, 0, 0], [255, 0, 16]], [[1, 2, 3], [255, 0, 16]]], dtype=np.uint8)
PACKED = [[0, 0xFF0010], [0x010203, 0xFF0010]]


def _palette_image(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette([0, 0, 0, 255, 0, 16, 1, 2, 3, 9, 9, 9] + [0] * (252 * 3))
    return image


def _tagged(image: Image.Image, path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_8_bit_grey(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(IDS).save(path)
    mask = read_mask(path)
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, IDS)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey(suffix: str, tmp_path: Path) -> None:
    ids = np.array([[0, 256, 65535]], dtype=np.uint16)
    Image.fromarray(ids).save(tmp_path / f"a{suffix}")
    assert read_mask(tmp_path / f"a{suffix}").tolist() == [[0, 256, 65535]]


def test_32_bit_tiff(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "a.tif")
    assert read_mask(tmp_path / "a.tif").tolist() == [[0, 70000]]


def test_1_bit_gives_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "1"
    assert read_mask(tmp_path / "a.png").tolist() == [[1, 0]]


@pytest.mark.parametrize("bits", [2, 4])
def test_2_and_4_bit_grey_are_not_stretched(bits: int, tmp_path: Path) -> None:
    # Written by hand: Pillow reads such files but does not write them.
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = {2: bytes([0b00011011]), 4: bytes([0x01, 0x23])}[bits]
    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(data)
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 2, 3]]


def test_palette_masks_are_indices_or_colours_as_declared(tmp_path: Path) -> None:
    _palette_image(np.array([[0, 1], [2, 1]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", "ids").tolist() == [[0, 1], [2, 1]]
    assert read_mask(tmp_path / "a.png", "colours").tolist() == PACKED


def test_grey_with_alpha_gives_the_grey(tmp_path: Path) -> None:
    Image.fromarray(np.stack([IDS, np.full_like(IDS, 9)], axis=-1)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), IDS)


@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_and_rgba_give_packed_colours(alpha: bool, tmp_path: Path) -> None:
    pixels = np.concatenate([RGB, np.full((2, 2, 1), 7, np.uint8)], axis=-1) if alpha else RGB
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", "colours").tolist() == PACKED


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, bool])
def test_npy_ids(dtype: type, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[0], [1]]], dtype=dtype))
    assert read_mask(tmp_path / "a.npy").tolist() == [[0, 1]]


def test_npy_colours(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RGB)
    assert read_mask(tmp_path / "a.npy", "colours").tolist() == PACKED


def _pages(path: Path, form: str) -> None:
    first, second = (Image.fromarray((value == IDS).astype(np.uint8)) for value in (1, 2))
    first.save(path, form, save_all=True, append_images=[second])


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("name", "make", "kind", "message"),
    [
        ("a.png", lambda p: Image.fromarray(RGB).save(p), "ids", r"3 colours where label ids.*'#000000': name_0"),
        (
            "a.png",
            lambda p: Image.fromarray(np.stack([IDS] * 3, axis=-1)).save(p),
            "ids",
            r"three channels are equal \(values \[0, 1, 2, 3\]\)",
        ),
        ("a.png", lambda p: Image.fromarray(IDS).save(p), "colours", r"grey mask \(mode L\).*declares colours"),
        ("a.npy", lambda p: np.save(p, RGB), "ids", "3 colours where label ids are expected"),
        ("a.npy", lambda p: np.save(p, IDS), "colours", "one channel where"),
        ("a.npy", lambda p: np.save(p, IDS + np.float32(0.5)), "ids", "holds 0.5, which is no label id"),
        ("a.npy", lambda p: np.save(p, np.array([[0, np.nan]])), "ids", "holds nan, which is no label id"),
        ("a.npy", lambda p: np.save(p, np.array([[0, np.inf]])), "ids", "holds inf, which is no label id"),
        ("a.npy", lambda p: np.save(p, np.array([[1e12]])), "ids", "label id 1000000000000 does not fit"),
        ("a.npy", lambda p: np.save(p, np.array([[2**31]])), "ids", "label id 2147483648 does not fit"),
        ("a.npy", lambda p: np.save(p, np.array([[-(2**32) + 1]])), "ids", "label id -4294967295 does not fit"),
        ("a.npy", lambda p: np.save(p, np.array([[2**63]], dtype=np.uint64)), "ids", "does not fit"),
        ("a.npy", lambda p: np.save(p, np.array([[1j]])), "ids", "type complex128; label ids are whole numbers"),
        ("a.npy", lambda p: np.save(p, np.array([[{}]]), allow_pickle=True), "ids", "holds Python objects"),
        ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY"), "ids", "truncated or damaged array"),
        ("a.png", _truncated, "ids", "truncated or damaged"),
        ("a.png", lambda p: p.write_text("hello"), "ids", "not an image that can be read"),
        ("a.png", lambda p: None, "ids", "no such file"),
        ("a.npy", lambda p: None, "ids", "no such file"),
        ("a.tif", lambda p: Image.fromarray(IDS + np.float32(0.25)).save(p), "ids", "holds 0.25, which is no label id"),
        ("a.tif", lambda p: _pages(p, "TIFF"), "ids", "holds 2 pages"),
        ("a.png", lambda p: _pages(p, "PNG"), "ids", "holds 2 pages"),
        ("a.gif", lambda p: _pages(p, "GIF"), "ids", "holds 2 pages"),
    ],
)
def test_masks_that_cannot_be_read_as_declared(
    name: str, make: Callable[[Path], None], kind: Kind, message: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        read_mask(tmp_path / name, kind)
    assert str(tmp_path / name) in str(error.value)


# --- images


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA"])
def test_every_picture_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))
    assert image.getpixel((2, 1)) == (255, 255, 255)


def test_16_bit_grey_images_are_scaled_to_8_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    grey = np.asarray(read_image(tmp_path / "a.png"))
    assert grey[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_a_float_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(
        ValueError, match=r"a\.tif: a valid picture of floating-point values \(mode F\), which dinoseg does not read"
    ):
        read_image(tmp_path / "a.tif")


# --- EXIF rotation


def _example_image() -> Image.Image:
    return Image.fromarray(np.arange(2 * 3, dtype=np.uint8).reshape(2, 3) * 20)


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])  # 2, 3 and 4 keep the size, which then tells nothing
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_as_stored_is_turned_like_its_image(orientation: int, suffix: str, tmp_path: Path) -> None:
    image_path = _tagged(_example_image(), tmp_path / f"a{suffix}", orientation)
    mask_path = tmp_path / "m.png"
    _example_image().save(mask_path)
    image, mask = read_pair(Pair("a", image_path, mask_path))
    assert image.size == ((2, 3) if orientation >= 5 else (3, 2))
    np.testing.assert_array_equal(np.asarray(image)[..., 0], mask)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_its_own_tag_or_drawn_upright_stays_aligned(orientation: int, tmp_path: Path) -> None:
    image_path = _tagged(_example_image(), tmp_path / "a.png", orientation)
    own_tag = _tagged(_example_image(), tmp_path / "m.png", orientation)
    upright = tmp_path / "u.png"
    Image.fromarray(rotate_like(np.asarray(_example_image()).astype(np.int32), orientation).astype(np.uint8)).save(
        upright
    )
    for path in (own_tag, upright):
        image, mask = read_pair(Pair("a", image_path, path))
        np.testing.assert_array_equal(np.asarray(image)[..., 0], mask)


def test_different_sizes_name_both(tmp_path: Path) -> None:
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"a\.png is 5 x 4 but its mask .*m\.png is 4 x 4"):
        read_pair(Pair("a", tmp_path / "a.png", tmp_path / "m.png"))


# --- writing


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize(
    "space",
    [
        LabelSpace.build({0: "a", 3: "b", 7: "c"}, [255], False, ()),
        LabelSpace.build({0: "a", 300: "b", 65000: "c"}, [65535], False, ()),
        LabelSpace.build({"#000000": "a", "#ff0010": "b", "#010203": "c"}, ["#ffffff"], False, ()),
    ],
    ids=["8-bit", "16-bit", "colours"],
)
def test_a_truth_written_and_read_again_is_the_same(suffix: str, space: LabelSpace, tmp_path: Path) -> None:
    ids = [entry.label_ids[0] for entry in space.classes] + [space.ignored_ids[0]]
    truth = np.random.default_rng(0).choice(np.array(ids), (37, 53)).astype(np.int32)
    path = tmp_path / f"a{suffix}"
    write_label_map(path, space.decode(space.encode(truth)), space)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(path), truth)
    else:
        np.testing.assert_array_equal(read_mask(path, space.kind), truth)


def test_a_palette_draws_the_classes_and_keeps_the_ids(tmp_path: Path) -> None:
    space = LabelSpace.build({0: "a", 3: {"name": "b", "colour": "#0a0b0c"}}, None, False, ())
    write_label_map(tmp_path / "a.png", np.array([[0, 3]], dtype=np.uint8), space, palette=True)
    image = Image.open(tmp_path / "a.png")
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((1, 0)) == (10, 11, 12)
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 3]]


def test_ids_too_large_for_png_leave_no_file(tmp_path: Path) -> None:
    space = LabelSpace.build({0: "a", 70000: "b"}, None, False, ())
    with pytest.raises(ValueError, match="label id 70000 does not fit 16 bits"):
        write_label_map(tmp_path / "a.png", np.array([[70000]], dtype=np.int32), space)
    assert list(tmp_path.iterdir()) == []


def test_ignored_pixels_of_a_truth_are_ignored_in_a_class_map() -> None:
    space = LabelSpace.build({0: "a", 1: "b"}, [3], False, ())
    hidden = mask_ignored_pixels(np.array([[0, 1, 1]], dtype=np.uint8), np.array([[0, 3, 1]]), space)
    assert hidden.tolist() == [[0, 255, 1]]


def test_a_picture_beyond_the_pixel_limit_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError) as raised:
        read_image(tmp_path / "scan.png")
    conversion = f"rio convert {tmp_path / 'scan.png'} {tmp_path / 'scan.tif'}"
    for part in ("scan.png: more than 200 pixels", "tiles", "PIL.Image.MAX_IMAGE_PIXELS", conversion):
        assert part in str(raised.value)
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_signed_and_float_maps_are_read_exactly(dtype: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [-1, -100, 127]])
    np.save(tmp_path / "a.npy", ids.astype(dtype))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), ids)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_signed_and_float_tiffs_are_read_exactly(dtype: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [-1, -9999, 70000]])
    Image.fromarray(ids.astype(dtype)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), ids)


@pytest.mark.parametrize("maxval", [1, 2, 3, 100, 254, 255, 256, 1000, 4095, 65534, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_pgm_ids_are_those_stored(maxval: int, plain: bool, tmp_path: Path) -> None:
    ids = np.linspace(0, maxval, 12).astype(int).reshape(3, 4)
    header = f"P{2 if plain else 5}\n4 3\n{maxval}\n".encode()
    body = " ".join(map(str, ids.ravel())).encode() if plain else ids.astype(">u2" if maxval > 255 else "u1").tobytes()
    (tmp_path / "a.pgm").write_bytes(header + body)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.pgm"), ids)


def test_bitmap_ids_are_the_bits_stored(tmp_path: Path) -> None:
    (tmp_path / "a.pnm").write_bytes(b"P1\n3 1\n0 1 1\n")
    assert read_mask(tmp_path / "a.pnm").tolist() == [[0, 1, 1]]


def test_a_smaller_copy_in_a_tiff_is_no_second_page(tmp_path: Path) -> None:
    copy = TiffImagePlugin.ImageFileDirectory_v2()
    copy[254] = 1
    small = Image.fromarray(IDS[::2, ::2])
    small.encoderinfo = {"tiffinfo": copy}
    Image.fromarray(IDS).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), IDS)


def test_an_archive_under_the_name_of_an_array_and_a_folder_are_named(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, ids=IDS)
    with pytest.raises(ValueError, match="an archive of arrays under the name of one"):
        read_mask(tmp_path / "a.npy")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(ValueError, match="a folder, not a file"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_empty_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        to_picture(Image.new("RGB", size))
    with pytest.raises(ValueError, match="holds no pixel"):
        to_picture(np.zeros((*size, 3), np.uint8))
