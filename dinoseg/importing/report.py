"""What an import did: counts, rules, and all that was not taken over."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from dinoseg.importing.mask import OVERLAPS, Overlap
from dinoseg.importing.source import IGNORED_ID, Dropped, Source

UPRIGHT = "masks are upright, as one sees the pictures"


@dataclass(frozen=True)
class ImportReport:
    """The contents of import.json.

    Attributes:
        splits: pictures by split; by an empty name where there are no splits.
        links: how pictures came into the data set ("hard link", "symbolic link", "copy"), and how many.
        shapes, pixels: by label id; of shapes those that can be seen.
        turned: pictures whose shapes were drawn in the stored grid and turned as the EXIF tag says.
        turned_unseen: turned pictures of one size either way; their annotations were taken as upright.
    """

    source: Source
    overlap: Overlap
    splits: Counter[str]
    links: Counter[str]
    shapes: Counter[int]
    pixels: Counter[int]
    dropped: tuple[Dropped, ...]
    turned: int = 0
    turned_unseen: int = 0

    @property
    def ignored_pixels(self) -> int:
        """Pixels that count nowhere."""
        return self.pixels[IGNORED_ID]

    @property
    def remarks(self) -> list[str]:
        """Sentences on how annotations became masks."""
        said = [self.source.pixel_rule, OVERLAPS[self.overlap], *self.source.notes]
        if self.turned:
            said.append(f"{self.turned} drawn in the grid that is stored, and turned with their picture; {UPRIGHT}")
        if self.turned_unseen:
            said.append(
                f"pictures turned by their EXIF tag that have one size either way: {self.turned_unseen}; their "
                f"annotations are taken as upright; {UPRIGHT}"
            )
        return said

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        classes = [
            {
                "id": entry.label_id,
                "name": entry.name,
                "in_source": entry.key,
                "shapes": self.shapes[entry.label_id],
                "pixels": self.pixels[entry.label_id],
            }
            for entry in self.source.classes.classes
        ]
        return {
            "format": self.source.format,
            "source": self.source.origin,
            "pictures": self.splits.total(),
            "splits": {split: count for split, count in self.splits.items() if split},
            "pictures_by": dict(self.links),
            "classes": classes,
            "label_ids": self.source.classes.rule,
            "ignored": {"id": IGNORED_ID, "shapes": self.shapes[IGNORED_ID], "pixels": self.ignored_pixels},
            "overlap": self.overlap,
            "remarks": self.remarks,
            "dropped": [{"where": entry.where, "reason": entry.reason} for entry in self.dropped],
        }
