"""Small files that people write."""

from pathlib import Path

import pytest

from dinoseg.system.text_tables import parse_structured, read_utf8


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfsky\n")
    assert read_utf8(tmp_path / "a.txt", "names") == "sky\n"


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"a\.txt: no text in UTF-8 \(byte 2\); give names, saved as UTF-8"):
        read_utf8(tmp_path / "a.txt", "names")
    with pytest.raises(ValueError, match=r"b\.txt: cannot be read \(No such file or directory\); give names"):
        read_utf8(tmp_path / "b.txt", "names")
    with pytest.raises(ValueError, match=r"cannot be read|folder"):
        read_utf8(tmp_path, "names")


def test_plain_words_stay_what_is_written() -> None:
    text = "[0001, yes, 2020-01-01, 1e3]"
    assert parse_structured(Path("a.yaml"), text, "names", plain=True) == ["0001", "yes", "2020-01-01", "1e3"]
    assert parse_structured(Path("a.yaml"), "[1, two]", "names") == [1, "two"]


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_nesting_without_end_is_a_message(name: str) -> None:
    with pytest.raises(ValueError, match=r"a\.(json|yaml): (nested too deeply for|cannot be read as) names"):
        parse_structured(Path(name), "[" * 100_000, "names")
