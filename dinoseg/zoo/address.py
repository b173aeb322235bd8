"""The address of a published head: ``hf:owner/name``, ``hf:owner/name@revision``, or ``hf:`` and a folder or file."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.config.loading import HUB_PREFIX
from dinoseg.zoo.catalogue import PublishedHead, find_head, nearest_head

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# The Hub's cache calls the folder of a repository so.
_CACHED = re.compile(r"models--(.+?)--(.+)")


@dataclass(frozen=True)
class Address:
    """Where a published head is.

    Attributes:
        text: as it was given.
        repository: ``owner/name`` on the Hub; None for a local one.
        revision: branch, tag or commit; None for the newest.
        path: folder or file of a local one; None on the Hub.
    """

    text: str
    repository: str | None = None
    revision: str | None = None
    path: Path | None = None

    @staticmethod
    def parse(text: str) -> "Address":
        """The address that a text with ``HUB_PREFIX`` names: what lies on this disk first.

        Raises:
            ValueError: nothing lies there, and it is no name on the Hub either.
        """
        place = text.removeprefix(HUB_PREFIX)
        path = Path(os.path.expanduser(place))
        if place and os.path.exists(path):
            return Address(text, path=path)
        repository, at, revision = place.partition("@")
        if _REPOSITORY.fullmatch(repository) and (revision or not at):
            return Address(text, repository=repository, revision=revision or None)
        if place.startswith(("/", "./", "../", "~")):
            raise ValueError(f"{text}: no such folder; give the folder that holds the head's file, or hf:owner/name")
        raise ValueError(
            f"{text}: neither a folder nor a name on the Hub; {nearest_head(repository)}write hf:owner/name, "
            "hf:owner/name@revision or hf:FOLDER; `dinoseg zoo` lists the heads that are known"
        )

    @property
    def head(self) -> PublishedHead | None:
        """The known head of this name; of a local one, of the name of its folder, or of a place in the Hub's cache."""
        if self.repository is not None:
            return find_head(self.repository)
        assert self.path is not None
        folder = self.path.absolute() if self.path.is_dir() else self.path.absolute().parent
        cached = [found for part in folder.parts if (found := _CACHED.fullmatch(part))]
        return find_head(f"{cached[-1][1]}/{cached[-1][2]}" if cached else folder.name)

    def absolute(self) -> "Address":
        """The same from any working folder."""
        if self.path is None:
            return self
        path = self.path.absolute()
        return replace(self, path=path, text=f"{HUB_PREFIX}{path}")


def is_address(text: object) -> bool:
    """Whether a text names a published head."""
    return isinstance(text, str) and text.startswith(HUB_PREFIX)
