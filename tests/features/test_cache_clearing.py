"""Folders of the feature cache, listed and cleared: what is not the cache's own stays."""

import io
import json
from pathlib import Path

import pytest
from helpers.cached_features import build, config_for, filled, three_images
from rich.console import Console

from dinoseg.data.dataset import EvaluationDataset
from dinoseg.features.store import clear_folder, list_folders
from dinoseg.verbs.cache import clear_cache, show_cache

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")


@pytest.fixture
def images(tmp_path: Path) -> EvaluationDataset:
    return three_images(tmp_path)


def test_clearing_takes_nothing_foreign(images: EvaluationDataset, tmp_path: Path) -> None:
    cache = build(config_for(tmp_path / "cache"))
    filled(cache, images)
    assert json.loads((cache.folder.path / "features.json").read_text())["backbone"] == "tiny_vit8"
    (cache.folder.path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis.txt"):
        clear_folder(cache.folder.path)
    (cache.folder.path / "thesis.txt").unlink()
    clear_folder(cache.folder.path)
    assert not cache.folder.path.exists() and list(list_folders(tmp_path / "cache")) == []


def test_rows_say_what_tells_folders_apart(images: EvaluationDataset, tmp_path: Path) -> None:
    for more in ((), ("eval.mode=slide", "eval.crop_size=32"), ("transforms.eval.img_size=64", "model_dtype=BFLOAT16")):
        filled(build(config_for(tmp_path / "cache", *more)), images)
    console = Console(file=io.StringIO(), width=160)
    show_cache(tmp_path / "cache", console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(
        words in said
        for words in (
            "tiny_vit8, layers 3, scale 1.0, whole, float32",
            "tiles 32 x 32, float32",
            "short side 64, whole, bf",
        )
    )
    rows = [line.split(maxsplit=1)[1] for line in said.splitlines()[2:]]
    assert len(set(rows)) == 3


def test_folders_beside_the_cache_are_none_of_its(images: EvaluationDataset, tmp_path: Path) -> None:
    """What someone keeps where the cache lies looks like it: weights alone in a folder, a repository, nothing."""
    root = tmp_path / "cache"
    filled(build(config_for(root)), images)
    kept = [root / "weights" / "model.safetensors", root / "project" / ".git" / "HEAD", root / "empty" / "x"]
    for file in kept:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    kept[2].unlink()
    clear_cache(root, None, Console(quiet=True))
    assert [file.exists() for file in kept] == [True, True, False] and kept[2].parent.is_dir()
    assert list(list_folders(root)) == []


@pytest.mark.parametrize("foreign", ["model.safetensors", ".git/HEAD", ".hidden", "features.json/x"])
def test_nothing_is_cleared_where_one_folder_holds_something_else(
    images: EvaluationDataset, tmp_path: Path, foreign: str
) -> None:
    folders = [build(config_for(tmp_path / "cache", f"model.backbone_scale={scale}")).folder.path for scale in (1, 2)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / f"{'0' * 32}.safetensors").touch()
    file = sorted(folders)[1] / foreign
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(ValueError, match=rf"holds {foreign.split('/')[0]}, which is no part of the cache"):
        clear_cache(tmp_path / "cache", None, Console(quiet=True))
    assert file.exists() and all(folder.is_dir() for folder in folders)


def test_a_folder_of_the_cache_that_is_a_link_is_cleared(images: EvaluationDataset, tmp_path: Path) -> None:
    cache = build(config_for(tmp_path / "cache"))
    (tmp_path / "other disk").mkdir()
    (tmp_path / "cache").mkdir()
    cache.folder.path.symlink_to(tmp_path / "other disk")
    filled(cache, images)
    assert len(list((tmp_path / "other disk").glob("*.safetensors"))) == 3
    clear_folder(cache.folder.path)
    assert not cache.folder.path.is_symlink() and not list((tmp_path / "other disk").iterdir())


def test_any_description_of_a_folder_is_listed(tmp_path: Path) -> None:
    """It may have been changed by hand, and what looks like rich's markup is text."""
    for number, text in enumerate(['{"backbone": "a[/red]\\n", "scale": [1]}', "[1]", "", '{"scale": null}']):
        folder = tmp_path / "[/b] cache" / f"{number:024x}"
        folder.mkdir(parents=True)
        (folder / "features.json").write_text(text)
    out = io.StringIO()
    show_cache(tmp_path / "[/b] cache", Console(file=out, width=300))
    assert "[/b] cache" in out.getvalue() and r"a[/red]\n" in out.getvalue() and "[1]" in out.getvalue()
    with pytest.raises(ValueError, match="a file, not a folder"):
        show_cache(folder / "features.json", Console(quiet=True))
