"""Shell commands and inline code of a Markdown page."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# It may go on in the next line of a paragraph.
_INLINE = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
_PROGRAM = "dinoseg"


@dataclass(frozen=True)
class ShellCommand:
    """One command of a fenced block, in its words."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """As one line, whatever stood there."""
        return " ".join(self.words)

    @property
    def arguments(self) -> list[str] | None:
        """What dinoseg is given, with the launcher before it left out; None for a command of another program."""
        words = list(self.words)
        if "-c" in words and words[words.index("-c") - 1] == "bash":
            words = shlex.split(words[words.index("-c") + 1].replace("\\\n", " "))
        if "-m" in words and words[words.index("-m") + 1] == _PROGRAM:
            return words[words.index("-m") + 2 :]
        return words[1:] if words[0] == _PROGRAM else None


def shell_commands(page: Path) -> list[ShellCommand]:
    """Every command of the page's ``bash`` blocks; continued lines and open quotes are joined, comments left out."""
    text, commands = page.read_text(encoding="utf-8"), []
    for block in _FENCED.finditer(text):
        if block[1] not in ("bash", "sh"):
            continue
        first, pending, start = text[: block.start(2)].count("\n") + 1, "", 0
        for number, line in enumerate(block[2].splitlines()):
            start = start if pending else first + number
            pending += line + "\n"
            words = _words(pending)
            if words is None:
                continue
            if words:
                commands.append(ShellCommand(page.name, start, tuple(words)))
            pending = ""
        assert not pending, f"{page.name}:{start}: a command that does not end"
    return commands


def inline_code(page: Path) -> list[str]:
    """Every piece of inline code of the page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(code.split()) for code in _INLINE.findall(text)]


def _words(text: str) -> list[str] | None:
    """None while the command goes on."""
    if text.endswith("\\\n"):
        return None
    try:
        return shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError:
        return None
