"""``dinoseg cache``: what the feature cache holds, and its end."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dinoseg.features.store import FolderSummary, clear_folder, list_folders, refuse_foreign
from dinoseg.system.messages import printable


def show_cache(root: Path, console: Console) -> None:
    """Prints every folder of the cache: by which recipe, of how many pictures (images and variants), how large, when.

    A folder is of no data set: images of any that are seen alike share one.

    Raises:
        ValueError: a file stands there.
    """
    _refuse_file(root)
    folders = list(list_folders(root))
    if not folders:
        console.print(f"{root}: no features there", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(title=Text(printable(root)), title_justify="left", box=None, pad_edge=False)
    table.add_column("folder", no_wrap=True)
    table.add_column("features")
    for column in ("pictures", "GB", "written"):
        table.add_column(column, justify="right", no_wrap=True)
    for folder in folders:
        table.add_row(
            folder.path.name,
            Text(printable(_recipe_in_words(folder.recipe or {}))),
            f"{folder.images:,}",
            f"{folder.size / 1e9:.2f}",
            time.strftime("%Y-%m-%d", time.localtime(folder.path.stat().st_mtime)),
        )
    console.print(table)


def _recipe_in_words(recipe: Mapping[str, Any]) -> str:
    """By what two folders differ: the backbone, its layers, and how it sees an image."""
    layers, tile, side = recipe.get("layers"), recipe.get("tile"), recipe.get("img_size")
    said = [str(recipe.get("backbone", "?"))]
    said += [f"layers {' '.join(map(str, layers))}"] if isinstance(layers, list) else []
    said += [f"scale {recipe.get('scale', '?')}"]
    said += [f"short side {side}"] if side is not None else []
    said += [f"tiles {' x '.join(map(str, tile))}" if isinstance(tile, list) else "whole"]
    return ", ".join([*said, str(recipe.get("model_dtype", "?")).lower()])


def clear_cache(root: Path, name: str | None, console: Console) -> None:
    """Removes one folder of the cache, or all.

    Raises:
        ValueError: no such folder, or one with something else in it; all are then as they were.
    """
    _refuse_file(root)
    folders = [folder for folder in list_folders(root) if name in (None, folder.path.name)]
    if name is not None and not folders:
        raise ValueError(f"{root}: no folder {name} in the feature cache; choose one: `dinoseg cache` lists them")
    for folder in folders:
        refuse_foreign(folder.path)
    for folder in folders:
        clear_folder(folder.path)
    console.print(_words(root, folders), markup=False, highlight=False, soft_wrap=True)


def _refuse_file(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise ValueError(f"--folder {root}: a file, not a folder; give the folder of the feature cache")


def _words(root: Path, folders: list[FolderSummary]) -> str:
    images, size = sum(folder.images for folder in folders), sum(folder.size for folder in folders)
    return f"{root}: features of {images:,} pictures removed, {size / 1e9:.2f} GB"
