"""Pictures that were dropped on the page, one after the other through every run."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dinoseg.app.gallery import Gallery, Picture
from dinoseg.app.judging import JudgedPicture, OnShare, judge
from dinoseg.app.shown_run import ShownRun
from dinoseg.app.told import told
from dinoseg.data.found_files import stem_of
from dinoseg.system.messages import printable, system_error
from dinoseg.system.out_of_memory import memory_advice


@dataclass(frozen=True)
class Progress:
    """How far a drop is.

    Attributes:
        done: pictures that are finished.
        total: pictures that were dropped.
        share: of the one that is worked on, over all runs, 0..1.
        name: of that one; empty in the end.
        finished: the one that was finished just now.
        failed: messages so far, one a picture and run.
    """

    done: int
    total: int
    share: float
    name: str
    finished: Picture | None = None
    failed: tuple[str, ...] = ()


def predict_dropped(
    runs: Sequence[ShownRun], gallery: Gallery, dropped: Sequence[Path]
) -> Generator[Progress, None, None]:
    """Predicts pictures into the gallery; one that cannot be predicted is told, and the others go on."""
    failed: list[str] = []
    for number, path in enumerate(dropped):
        name = printable(path.name)
        yield Progress(number, len(dropped), 0.0, name, failed=tuple(failed))
        now = partial(Progress, number, len(dropped), name=name, failed=tuple(failed))
        picture = yield from _predict(runs, gallery, path, now)
        if isinstance(picture, str):
            failed.append(picture)
            continue
        failed += [said for said in picture.judged if isinstance(said, str)]
        yield Progress(number + 1, len(dropped), 0.0, name, picture, tuple(failed))
    yield Progress(len(dropped), len(dropped), 0.0, "", failed=tuple(failed))


def _predict(
    runs: Sequence[ShownRun], gallery: Gallery, path: Path, progress: Callable[..., Progress]
) -> Generator[Progress, None, Picture | str]:
    """The picture, or why no run can predict it."""
    try:
        key, place = gallery.take_in(path)
    except OSError as error:
        return system_error(error)
    name, judged = stem_of(place), list[JudgedPicture | str]()
    try:
        for index, run in enumerate(runs):
            with closing(told(partial(_judge, run, place, name, gallery.folder_of(key, index)))) as shares:
                judged.append((yield from _of_all(shares, index, len(runs), progress)))
    except BaseException:
        gallery.discard(key)
        raise
    failures = [said for said in judged if isinstance(said, str)]
    if len(failures) == len(runs):
        gallery.discard(key)
        return failures[0]
    picture = Picture(key, name, printable(path.name), tuple(judged))
    gallery.add(picture)
    return picture


def _of_all(
    shares: Generator[float, None, JudgedPicture | str], index: int, count: int, progress: Callable[..., Progress]
) -> Generator[Progress, None, JudgedPicture | str]:
    """The progress of one run as that of all."""
    while True:
        try:
            share = next(shares)
        except StopIteration as ended:
            return ended.value
        yield progress(share=(index + share) / count)


def _judge(run: ShownRun, place: Path, name: str, folder: Path, on_share: OnShare) -> JudgedPicture | str:
    """The prediction, or in one line why there is none: the page goes on whatever a picture does."""
    try:
        return judge(run, place, name, folder, on_share)
    except OSError as error:
        return _short(system_error(error), place)
    except ValueError as error:
        return _short(str(error), place)
    except (RuntimeError, MemoryError) as error:
        advice = memory_advice(error, "app")
        if advice is None:
            raise
        return f"{place.name}: {advice}"


def _short(message: str, place: Path) -> str:
    """A message about a file without the folder that the page keeps it in, which says nothing to a user."""
    return printable(" ".join(message.replace(f"{place.parent}/", "").split()))
