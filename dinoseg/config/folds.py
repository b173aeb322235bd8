"""``datasets.folds`` and ``datasets.fold``: what they must agree on."""

ALL_FOLDS = "all"


def settled_fold(folds: int | None, fold: str | None) -> str | None:
    """``all`` where folds are given and none is named.

    Raises:
        ValueError: a fold that is none of them, or without ``datasets.folds``.
    """
    if folds is None:
        if fold is not None:
            raise ValueError(f"datasets.fold={fold} is given without datasets.folds; add how many there are, such as 5")
        return None
    if fold is None or fold == ALL_FOLDS:
        return ALL_FOLDS
    if not (fold.isascii() and fold.isdecimal()) or int(fold) >= folds:
        raise ValueError(
            f"datasets.fold={fold}: datasets.folds={folds} are counted from 0; give 0 to {folds - 1}, or all"
        )
    return str(int(fold))
