"""Images whose features are cached, watched while a training goes on: the features are of what they were."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dinoseg.features.fill import FeatureCache, Images, View
from dinoseg.system.files import file_stamp
from dinoseg.system.messages import list_names

Stamp = tuple[int, int]


def image_stamps(data_sets: Sequence[Images]) -> dict[Path, Stamp]:
    """Size and modification time of each image file; to be asked before features are looked for."""
    files = dict.fromkeys(pair.image_file for data in data_sets for pair in data.pairs)
    # Items of a user's own data set are of no file.
    return {path: stamp for path in files if (stamp := file_stamp(path)) is not None}


class CachedImages:
    """Knows which images were replaced since their features were looked for.

    Args:
        stamps: see ``image_stamps``.
        found: data sets, and the feature file of each view.
    """

    def __init__(
        self, cache: FeatureCache, stamps: Mapping[Path, Stamp], found: Sequence[tuple[Images, Mapping[View, Path]]]
    ) -> None:
        self._cache = cache
        self._stamps = dict(stamps)
        self._found = list(found)

    def refuse_changed(self) -> None:
        """Looks at the status of every file, and into those that changed: a copy with another time is no other image.

        Raises:
            ValueError: an image is another one now, or is gone; names it.
        """
        touched = {path: now for path, before in self._stamps.items() if (now := file_stamp(path)) != before}
        if not touched:
            return
        changed = [path for path, now in touched.items() if now is None]
        for data, files in self._found:
            rows = [view for view in files if view.number == 0 and data.pairs[view.index].image_file in touched]
            for view in rows:
                image = data.pairs[view.index].image_file
                if image not in changed and not self._is_same(data, view, files[view]):
                    changed.append(image)
        if changed:
            raise ValueError(
                f"{list_names(map(str, changed))}: changed or removed since the training began, so that cached "
                "features are of other images than are trained on; leave images alone while a training goes on: put "
                "them back and go on with --resume, or start again"
            )
        self._stamps |= {path: now for path, now in touched.items() if now is not None}

    def _is_same(self, data: Images, view: View, file: Path) -> bool:
        try:
            return self._cache.file_of(data, view) == file
        except (OSError, ValueError):
            return False
