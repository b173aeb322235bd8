"""Broken and foreign files: the check and the reading of samples refuse the same files in the same words."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, write_data_set
from helpers.tiny import run_cli, tiny_settings
from PIL import Image

from dinoseg.data.masks import read_pair
from dinoseg.data.pairs import Pair

NOISE = np.random.default_rng(0).integers(0, 4, (64, 64), dtype=np.uint8)
IDS = np.array([[0, 1, 2, 3], [0, 0, 1, 2]], dtype=np.uint8)


def truncated(path: Path, form: str = "PNG") -> None:
    Image.fromarray(NOISE * 64).resize((200, 200)).save(path, form)
    path.write_bytes(path.read_bytes()[:1500])


def damaged_lzw(path: Path) -> None:
    Image.fromarray(NOISE).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[60:140] = b"\xff" * 80
    path.write_bytes(bytes(data))


def animated(path: Path) -> None:
    frames = [Image.fromarray(IDS), Image.fromarray(IDS[::-1].copy())]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def archive(path: Path, bomb: bool = False) -> None:
    """An .npz under the name of an .npy; ``bomb``: 256 MB of zeros in 256 kB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("ids.npy", "w") as member:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 28,)})
        member.write(header.getvalue())
        for _ in range(1 << 8 if bomb else 1):
            member.write(bytes(1 << 20))


def npy(path: Path, shape: str, dtype: str = "|u1", header_length: int | None = None) -> None:
    """A header and eight bytes."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    length = len(text) if header_length is None else header_length
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + text + bytes(8))


def tiff(path: Path, bands: int, bits: int = 8, photometric: int = 1, sample_format: int = 1) -> None:
    """A whole TIFF of 4 x 2 pixels with as many bands as wanted, uncompressed."""
    data = bytes(8 * bands * bits // 8)
    lists = struct.pack(f"<{bands}H", *[bits] * bands) + struct.pack(f"<{bands}H", *[sample_format] * bands)
    start = 8 + len(data)
    # Values of up to 4 bytes stand in the list of tags itself.
    places = (start, start + 2 * bands) if bands > 2 else (bits << 16 | bits, sample_format << 16 | sample_format)
    tags = [
        (256, 4, 1, 4),
        (257, 4, 1, 2),
        (258, 3, bands, places[0]),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, bands),
        (278, 4, 1, 2),
        (279, 4, 1, len(data)),
        (339, 3, bands, places[1]),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    place = struct.pack("<I", start + len(lists))
    path.write_bytes(b"II*\0" + place + data + lists + struct.pack("<H", len(tags)) + entries + bytes(4))


def pgm(path: Path, header: str, values: bytes) -> None:
    path.write_bytes(f"{header}\n".encode() + values)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

BROKEN_MASKS: list[tuple[str, Callable[[Path], object], str]] = [
    ("a.png", truncated, "truncated or damaged"),
    ("a.tif", lambda p: truncated(p, "TIFF"), "truncated or damaged"),
    ("a.png", lambda p: p.write_bytes(b""), "not an image that can be read"),
    ("a.png", lambda p: p.write_text("hello"), "not an image that can be read"),
    ("a.png", lambda p: p.write_text('{"shapes": []}'), "a JSON file, which dinoseg does not read"),
    ("a.png", lambda p: np.save(p.open("wb"), IDS), "a NumPy array (.npy), which dinoseg does not read"),
    ("a.tif", damaged_lzw, "truncated or damaged"),
    ("a.gif", animated, "holds 2 pages"),
    ("a.png", lambda p: p.mkdir(), "a folder"),
    ("a.png", lambda p: p.symlink_to(p), "cannot be opened (Too many levels of symbolic links)"),
    ("a.npy", lambda p: p.symlink_to(p), "cannot be opened (Too many levels of symbolic links)"),
    ("a.npy", lambda p: p.write_bytes(b""), "truncated or damaged array"),
    ("a.npy", lambda p: p.write_text("hello"), "truncated or damaged array"),
    ("a.npy", lambda p: np.save(p, np.array([["a", "b"]])), "values of type <U1; label ids are whole numbers"),
    ("a.npy", lambda p: np.save(p, IDS * 1j), "values of type complex128"),
    ("a.npy", lambda p: np.save(p, IDS + np.float32(0.5)), "holds 0.5, which is no label id"),
    ("a.npy", lambda p: np.save(p, np.where(IDS, IDS, np.nan)), "holds nan, which is no label id"),
    ("a.npy", lambda p: np.save(p, IDS.astype(np.int64) + 2**31), "label id 2147483648 does not fit"),
    ("a.tif", lambda p: Image.fromarray(IDS + np.float32(2**31)).save(p), "label id 2147483648 does not fit"),
    ("a.npy", lambda p: np.save(p, IDS.astype(object), allow_pickle=True), "holds Python objects"),
    ("a.npy", lambda p: np.save(p, np.stack([IDS] * 5, axis=-1)), "array of shape (2, 4, 5); expected label ids"),
    ("a.npy", archive, "an archive of arrays under the name of one"),
    ("a.npy", lambda p: archive(p, bomb=True), "an archive of arrays under the name of one"),
    ("a.npy", lambda p: npy(p, "(100000, 100000)"), "of shape (100000, 100000) needs 10000000000 bytes"),
    ("a.npy", lambda p: npy(p, "(2, 4)", "<i8"), "int64 of shape (2, 4) needs 64 bytes, the file holds 8"),
    ("a.npy", lambda p: npy(p, "(2, 4)", header_length=2**32 - 1), "a header of 4294967295 bytes"),
    ("a.npy", lambda p: npy(p, "(-2, -4)"), "shape (-2, -4)"),
    (
        "a.pgm",
        lambda p: pgm(p, "P5\n4 2\n3", bytes([0, 1, 2, 3, 0, 0, 1, 7])),
        "a pixel holds 7, above the file's maxv",
    ),
]

BROKEN_IMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a.jpg", lambda p: truncated(p, "JPEG"), "truncated or damaged"),
    ("a.png", truncated, "truncated or damaged"),
    ("a.tif", damaged_lzw, "truncated or damaged"),
    ("a.png", lambda p: p.write_bytes(b""), "not an image that can be read"),
    (
        "a.png",
        lambda p: p.write_text(POINTER),
        "a pointer of Git LFS, and not the file itself: fetch it (git lfs pull)",
    ),
    ("a.gif", animated, "holds 2 pages"),
    ("a.tif", lambda p: tiff(p, 5), "a valid TIFF with 5 bands of 8 bits, which dinoseg does not read: save it as PNG"),
    ("a.tif", lambda p: tiff(p, 2), "a valid TIFF with 2 bands of 8 bits, which dinoseg does not read"),
    ("a.tif", lambda p: tiff(p, 7, 16), "a valid TIFF with 7 bands of 16 bits, which dinoseg does not read"),
    ("a.tif", lambda p: tiff(p, 3, 32, 2, 3), "a valid TIFF with 3 bands of 32 bits, floating-point values, which"),
    ("a.tif", lambda p: tiff(p, 1, 64, 1, 3), "a valid TIFF with 1 band of 64 bits, floating-point values, which"),
    ("a.png", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200)), "an HDF5 file, which dinoseg does not read"),
    ("a.jpg", lambda p: p.write_bytes(bytes(128) + b"DICM" + bytes(9)), "a DICOM file, which dinoseg does not read"),
    ("a.jpg", lambda p: p.write_bytes(b"\0\0\0 ftypheic" + bytes(99)), "a file of the family of HEIF and MP4 (heic)"),
    (
        "a.pgm",
        lambda p: pgm(p, "P5\n4 2\n3", bytes([0, 1, 2, 3, 0, 0, 1, 7])),
        "a pixel holds 7, above the file's maxv",
    ),
    ("a.pgm", lambda p: pgm(p, "P5\n4 2\n1000", b"\x03\xe8" * 7 + b"\x03\xe9"), "a pixel holds 1001, above the file's"),
    ("a.ppm", lambda p: pgm(p, "P6\n4 2\n100", bytes([9] * 23 + [101])), "a pixel holds 101, above the file's maxval"),
    ("a.pgm", lambda p: pgm(p, "P2\n4 2\n9", b"1 2 3 # 99\n4 5 6 10 0"), "a pixel holds 10, above the file's maxval 9"),
]


def _check_both(root: Path, folder: str, name: str, make: Callable[[Path], object], reason: str) -> None:
    images, masks = root / "train/images", root / "train/masks"
    (root / "train" / folder / "a.png").unlink()
    path = root / "train" / folder / name
    make(path)
    finding = only(run(root), "unreadable")
    assert finding.message.startswith("1 file of train cannot be read: ") and reason in finding.message
    assert finding.files == (str(path),)
    pair = Pair("a", path, masks / "a.png") if folder == "images" else Pair("a", images / "a.png", path)
    with pytest.raises(ValueError) as raised:
        read_pair(pair)
    said = finding.message.removeprefix("1 file of train cannot be read: ")
    if folder == "images":
        said = said.partition(" (")[0]  # what Pillow found first: the check may decode at a smaller size
    assert str(raised.value).startswith(f"{path}: {said}")
    converts = "dinoseg does not read" in finding.message
    assert finding.advice.startswith("convert the file" if converts else "replace the file")


@pytest.mark.parametrize(("name", "make", "reason"), BROKEN_MASKS)
def test_a_broken_mask(name: str, make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    _check_both(write_data_set(tmp_path), "masks", name, make, reason)


@pytest.mark.parametrize(("name", "make", "reason"), BROKEN_IMAGES)
def test_a_broken_image(name: str, make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    _check_both(write_data_set(tmp_path), "images", name, make, reason)


@pytest.mark.parametrize(
    ("name", "make", "reason"), [case for number, case in enumerate(BROKEN_MASKS) if number % 4 == 0]
)
def test_training_names_it_as_the_check_does(
    name: str,
    make: Callable[[Path], object],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_data_set(tmp_path / "data")
    (root / "train/masks/a.png").unlink()
    make(root / "train/masks" / name)
    assert run_cli(["train", *tiny_settings(root, tmp_path / "run")], monkeypatch) == 1
    said = capsys.readouterr()
    assert reason in " ".join((said.out + said.err).split())
    assert only(run(root), "unreadable").message in " ".join((said.out + said.err).split())
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("make", [lambda p: archive(p, bomb=True), lambda p: npy(p, "(100000, 100000)")])
def test_an_array_that_would_fill_the_memory_is_refused_by_its_header(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.npy")
    Image.fromarray(IDS).save(tmp_path / "a.png")
    tracemalloc.start()
    with pytest.raises(ValueError):
        read_pair(Pair("a", tmp_path / "a.png", tmp_path / "a.npy"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_ids_of_unsigned_32_bits_do_not_become_negative(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", 1, 32)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[8:12] = struct.pack("<I", 2**32 - 1)
    (tmp_path / "a.tif").write_bytes(bytes(data))
    Image.fromarray(IDS).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="label id 4294967295 does not fit"):
        read_pair(Pair("a", tmp_path / "a.png", tmp_path / "a.tif"))


def test_a_palette_with_transparency_keeps_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(IDS)
    image.putpalette([value for colour in range(4) for value in (colour, 9, 9)])
    image.save(tmp_path / "m.png", transparency=bytes([0, 128, 255, 7]))
    Image.fromarray(IDS).save(tmp_path / "a.png")
    assert read_pair(Pair("a", tmp_path / "a.png", tmp_path / "m.png"))[1].tolist() == IDS.tolist()


def test_values_up_to_maxval_are_no_damage(tmp_path: Path) -> None:
    for header, values in (("P5\n4 2\n7", bytes(range(8))), ("P2\n4 2\n7", b"0 1 2 3 # 200\n4 5 6 7\n")):
        pgm(tmp_path / "m.pgm", header, values)
        Image.fromarray(IDS).save(tmp_path / "a.png")
        assert read_pair(Pair("a", tmp_path / "a.png", tmp_path / "m.pgm"))[1].ravel().tolist() == list(range(8))
