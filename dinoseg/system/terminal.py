"""Where a command prints."""

from rich.console import Console


def terminal(*, stderr: bool = False) -> Console:
    """The terminal, on which a text is what it says: ``:b:`` in a path or a name is no code of a picture."""
    return Console(stderr=stderr, emoji=False)
