"""The scan: facts of files, and their memory between runs."""

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rich.console import Console

from dinoseg.check.facts import PairFacts
from dinoseg.check.mask_scan import read_mask_facts
from dinoseg.check.scan import read_image_facts, scan_pairs
from dinoseg.check.scan_cache import ScanCache, default_cache_path
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm


def make_pair(folder: Path, name: str = "a", ids: np.ndarray | None = None) -> Pair:
    Image.new("RGB", (3, 2), (9, 8, 7)).save(folder / f"{name}.jpg")
    mask = np.array([[0, 1, 1], [255, 0, 1]], dtype=np.uint8) if ids is None else ids
    Image.fromarray(mask).save(folder / f"{name}.png")
    return Pair(name, folder / f"{name}.jpg", folder / f"{name}.png")


def test_the_facts_of_a_pair(tmp_path: Path) -> None:
    (facts,) = scan_pairs([make_pair(tmp_path)])
    assert (facts.image.mode, facts.image.size, facts.image.orientation, facts.image.error) == ("RGB", (3, 2), 1, None)
    assert (facts.mask.mode, facts.mask.size, facts.mask.stores) == ("L", (3, 2), "ids")
    assert facts.mask.counts == ((0, 2), (1, 3), (255, 1))


def test_facts_come_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    pairs = [make_pair(tmp_path, str(i), np.full((i + 1, 2), i, dtype=np.uint8)) for i in range(20)]
    assert [fact.mask.counts for fact in scan_pairs(pairs)] == [((i, 2 * (i + 1)),) for i in range(20)]


@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16, np.int32]), suffix=st.sampled_from([".tif", ".npy"]))
def test_counts_are_those_of_a_plain_counter(
    data: st.DataObject, dtype: type, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    largest = min(70_000, int(np.iinfo(dtype).max))
    ids = data.draw(arrays(dtype, (3, 4), elements=st.integers(0, largest)))
    path = tmp_path_factory.mktemp("masks") / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, ids)
    else:
        Image.fromarray(ids).save(path)
    assert dict(read_mask_facts(path, "ids").counts) == Counter(ids.reshape(-1).tolist())


@pytest.mark.parametrize("many", [False, True])
def test_colours_are_counted_packed(many: bool, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256 if many else 3, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    facts = read_mask_facts(tmp_path / "a.png", "colours")
    expected = Counter((int(r) << 16) + (int(g) << 8) + int(b) for r, g, b in rgb.reshape(-1, 3))
    assert facts.stores == "colours"
    assert facts.distinct == len(expected)
    assert all(expected[value] == count for value, count in facts.counts)
    assert len(facts.counts) == min(len(expected), 4096)


def test_palette_masks_are_read_as_asked(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(tmp_path / "a.png")
    assert read_mask_facts(tmp_path / "a.png", "ids").counts == ((0, 1), (1, 1))
    assert read_mask_facts(tmp_path / "a.png", "colours").counts == ((0x010203, 1), (0x040506, 1))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_found(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise).save(path)
    assert read_image_facts(path).error is None
    path.write_bytes(path.read_bytes()[:-3000])
    assert "truncated" in (read_image_facts(path).error or "")


def test_unreadable_files_are_facts_not_exceptions(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    (tmp_path / "a.png").write_bytes(b"")
    (facts,) = scan_pairs([Pair("a", tmp_path / "a.jpg", tmp_path / "a.png")])
    assert facts.image.error == "not an image that can be read"
    assert facts.mask.error == "not an image that can be read"


def test_exif_gives_both_sizes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".jpg", ".tif", ".png"):
        Image.new("RGB", (5, 3)).save(tmp_path / f"a{suffix}", exif=exif)
        facts = read_image_facts(tmp_path / f"a{suffix}")
        assert (facts.orientation, facts.size, facts.stored_size) == (6, (3, 5), (5, 3)), suffix


def _scan_twice(pair: Pair, path: Path) -> tuple[PairFacts, PairFacts, int]:
    (first,) = scan_pairs([pair], cache=ScanCache(path))
    cache = ScanCache(path)
    (second,) = scan_pairs([pair], cache=cache)
    return first, second, cache.hits


def test_unchanged_files_are_remembered(tmp_path: Path) -> None:
    first, second, hits = _scan_twice(make_pair(tmp_path), tmp_path / "cache" / "scan.json")
    assert first == second
    assert hits == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["scan.json"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    pair, path = make_pair(tmp_path), tmp_path / "scan.json"
    scan_pairs([pair], cache=ScanCache(path))
    assert pair.mask is not None
    Image.fromarray(np.full((2, 3), 7, dtype=np.uint8)).save(pair.mask)
    os.utime(pair.mask, ns=(1, 1))
    cache = ScanCache(path)
    (facts,) = scan_pairs([pair], cache=cache)
    assert facts.mask.counts == ((7, 6),)
    assert cache.hits == 1


@pytest.mark.parametrize("form", [PLAIN_FORM, PictureForm(bands=(1,))])
def test_what_could_not_be_read_is_read_again(form: PictureForm, tmp_path: Path) -> None:
    """With the same size and time as before, as after ``chmod``, or when a package was installed."""
    pair, path = make_pair(tmp_path), tmp_path / "scan.json"
    assert pair.mask is not None
    whole = {file: file.read_bytes() for file in (pair.image, pair.mask)}
    found = []
    for contents in ({file: bytes(len(data)) for file, data in whole.items()}, whole, whole):
        for file, data in contents.items():
            file.write_bytes(data)
            os.utime(file, ns=(1, 1))
        cache = ScanCache(path)
        (facts,) = scan_pairs([pair], cache=cache, form=form)
        found.append((facts.image.error is None, facts.mask.error is None, cache.hits))
    assert found == [(False, False, 0), (True, True, 0), (True, True, 2)]


def test_ids_and_colours_of_one_file_are_remembered_apart(tmp_path: Path) -> None:
    pair, path = make_pair(tmp_path), tmp_path / "scan.json"
    scan_pairs([pair], "ids", ScanCache(path))
    cache = ScanCache(path)
    scan_pairs([pair], "colours", cache)
    assert cache.hits == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 1, "files": 3}', '{"version": 0, "files": {}}', "[" * 10_000, "\0", "9" * 6_000],
)
def test_a_damaged_cache_is_passed_over(content: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    path.write_text(content)
    _, second, hits = _scan_twice(make_pair(tmp_path), path)
    assert hits == 2
    assert second.mask.counts == ((0, 2), (1, 3), (255, 1))


@pytest.mark.parametrize("facts", [None, [], "text", {}, {"mode": 3}, "null fields", "one field less"])
def test_damaged_facts_are_read_anew(facts: Any, tmp_path: Path) -> None:
    path, pair = tmp_path / "scan.json", make_pair(tmp_path)
    whole = scan_pairs([pair], cache=ScanCache(path))
    content = json.loads(path.read_text())
    for entry in content["files"].values():
        stored = entry["facts"]
        changes = {"null fields": dict.fromkeys(stored), "one field less": dict(list(stored.items())[1:])}
        entry["facts"] = changes.get(facts, facts) if isinstance(facts, str) else facts
    path.write_text(json.dumps(content))
    cache = ScanCache(path)
    assert scan_pairs([pair], cache=cache) == whole and cache.hits == 0


def test_files_that_are_gone_leave_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    old, new = make_pair(tmp_path, "old"), make_pair(tmp_path, "new")
    scan_pairs([old], cache=ScanCache(path))
    old.image.unlink()
    scan_pairs([new], cache=ScanCache(path))
    assert "old.jpg" not in path.read_text()
    assert "old.png" in path.read_text()


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_path("a").parent == tmp_path / "dinoseg"
    assert default_cache_path("a") != default_cache_path("b")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_scan_shows_its_pace(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinoseg.system.bars._SECONDS_TO_FIRST_LINE", 0.0)
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    scan_pairs([make_pair(tmp_path, name) for name in "abc"], console=console)
    assert "scan" in out.getvalue() and " pairs/s" in out.getvalue()
    assert ("scan 1/3 " in out.getvalue()) != terminal
