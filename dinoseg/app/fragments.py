"""The parts of the page that change, as HTML."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dinoseg.app.drop import Progress
from dinoseg.app.gallery import Picture
from dinoseg.app.shown_run import ShownRun

_MOST_FAILURES = 20


class Fragments:
    """Writes them.

    Args:
        runs: that are shown, each in a column.
        stays: what becomes of the pictures, in a sentence.
    """

    def __init__(self, runs: Sequence[ShownRun], stays: str) -> None:
        self._runs, self._stays = runs, stays
        self._environment = Environment(
            loader=PackageLoader("dinoseg.app"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["percent"] = percent

    def head(self) -> str:
        """What the page is of."""
        return self._render("head.html", runs=self._runs, stays=self._stays)

    def status(self, progress: Progress, keys: Sequence[str]) -> str:
        """A bar, or what was done; and what failed.

        Args:
            keys: of the pictures of the drop that are held.
        """
        failed = progress.failed
        shown = failed[:_MOST_FAILURES]
        return self._render("status.html", progress=progress, keys=list(keys), failures=shown, count=len(failed))

    def result(self, picture: Picture) -> str:
        """A picture with what each run says of it."""
        columns = [
            {"run": run, "judged": None if isinstance(said, str) else said, "error": said}
            for run, said in zip(self._runs, picture.judged, strict=True)
        ]
        size = next(said.size for said in picture.judged if not isinstance(said, str))
        return self._render("result.html", picture=picture, columns=columns, size=size)

    def gone(self) -> str:
        """In place of a picture that is not held any more."""
        return self._render("gone.html")

    def _render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def percent(share: float) -> str:
    """``12.3 %``; what is there is never 0, and what is missing never 100."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{min(share * 100, 99.9) if share < 1 else 100:.1f} %"
