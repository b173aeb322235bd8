"""Reading, predicting and writing at the same time: threads open the next images and write the last ones."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from dinoseg.inference.files import InputImage
from dinoseg.inference.job import OpenedImage, PredictionJob
from dinoseg.inference.outcomes import Outcome
from dinoseg.inference.prediction import Prediction

# Images opened ahead of the model, and predictions that wait to be written: both are held in memory.
_AHEAD = 2


def predict_all(job: PredictionJob, images: Iterable[InputImage], advance: Callable[[], None]) -> list[Outcome]:
    """What ``job.do`` gives for each image, in order; the model does not wait for files.

    Args:
        advance: called after each image.

    Raises:
        OSError: an output cannot be written.
    """
    outcomes: list[Outcome] = []
    writing: deque[Future[Outcome]] = deque()

    def collect(most: int) -> None:
        while len(writing) > most:
            outcomes.append(writing.popleft().result())
            advance()

    # Two pools: an image that is read waits for no overlay.
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        for opened in _opened_ahead(reader, job, images):
            writing.append(_write(writer, job, opened))
            collect(_AHEAD)
        collect(0)
    return outcomes


def _opened_ahead(
    reader: ThreadPoolExecutor, job: PredictionJob, images: Iterable[InputImage]
) -> Iterator[OpenedImage | Outcome]:
    waiting = iter(images)
    opening = deque(reader.submit(job.open, image) for image in islice(waiting, _AHEAD))
    while opening:
        opened = opening.popleft().result()
        opening.extend(reader.submit(job.open, image) for image in islice(waiting, 1))
        yield opened


def _write(writer: ThreadPoolExecutor, job: PredictionJob, opened: OpenedImage | Outcome) -> Future[Outcome]:
    settled: Future[Outcome] = Future()
    if isinstance(opened, Outcome):
        settled.set_result(opened)
        return settled
    prediction = job.predict(opened)
    if isinstance(prediction, Prediction):
        return writer.submit(job.write, opened, prediction)
    settled.set_result(prediction)
    return settled
