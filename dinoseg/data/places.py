"""Where images and masks lie: folders, with what tells the files in them apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dinoseg.config.class_files import names_in_card
from dinoseg.data.found_files import IMAGE_SUFFIXES, MASK_SUFFIXES, FoundFiles, named_files, stem_of, visible_files
from dinoseg.data.pairs import SPLITS, Split

# Files of class names by which a tool says what its masks hold, wherever they lie beside them.
_CLASS_FILES = ("labelmap.txt", "_classes.csv", "class_dict.csv", "classes.csv", "id2label.json")


@dataclass(frozen=True)
class Place:
    """Files of one side: images, or masks.

    Attributes:
        folder: where they lie, in it or below.
        ending: what their stems end with; taken off their names.
        suffixes: of the files meant.
        unless: endings of stems that are not meant.
    """

    folder: Path
    ending: str = ""
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    unless: tuple[str, ...] = ()

    def files(self, noun: str) -> FoundFiles:
        """The files by name; ``noun`` names them in messages."""
        found = []
        for path in visible_files(self.folder):
            stem = stem_of(path)
            if stem.endswith(self.ending) and not any(ending and stem.endswith(ending) for ending in self.unless):
                found.append(path)
        listed = named_files(found, self.suffixes, self.folder, noun)
        if self.suffixes in (IMAGE_SUFFIXES, MASK_SUFFIXES) and not (self.ending or self.unless):
            return listed
        # Files of other kinds lie there, too, and are no mistake.
        return FoundFiles({key.removesuffix(self.ending): path for key, path in listed.files.items()})


@dataclass(frozen=True)
class Places:
    """Images and their masks; ``folder`` is put before the names of the pairs where a split has several of these."""

    images: Place
    masks: Place
    folder: str = ""


@dataclass(frozen=True)
class Layout:
    """What a root holds.

    Attributes:
        title: its format in words.
        splits: where the images and masks of each split lie.
        pool: those of no split.
        lists: files that name the images of a split, out of the pool.
        incomplete: splits of which only images, or only masks, are there, with their folder.
        base: the folder in which it was found: the root, or the one that all of it is wrapped in.
        classes: a preset or a file of class names that belongs to this format; empty where none does.
    """

    title: str
    splits: Mapping[Split, tuple[Places, ...]] = field(default_factory=dict)
    pool: tuple[Places, ...] = ()
    lists: Mapping[Split, Path] = field(default_factory=dict)
    classes: str = ""
    incomplete: Mapping[Split, Path] = field(default_factory=dict)
    base: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.splits or self.pool)


def lists_in(folder: Path) -> dict[Split, Path]:
    """The lists ``train.txt``, ``val.txt`` and ``test.txt`` of a folder, by split."""
    return {split: path for split in SPLITS if (path := folder / f"{split}.txt").is_file()}


def card_file(folder: Path) -> str:
    """The card of a data set (``README.md``) that names classes; empty where there is none."""
    path = folder / "README.md"
    return str(path) if path.is_file() and names_in_card(path) else ""


def class_file(folder: Path) -> str:
    """The file of class names in a folder; empty where there is none."""
    return next((str(folder / name) for name in _CLASS_FILES if (folder / name).is_file()), "")
