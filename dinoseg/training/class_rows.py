"""The class layer of a head under another label space: a class keeps its row where its name stays the same."""

from dataclasses import dataclass

from torch import Tensor

from dinoseg.system.messages import list_names

_NAMES_SHOWN = 6


@dataclass(frozen=True)
class ClassRows:
    """Which row of a class layer becomes which.

    Attributes:
        theirs: class names of the head that is loaded, by row; None where only their number is known.
        ours: class names of the head that is loaded into, by row.
        their_count: number of classes of the head that is loaded.
    """

    theirs: tuple[str, ...] | None
    ours: tuple[str, ...]
    their_count: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(our row, their row) of every class that is kept: by name; without names by position, if the number fits."""
        if self.theirs is None:
            return tuple((row, row) for row in range(len(self.ours))) if self.their_count == len(self.ours) else ()
        places = {name: row for row, name in enumerate(self.theirs)}
        return tuple((row, places[name]) for row, name in enumerate(self.ours) if name in places)

    def carry_over(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Our weight or bias with their rows where a class is kept, and with their rows after the last class.

        (Those are one for heads that predict masks, "no object", and none for others.)
        """
        carried, theirs = ours.clone(), theirs.to(ours)
        for row, source in self.pairs:
            carried[row] = theirs[source]
        carried[len(self.ours) :] = theirs[self.their_count :]
        return carried

    def __str__(self) -> str:
        """What happens to the classes, in words; loud when one starts anew."""
        kept = [row for row, _ in self.pairs]
        if len(kept) == len(self.ours) == self.their_count:
            if self.theirs is None:
                return f"all {len(kept)} classes kept by position (a state dict has no names)"
            moved = any(row != source for row, source in self.pairs)
            return f"all {len(kept)} classes kept" + (", matched by name: they stand in another order here" * moved)
        new = [name for row, name in enumerate(self.ours) if row not in kept]
        text = f"OTHER CLASSES: {len(kept)} of {len(self.ours)} kept by name"
        if self.theirs is None:
            text = f"OTHER CLASSES: {self.their_count} there and {len(self.ours)} here, without names to match them by"
        elif kept:
            text += f" ({list_names([self.ours[row] for row in kept], _NAMES_SHOWN)})"
        if new:
            text += f"; the class layer STARTS ANEW for {len(new)}: {list_names(new, _NAMES_SHOWN)}"
        left = [name for name in self.theirs or () if name not in self.ours]
        return text + (f"; left behind: {list_names(left, _NAMES_SHOWN)}" if left else "")


def fits(ours: Tensor, theirs: Tensor, extra_rows: int) -> bool:
    """Whether both are class layers of the same width, theirs with at least one class beside ``extra_rows``."""
    return ours.ndim == theirs.ndim and theirs.shape[1:] == ours.shape[1:] and len(theirs) > extra_rows
