"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from dinoseg.system.files import named_errors, replace_text, replaced_file


def test_the_target_changes_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "figures.json"
    replace_text(target, "old")
    with replaced_file(target) as beside:
        beside.write_text("new")
        assert beside.parent == target.parent and beside.suffix == ".json"
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(failure: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    replace_text(target, "old")
    with pytest.raises(failure), replaced_file(target) as beside:
        beside.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    with replaced_file(target) as beside:
        beside.write_text("")
    beside.write_text("left behind")
    replace_text(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_processes_that_share_a_file_write_beside_each_other(tmp_path: Path) -> None:
    with replaced_file(tmp_path / "cache.json", shared=True) as beside:
        assert str(os.getpid()) in beside.name
        beside.write_text("")


def test_errors_of_the_system_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as met:
        replace_text(tmp_path / "file" / "below.txt", "")
    assert met.value.filename == str(tmp_path / "file" / "below.txt")
    with pytest.raises(OSError) as full, named_errors(tmp_path / "log"):
        raise OSError(28, "No space left on device")
    assert (full.value.filename, full.value.errno) == (str(tmp_path / "log"), 28)
