"""Folders that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from dinoseg.system.whole_folder import refuse_unreplaceable, whole_folder


@pytest.mark.parametrize("there", [False, True])
def test_it_appears_at_the_end_and_nothing_beside_it(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if there:
        target.mkdir()
    with whole_folder(target) as beside:
        (beside / "file").touch()
        assert not list(target.glob("*"))
    assert [path.name for path in target.iterdir()] == ["file"] and list(tmp_path.iterdir()) == [target]


def test_of_a_link_the_folder_behind_it_is_filled(tmp_path: Path) -> None:
    behind, link = tmp_path / "disk" / "behind", tmp_path / "link"
    behind.mkdir(parents=True)
    link.symlink_to(behind)
    with whole_folder(link) as beside:
        (beside / "file").touch()
    assert link.is_symlink() and (link / "file").samefile(behind / "file")
    assert list(behind.parent.iterdir()) == [behind]


def test_the_working_folder_and_the_root_of_a_disk_are_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (Path(), tmp_path, Path("link")):
        with pytest.raises(ValueError, match=f"^--out {folder}: is the working folder, .*; give a new folder in it"):
            refuse_unreplaceable(folder, "--out")
    disk = tmp_path / "disk"
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == disk)
    with pytest.raises(ValueError, match=r"^disk: is the root of a disk, which no new folder can take"):
        refuse_unreplaceable(Path("disk"), "")
    refuse_unreplaceable(Path("other"), "")
