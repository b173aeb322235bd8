"""Pairs of files as samples: read, encoded once into class indices, transformed."""

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from traceback import clear_frames
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinoseg.data.affine import AffineTransform
from dinoseg.data.band_files import is_array, stored_band_size
from dinoseg.data.bands import Picture, inside_of
from dinoseg.data.image_files import read_geometry
from dinoseg.data.items import DataItem, SelfReading
from dinoseg.data.masks import LabelMap, read_mask, read_pair, upright_mask
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.placement import Placement
from dinoseg.data.reading import Reading
from dinoseg.data.regions import encode_inside, encode_within
from dinoseg.data.sampler import mixed_seed
from dinoseg.labels import LabelSpace

SampleTransform = Callable[[Picture, np.ndarray], tuple[Tensor, Tensor]]


class LayerTensors(NamedTuple):
    """Features of one image, an entry a tapped layer.

    Attributes:
        maps: (channels, rows, columns).
        class_tokens: (channels); empty where the backbone has none.
        prefix_tokens: (tokens, channels), class token and registers; empty where the backbone has none.
    """

    maps: list[Tensor]
    class_tokens: list[Tensor]
    prefix_tokens: list[Tensor]


class FeatureSource(Protocol):
    """Features of the images of a data set, computed before."""

    def sample(self, index: int, placement: Placement) -> LayerTensors:
        """Those below a crop."""

    def whole(self, index: int) -> LayerTensors:
        """Those of an image."""


_GRACE_SECONDS = 20


class Sample(TypedDict):
    """One image and its truth, ready for the model."""

    image: Float[Tensor, "bands height width"]  # normalised
    class_map: Int64[Tensor, "height width"]  # class indices and the ignore index
    index: int
    name: str
    features: NotRequired[list[Tensor]]  # one map a tapped layer, where they were computed before
    class_tokens: NotRequired[list[Tensor]]  # likewise; empty where the backbone has none
    prefix_tokens: NotRequired[list[Tensor]]  # likewise
    other_images: NotRequired[list[Tensor]]  # the image as other runs read it, where several are evaluated as one


def _checked_pairs(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    unpaired = [str(pair.image) for pair in pairs if pair.mask is None]
    if unpaired:
        raise ValueError(
            f"{unpaired[0]}: no mask for this image ({len(unpaired)} of {len(pairs)} images have none); "
            "training and evaluation need one for each"
        )
    return tuple(pairs)


def read_picture(pair: Pair, label_space: LabelSpace, form: PictureForm = PLAIN_FORM) -> Picture:
    """The picture of a pair, upright; ``ValueError`` names the file or item that is at fault."""
    if isinstance(pair, SelfReading):
        return pair.picture(form)
    return _read(pair, label_space, form)[0]


def stored_size(pair: Pair, label_space: LabelSpace, form: PictureForm = PLAIN_FORM) -> tuple[int, int]:
    """Height and width of an image, of a file as it is stored."""
    if isinstance(pair, SelfReading):
        return pair.size
    if isinstance(pair, DataItem):
        return pair.read(label_space.kind, form)[0].size[::-1]
    return stored_band_size(pair.image)


def _read(pair: Pair, label_space: LabelSpace, form: PictureForm) -> tuple[Picture, LabelMap]:
    if isinstance(pair, DataItem):
        return pair.read(label_space.kind, form)
    return read_pair(pair, label_space.kind, form)


def read_encoded(
    pair: Pair, label_space: LabelSpace, form: PictureForm = PLAIN_FORM
) -> tuple[Picture, UInt[np.ndarray, "height width"]]:
    """Picture and class indices (H, W) at native size, ignored outside the image's region and where it holds no data.

    Raises:
        ValueError: names the file or item that is at fault.
    """
    if isinstance(pair, SelfReading):
        picture, stored, inside = pair.load(label_space.kind, form)
        known = inside_of(picture)
        inside = inside if known is None else inside & known
        return picture, encode_within(inside, stored, label_space, f"{pair.mask} ({pair.name})")
    image, label_ids = _read(pair, label_space, form)
    return image, encode_inside(pair, label_ids, label_space, known=inside_of(image))


class SegmentationDataset(Dataset[Sample]):
    """Training samples, asked for by (epoch, index).

    All that is random in a sample is a function of (seed, epoch, index): the same in every process and worker, in
    whatever order samples are asked for. The global random state is left as it was.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        transform: SampleTransform,
        seed: int,
        form: PictureForm = PLAIN_FORM,
    ) -> None:
        """``form`` is that of its pictures."""
        self.pairs = _checked_pairs(pairs)
        self.label_space = label_space
        self.transform = transform
        self.seed = seed
        self.form = form
        # Given once they are computed; the transform must then be one that places crops.
        self.features: FeatureSource | None = None
        # False where the model looks at features alone: crops are then zeros, which take no time.
        self.shows_images = True
        # Orientation and stored size of images that are not shown. To find them in a PNG file takes decoding it.
        self._geometries: dict[int, tuple[int, tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: tuple[int, int]) -> Sample:
        epoch, index = position
        pair = self.pairs[index]
        image: Picture | None = None
        if self.features is None or self.shows_images:
            image, class_map = read_encoded(pair, self.label_space, self.form)
        else:
            class_map = self._class_map(index)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators as well, whose state nothing here restores.
            torch.default_generator.manual_seed(mixed_seed(self.seed, epoch, index))
            if self.features is None:
                assert image is not None
                image_tensor, class_tensor = self.transform(image, class_map)
                return Sample(image=image_tensor, class_map=class_tensor, index=index, name=pair.name)
            assert isinstance(self.transform, AffineTransform)
            placement = self.transform.draw(class_map)
            if image is None:
                image_tensor = torch.zeros(self.form.channels, *self.transform.crop_size)
                class_tensor = self.transform.class_map_at(placement, class_map)
            else:
                image_tensor, class_tensor = self.transform.at(placement, image, class_map)
            maps, class_tokens, prefix_tokens = self.features.sample(index, placement)
        return Sample(
            image=image_tensor,
            class_map=class_tensor,
            index=index,
            name=pair.name,
            features=maps,
            class_tokens=class_tokens,
            prefix_tokens=prefix_tokens,
        )

    def _class_map(self, index: int) -> UInt[np.ndarray, "height width"]:
        """What ``read_encoded`` gives of an image whose pixels are not needed: its header says enough."""
        pair = self.pairs[index]
        if isinstance(pair, (DataItem, SelfReading)) or self.form.takes_values or is_array(pair.image):
            # The picture comes with its mask, or says where it holds data.
            return read_encoded(pair, self.label_space, self.form)[1]
        if index not in self._geometries:
            self._geometries[index] = read_geometry(pair.image)
        assert pair.mask is not None
        mask = upright_mask(read_mask(pair.mask, self.label_space.kind), self._geometries[index], pair)
        return encode_inside(pair, mask, self.label_space)


class EvaluationDataset(Dataset[Sample]):
    """Evaluation samples at native size, asked for by index; nothing about them is random."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        transform: SampleTransform,
        form: PictureForm = PLAIN_FORM,
    ) -> None:
        """``form`` is that of its pictures."""
        self.pairs = _checked_pairs(pairs)
        self.label_space = label_space
        self.transform = transform
        self.form = form
        # Given where they are computed, and images go through the model in one piece.
        self.features: FeatureSource | None = None
        # Given where several runs are evaluated as one: how others than the first read an image.
        self.other_readings: tuple[Reading, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def stored_size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, of a file as it is stored."""
        return stored_size(self.pairs[index], self.label_space, self.form)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        picture, encoded = read_encoded(pair, self.label_space, self.form)
        image, class_map = self.transform(picture, encoded)
        sample = Sample(image=image, class_map=class_map, index=index, name=pair.name)
        if self.features is not None:
            sample["features"], sample["class_tokens"], sample["prefix_tokens"] = self.features.whole(index)
        if self.other_readings:
            pictures = {self.form: picture}
            for reading in self.other_readings:
                if reading.form not in pictures:
                    pictures[reading.form] = read_picture(pair, self.label_space, reading.form)
            known = [inside for found in pictures.values() if (inside := inside_of(found)) is not None]
            if known:
                # What one run finds no data in counts for none of them, whichever comes first.
                class_map[~torch.from_numpy(np.logical_and.reduce(known))] = self.label_space.ignore_index
            sample["other_images"] = [
                reading.transform.normalise(pictures[reading.form]) for reading in self.other_readings
            ]
        return sample


def outlive_signals(worker: int) -> None:
    """For data loading processes: a signal to the whole group (Ctrl-C, a scheduler) is the main process's affair.

    Workers that died of it at once would take the running step, and the checkpoint, with them. After a SIGTERM they
    end a little later: Python sends one at its own exit, too, and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not the main process's handler, which was forked along.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))


def samples_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """What the loader yields; an error of a worker without the worker's traceback.

    Raises:
        ValueError: a file cannot be read, or holds a label id outside the label space; or a worker was killed.
    """
    # At once, not at the first sample: starting the workers draws from the random state, which a step seeds.
    return _plain_errors(iter(loader), loader.num_workers)


def _plain_errors(iterator: Iterator[Any], workers: int) -> Iterator[Any]:
    try:
        yield from iterator
        return
    except (ValueError, OSError) as error:
        message = _without_traceback(str(error))
        # PyTorch's frames hold the error that holds them, and with them the iterator until garbage is collected, which
        # ends no worker: each would be waited for.
        clear_frames(error.__traceback__)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        message = (
            f"{str(error).rstrip('. ')}: a data loading process was ended from outside, most often because memory, or "
            f"shared memory in a container, ran out; lower num_workers (now {workers}), or give the container more"
        )
    # Now nothing holds the iterator any more, and its workers end.
    del iterator
    raise ValueError(message)


def _without_traceback(text: str) -> str:
    """What an error says, less the traceback that PyTorch puts before what a worker raised."""
    if not text.startswith("Caught "):
        return text
    raised = text.rpartition("Traceback (most recent call last):\n")[2]
    # Its frames are indented; the line after them names the type of the error.
    return re.split(r"^[\w.]+: ", raised, maxsplit=1, flags=re.MULTILINE)[-1].rstrip()
