"""What is raised for a split that is not there."""


class MissingSplitError(ValueError):
    """The split has no folder, no list, or no glob of its own."""


class UnsplitError(MissingSplitError):
    """The data knows no splits at all: there are pairs, and nothing says which are to be trained on."""
