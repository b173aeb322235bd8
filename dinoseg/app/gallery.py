"""The pictures that the page holds: as files in a folder of its own, the eldest leaving for new ones."""

import os
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from dinoseg.app.judging import JudgedPicture

# Each takes 7 MB of disk a run at most beside the picture and its label map, and nothing of memory.
MOST_PICTURES = 500


@dataclass(frozen=True)
class Picture:
    """A dropped picture with what the runs say of it.

    Attributes:
        key: names it in addresses of the page; not to be guessed.
        name: of the file, without suffix.
        file_name: with it.
        judged: by each run, in their order; a message where one could not read it.
    """

    key: str
    name: str
    file_name: str
    judged: tuple[JudgedPicture | str, ...]


class Gallery:
    """Pictures by key.

    Args:
        folder: of its own; it is filled and tidied up.
        most: pictures that are held.
    """

    def __init__(self, folder: Path, most: int = MOST_PICTURES) -> None:
        self._folder, self._most = folder, most
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._pictures)

    def take_in(self, dropped: Path) -> tuple[str, Path]:
        """A key and a folder for a picture, and its file there under its own name.

        Raises:
            OSError: it is gone, or the disk is full.
        """
        key = secrets.token_hex(12)
        place = self._folder / key / "given" / dropped.name
        place.parent.mkdir(parents=True)
        try:
            _link_or_copy(dropped, place)
        except OSError:
            self.discard(key)
            raise
        return key, place

    def folder_of(self, key: str, run: int) -> Path:
        """Where what a run says of a picture is written."""
        return self._folder / key / str(run)

    def add(self, picture: Picture) -> None:
        """Holds a picture; where there are too many, the eldest leaves with its files."""
        with self._lock:
            self._pictures[picture.key] = picture
            leaving = []
            while len(self._pictures) > self._most:
                leaving.append(self._pictures.popitem(last=False)[0])
        for key in leaving:
            self.discard(key)

    def discard(self, key: str) -> None:
        """Removes the files of a picture that is not held."""
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def get(self, key: str) -> Picture:
        """Raises KeyError for a picture that is not held, or not any more."""
        with self._lock:
            return self._pictures[key]

    def judged(self, key: str, run: int) -> JudgedPicture:
        """What a run says of a picture. Raises KeyError where it says nothing, or the picture is not held."""
        said = self.get(key).judged
        if not 0 <= run < len(said) or isinstance(said[run], str):
            raise KeyError(key)
        found = said[run]
        assert isinstance(found, JudgedPicture)
        return found

    def label_maps(self, keys: Iterable[str]) -> list[tuple[str, Path]]:
        """Label maps of pictures, and their names in a common folder: ``RUN/NAME.png``, of one run ``NAME.png``.

        Of two pictures of one name the second is called ``NAME_2``. Pictures that are not held are left out.
        """
        found: dict[str, Path] = {}
        for key in keys:
            with self._lock:
                picture = self._pictures.get(key)
            if picture is None:
                continue
            for judged in picture.judged:
                if isinstance(judged, str):
                    continue
                folder = f"{judged.run.title.replace('/', '_')}/" if len(picture.judged) > 1 else ""
                name, number = f"{folder}{picture.name}.png", 1
                while name in found:
                    number += 1
                    name = f"{folder}{picture.name}_{number}.png"
                found[name] = judged.labels
        return list(found.items())


def _link_or_copy(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:  # another disk
        shutil.copyfile(file, place)
