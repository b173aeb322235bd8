"""Addresses of published heads: names on the Hub, revisions, and what lies on this disk."""

from pathlib import Path

import pytest
from helpers.published import COMMIT

from dinoseg.config.loading import is_setting
from dinoseg.zoo.address import Address, is_address

SMALL = "tue-mps/coco_panoptic_pmt_small_640_dinov3"


def test_a_name_on_the_hub_with_and_without_a_revision() -> None:
    plain, pinned = Address.parse(f"hf:{SMALL}"), Address.parse(f"hf:{SMALL}@refs/pr/1")
    assert (plain.repository, plain.revision, plain.path) == (SMALL, None, None)
    assert (pinned.repository, pinned.revision) == (SMALL, "refs/pr/1")
    assert plain.head is pinned.head is not None
    assert Address.parse("hf:somebody/else").head is None


def test_what_lies_on_this_disk_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / SMALL
    folder.mkdir(parents=True)
    address = Address.parse(f"hf:{SMALL}")
    assert address.repository is None and address.path == Path(SMALL)
    assert address.head is not None and address.head.name == SMALL
    assert address.absolute().text == f"hf:{folder}"
    (folder / "some.bin").touch()
    of_file = Address.parse(f"hf:{folder}/some.bin")
    assert of_file.head is address.head


def test_a_folder_of_the_hubs_cache_is_known_by_its_repository(tmp_path: Path) -> None:
    snapshot = tmp_path / f"models--{SMALL.replace('/', '--')}" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    head = Address.parse(f"hf:{snapshot}").head
    assert head is not None and head.name == SMALL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf:", "neither a folder nor a name on the Hub; write hf:owner/name"),
        ("hf:coco_panoptic_pmt_small_640_dinov3", f"did you mean hf:{SMALL}?"),
        ("hf:a/b/c", "neither a folder nor a name on the Hub"),
        ("hf:a/b@", "neither a folder nor a name on the Hub"),
        ("hf:/nowhere/at/all", "no such folder; give the folder that holds the head's file"),
        ("hf:./nowhere", "no such folder"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(ValueError) as met:
        Address.parse(text)
    assert str(met.value).startswith(f"{text}: ") and said in str(met.value)


def test_an_address_is_no_setting(tmp_path: Path) -> None:
    assert is_address("hf:a/b") and not is_address(tmp_path) and not is_address("runs/hf:a")
    assert not is_setting("hf:folder/a=b") and is_setting("a=hf:folder")
