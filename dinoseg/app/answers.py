"""What the page's addresses answer: pictures drawn as they are asked for, and files. Knows no web server."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from dinoseg.app.gallery import Gallery
from dinoseg.app.seen import View, encoded

# Names of files may hold bytes that are no UTF-8.
_ANY = "surrogateescape"
_GONE = "this picture is not kept any more: drop it again"


@dataclass(frozen=True)
class Answer:
    """The body of a response.

    Attributes:
        status: 200; 400 for an address that makes no sense, 404 for a picture that is not there.
        kind: media type.
        name: of the file, where it is to be saved.
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    name: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Beside kind and length."""
        # A browser that kept pictures would have them longer than this page does.
        kept = {"Cache-Control": "no-store"}
        if self.name is None:
            return kept
        return kept | {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(self.name, safe='', errors=_ANY)}"}


@dataclass(frozen=True)
class Answers:
    """Answers to addresses of pictures."""

    gallery: Gallery

    def given(self, key: str, run: int) -> Answer:
        """The picture as a run reads it, at the size of a screen."""
        return _answer(lambda: Answer(*encoded(self.gallery.judged(key, run).given())))

    def drawn(self, key: str, run: int, view: str, opacity: float, hidden: str) -> Answer:
        """The same with what the run predicts; see ``View.parse``."""
        return _answer(lambda: Answer(*encoded(self.gallery.judged(key, run).draw(View.parse(view, opacity, hidden)))))

    def overlay(self, key: str, run: int, view: str, opacity: float, hidden: str) -> Answer:
        """The overlay at native size with its legend, PNG."""

        def draw() -> Answer:
            buffer = io.BytesIO()
            judged = self.gallery.judged(key, run)
            judged.overlay(View.parse(view, opacity, hidden)).save(buffer, "PNG")
            return Answer(buffer.getvalue(), "image/png", name=f"{judged.labels.stem}_overlay.png")

        return _answer(draw)

    def labels(self, key: str, run: int) -> Answer:
        """The label map, the bytes that ``dinoseg predict`` writes."""

        def read() -> Answer:
            labels = self.gallery.judged(key, run).labels
            return Answer(labels.read_bytes(), "image/png", name=labels.name)

        return _answer(read)

    def all_labels(self, of: str) -> Answer:
        """Label maps of several pictures, whose keys have commas between them, as a zip file."""

        def pack() -> Answer:
            buffer = io.BytesIO()
            # PNG files are packed already.
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
                for name, path in self.gallery.label_maps(of.split(",")):
                    archive.write(path, name)
            return Answer(buffer.getvalue(), "application/zip", name="labels.zip")

        return _answer(pack)


def _answer(make: Callable[[], Answer]) -> Answer:
    try:
        return make()
    except (KeyError, OSError):
        return Answer(_GONE.encode(), status=404)
    except ValueError as error:
        return Answer(str(error).encode(), status=400)
