"""Files that the check cannot take: other formats, FIFOs, names that are no text; named, and refused by training."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, save, text_of, write_data_set
from helpers.tiny import run_cli, tiny_settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data")


def refusal(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a training says that does not begin."""
    assert run_cli(["train", *tiny_settings(root, root.parent / "run")], monkeypatch) == 1
    assert not (root.parent / "run").exists() or not (root.parent / "run/config.yaml").exists()
    said = capsys.readouterr()
    return " ".join((said.out + said.err).split())


@pytest.mark.parametrize(("suffix", "noun"), [(".json", "masks"), (".npz", "masks"), (".xml", "masks")])
def test_masks_in_another_format_are_named(
    suffix: str, noun: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (root / f"train/masks/{name}.png").rename(root / f"train/masks/{name}{suffix}")
    finding = only(run(root), "unread_format")
    assert finding.severity == "error"
    assert f"2 {suffix} files among the masks of train, left out: dinoseg reads png, tif" in finding.message
    assert finding.advice == "if they are masks, convert them to PNG label maps (a label id in each pixel)"
    assert finding.files == tuple(str(root / f"train/masks/{name}{suffix}") for name in "ab")
    assert f"2 {suffix} files among the masks of train" in refusal(root, monkeypatch, capsys)


def test_images_in_another_format_are_named(root: Path) -> None:
    (root / "val/images/a.png").rename(root / "val/images/a.heic")
    finding = only(run(root), "unread_format")
    assert finding.message.startswith("1 .heic file among the images of val, left out: dinoseg reads jpg")
    assert finding.severity == "warning" and finding.advice == "if they are images, convert them to PNG"


def test_notes_beside_the_images_are_no_warning(root: Path) -> None:
    (root / "train/images/README.txt").write_text("taken in May")
    (root / "train/masks/.hidden").write_text("")
    report = run(root)
    assert only(report, "unread_format").severity == "note" and report.ok


def test_globs_name_what_they_match_and_nobody_reads(root: Path) -> None:
    for name in "ab":
        (root / f"train/masks/{name}.png").rename(root / f"train/masks/{name}.json")
    globs = {"images": "{split}/images/*", "masks": "{split}/masks/*"}
    assert "2 .json files among the masks" in only(run(root, **globs), "unread_format").message


def _socket(path: Path) -> None:
    # The name of a socket may have a hundred letters only.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a FIFO (named pipe), which is not read"),
        (_socket, "a socket, which is not read"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, which is not read"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
    ],
    ids=["fifo", "socket", "device", "folder", "dangling link"],
)
def test_what_is_no_file_is_refused_and_not_waited_for(
    make: Callable[[Path], None],
    kind: str,
    folder: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = root / f"train/{folder}/a.png"
    path.unlink()
    make(path)
    finding = only(run(root), "unreadable")
    assert kind in finding.message and finding.files == (str(path),)
    text = refusal(root, monkeypatch, capsys)
    assert kind in text


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take no such names")
@pytest.mark.parametrize(
    ("name", "shown"), [(b"a\xff\xfe", r"a\xff\xfe.png"), (b"a\nb", r"a\nb.png"), (b"a\x1b[31m", r"a\x1b[31m.png")]
)
def test_names_that_are_no_line_of_text_are_shown_escaped(
    name: bytes, shown: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        old = root / "train" / folder / "a.png"
        old.rename(old.with_stem(os.fsdecode(name)))
    report = run(root)
    finding = only(report, "bad_file_name")
    assert finding.severity == "error" and finding.count == 2
    assert finding.files == tuple(str(root / "train" / folder / shown) for folder in ("images", "masks"))
    text_of(report).encode()
    assert "rename them" in refusal(root, monkeypatch, capsys)


@pytest.mark.parametrize("name", ["übung", "写真", "Screenshot at 9.41\u202fAM", "a b", "a\u00a0b"])
def test_names_of_every_script_are_fine(name: str, root: Path) -> None:
    for folder in ("images", "masks"):
        path = root / "train" / folder / "a.png"
        path.rename(path.with_stem(name))
    assert run(root).findings == ()


def test_a_broken_name_is_shown_wherever_a_message_holds_it(root: Path) -> None:
    save(root / "train/masks/a.png", np.full((2, 4), 9, np.uint8))
    for folder in ("images", "masks"):
        path = root / "train" / folder / "a.png"
        path.rename(path.with_stem(os.fsdecode(b"\xff")))
    report = run(root, classes={0: "a", 1: "b", 2: "c", 3: "d"})
    assert r"most in \xff.png" in " ".join(text_of(report).split())
