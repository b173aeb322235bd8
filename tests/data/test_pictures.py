"""Pictures with 16 bits: what is white, for files, arrays and PIL images."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinoseg.data.pictures import (
    BrighterThanWhite,
    brightest_value,
    read_image,
    to_picture,
    to_rgb,
    white_level_of,
)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png_of_16_bits(path: Path, pixels: np.ndarray) -> None:
    """Two to four channels of 16 bits (two: grey and alpha), which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    kind = {2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_tiff_of_16_bits(path: Path, pixels: np.ndarray, order: str = "<", planes: bool = False) -> None:
    """Colours of 16 bits a channel, uncompressed, in either order of bytes, pixel by pixel or plane by plane."""
    height, width, bands = pixels.shape
    data = (pixels.transpose(2, 0, 1) if planes else pixels).astype(f"{order}u2").tobytes()
    strips = [2 * height * width] * bands if planes else [len(data)]
    extra = [(284, 3, [2 if planes else 1])] + ([(338, 3, [0] * (bands - 3))] if bands > 3 else [])
    tags = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [16] * bands),
        (259, 3, [1]),
        (262, 3, [2]),
        (273, 4, [8 + index * size for index, size in enumerate(strips)]),
        (277, 3, [bands]),
        (278, 4, [height]),
        (279, 4, strips),
        *extra,
    ]
    lists, entries = b"", b""
    end = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place, lists = end + len(lists), lists + packed
            packed = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + lists)


@pytest.mark.parametrize(
    ("brightest", "white"),
    list(
        zip(
            (0, 200, 255, 256, 1000, 4000, 4095, 4096, 16383, 32768, 65535, 100_000),
            (255, 255, 255, 511, 1023, 4095, 4095, 8191, 16383, 65535, 65535, 65535),
            strict=True,
        )
    ),
)
def test_white_is_the_largest_value_of_as_many_bits_as_are_used(brightest: int, white: int) -> None:
    assert white_level_of(brightest) == white


# By hand: value * 255 / white, rounded down.
@pytest.mark.parametrize(
    ("white", "values", "expected"),
    [
        (1023, [0, 4, 5, 512, 1023], [0, 0, 1, 127, 255]),
        (4095, [0, 16, 17, 2048, 4095], [0, 0, 1, 127, 255]),
        (16383, [0, 64, 65, 8192, 16383], [0, 0, 1, 127, 255]),
        (65535, [0, 256, 257, 32896, 65535], [0, 0, 1, 128, 255]),
        (None, [0, 256, 257, 32896, 65535], [0, 0, 1, 128, 255]),
        (1000, [0, 500, 1000, 1000, 1000], [0, 127, 255, 255, 255]),
    ],
)
@pytest.mark.parametrize("form", ["png", "tif", "array", "colours", "pil"])
def test_values_of_16_bits_are_scaled_by_white(
    form: str, white: int | None, values: list[int], expected: list[int], tmp_path: Path
) -> None:
    pixels = np.array([values], dtype=np.uint16)
    if form in ("png", "tif"):
        Image.fromarray(pixels).save(tmp_path / f"a.{form}")
        picture = read_image(tmp_path / f"a.{form}", white)
    elif form == "pil":
        picture = to_picture(Image.fromarray(pixels), white_level=white)
    else:
        picture = to_picture(np.stack([pixels] * 3, axis=-1) if form == "colours" else pixels, white_level=white)
    assert picture.mode == "RGB"
    assert np.asarray(picture).tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize(
    "write",
    [
        write_png_of_16_bits,
        write_tiff_of_16_bits,
        lambda path, pixels: write_tiff_of_16_bits(path, pixels, ">"),
        lambda path, pixels: write_tiff_of_16_bits(path, pixels[..., :3], planes=True),
        lambda path, pixels: write_tiff_of_16_bits(path, pixels[..., :3], ">", planes=True),
    ],
    ids=["png", "tiff", "big endian tiff", "planes", "big endian planes"],
)
@pytest.mark.parametrize("bands", [3, 4])
def test_colour_files_of_16_bits_keep_all_bits(
    bands: int, write: Callable[[Path, np.ndarray], None], tmp_path: Path
) -> None:
    pixels = np.zeros((2, 3, bands), dtype=np.uint16)
    pixels[0, :, :3] = [[4095, 0, 17], [16, 2048, 0], [1, 2, 3]]
    pixels[1, 0, 1] = 300
    write(tmp_path / "a.tif", pixels)
    found = np.asarray(read_image(tmp_path / "a.tif", 4095))
    assert found[0].tolist() == [[255, 0, 1], [0, 127, 0], [0, 0, 0]]
    assert found[1].tolist() == [[0, 18, 0], [0, 0, 0], [0, 0, 0]]


def test_colour_files_of_all_16_bits_are_their_high_bytes(tmp_path: Path) -> None:
    write_png_of_16_bits(tmp_path / "a.png", np.array([[[65535, 256, 255], [32768, 511, 512]]]))
    for white in (None, 65535):
        assert np.asarray(read_image(tmp_path / "a.png", white)).tolist() == [[[255, 1, 0], [128, 1, 2]]]


def test_grey_with_alpha_of_16_bits_keeps_all_bits(tmp_path: Path) -> None:
    write_png_of_16_bits(tmp_path / "a.png", np.array([[[4095, 7], [16, 65535], [2048, 0]], [[0, 0]] * 3]))
    assert np.asarray(read_image(tmp_path / "a.png", 4095))[0].tolist() == [[255] * 3, [0] * 3, [127] * 3]
    with pytest.warns(BrighterThanWhite, match=r"white_level=4095"):
        assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [15, 0, 8]


def test_a_turned_colour_file_of_16_bits_is_turned_with_both_its_bytes(tmp_path: Path) -> None:
    write_png_of_16_bits(tmp_path / "a.png", np.array([[[4095, 0, 0], [0, 4095, 0]]]))
    content = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    assert np.asarray(read_image(tmp_path / "a.png", 4095)).tolist() == [[[255, 0, 0]], [[0, 255, 0]]]


@pytest.mark.parametrize("maxval", [1023, 4095])
def test_a_pgm_file_says_its_white_itself(maxval: int, tmp_path: Path) -> None:
    body = np.array([0, maxval // 2, maxval], dtype=">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(f"P5\n3 1\n{maxval}\n".encode() + body)
    for white in (None, 4095, 255):
        assert np.asarray(read_image(tmp_path / "a.pgm", white))[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize("white", [None, 255, 4095])
def test_pictures_of_8_bits_know_no_white_level(white: int | None, tmp_path: Path) -> None:
    pixels = np.array([[0, 7, 255]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png", white))[0, :, 0].tolist() == [0, 7, 255]
    assert np.asarray(to_picture(pixels, white_level=white))[0, :, 0].tolist() == [0, 7, 255]
    assert brightest_value(pixels) is None and brightest_value(Image.fromarray(pixels)) is None


@pytest.mark.parametrize("kind", ["file", "array", "pil"])
def test_a_value_above_white_is_clamped_and_said(kind: str, tmp_path: Path) -> None:
    pixels = np.array([[0, 4096]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.warns(BrighterThanWhite, match=r"the brightest value is 4096, and values outside 0\.\.4095") as caught:
        if kind == "file":
            picture = read_image(tmp_path / "a.png", 4095)
        else:
            image = pixels if kind == "array" else Image.fromarray(pixels)
            picture = to_picture(image, white_level=4095)
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 255]
    assert len(caught) == 1
    if kind == "file":
        assert str(caught[0].message).startswith(f"{tmp_path / 'a.png'}: ")


def test_negative_values_are_black_and_said() -> None:
    signed = Image.fromarray(np.array([[-5, 255]], dtype=np.int32))
    with pytest.warns(BrighterThanWhite, match=r"the darkest value is -5, and values outside 0\.\.255"):
        assert np.asarray(to_rgb(signed, white_level=255))[0, :, 0].tolist() == [0, 255]


def test_a_dark_picture_is_said_only_where_no_white_is_known() -> None:
    pixels = np.array([[0, 4095]], dtype=np.uint16)
    with pytest.warns(BrighterThanWhite, match=r"comes out dark; datasets\.white_level=4095"):
        to_picture(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_picture(pixels, white_level=65535)
        to_picture(np.array([[0, 32768]], dtype=np.uint16))
