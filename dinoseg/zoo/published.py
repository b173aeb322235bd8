"""A published head as the source of a model: settings and classes of the known ones, sizes from the file itself."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dinoseg.backbone.timm_models import find_or_describe
from dinoseg.backbone.weights import weight_files
from dinoseg.config import Config
from dinoseg.config.loading import is_given, load_config
from dinoseg.config.overriding import Trained, override
from dinoseg.labels import LabelSpace
from dinoseg.models.head_hash import head_hash
from dinoseg.models.pmt_head import PmtHead
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.system.files import file_sha256
from dinoseg.zoo.address import Address
from dinoseg.zoo.catalogue import PublishedHead, nearest_head
from dinoseg.zoo.files import BACKBONE_FILES, backbone_file, local_head_file
from dinoseg.zoo.pmt_state import PmtSizes, load_decoder, read_decoder

# What has to be said of a head that is not known.
_NEEDED = ("model.dino_hub", "datasets.classes")
# And what can be.
DESCRIBING = (*_NEEDED, "datasets.ignore", "datasets.reduce_zero_label")
# Sources of the backbone's weights that are no file.
_NO_FILES = ("hub", "none")


@dataclass(frozen=True)
class PublishedSource:
    """Where the weights of a published head come from.

    Attributes:
        address: as it was given.
        file: with the head's weights.
        backbone: where its weights come from, as ``model.weights`` says.
    """

    address: Address
    file: Path
    backbone: str

    @property
    def words(self) -> str:
        """The address."""
        return self.address.text

    @property
    def version(self) -> str:
        """What stands in the place of a checkpoint's name."""
        return "published"

    @cached_property
    def weights_sha256(self) -> str:
        """Of the file with the head's weights."""
        return file_sha256(self.file)

    @property
    def all_weights_sha256(self) -> str:
        """Names the weights of head and backbone: of the latter the files, where some were given."""
        if self.backbone in _NO_FILES:
            return self.weights_sha256
        backbone = file_sha256(*weight_files(Path(self.backbone)))
        return hashlib.sha256(f"{self.weights_sha256} {backbone}".encode()).hexdigest()

    @property
    def head_sha256(self) -> str:
        """Of the head's tensors. Raises ValueError when the file holds no such head."""
        return head_hash(read_decoder(self.file, self.words))

    @property
    def metadata(self) -> dict[str, str]:
        """What a checkpoint of this head says of where it comes from."""
        said = {"format": "dinoseg 1", "source": self.words, "source_sha256": self.weights_sha256}
        # Of a local one the address is a path, which cards and the like must not tell.
        return said if self.address.repository is None else said | {"source_repository": self.words}

    @property
    def calibration(self) -> None:
        """There is none."""
        return None

    def load(self, config: Config, label_space: LabelSpace) -> Segmenter:
        """The segmenter in evaluation mode, on the CPU.

        Warns where the head was trained for more than classes of pixels.

        Raises:
            ValueError: a file that does not fit, or the backbone's weights are not to be had.
        """
        tensors = read_decoder(self.file, self.words)
        segmenter = self._build(config, label_space)
        assert isinstance(segmenter.head, PmtHead)  # the config of ``published_config``
        load_decoder(segmenter.head, tensors, self.words)
        known = self.address.head
        if known is not None and known.task != "semantic":
            warnings.warn(
                f"{self.words}: a {known.task} head; what is predicted are the classes of pixels, without instances",
                stacklevel=2,
            )
        return segmenter.eval()

    def _build(self, config: Config, label_space: LabelSpace) -> Segmenter:
        try:
            return build_segmenter(config, label_space.num_classes)
        except ValueError as error:
            folder = self.address.path
            if config.model.weights != "hub" or folder is None or not folder.is_dir():
                raise
            raise ValueError(f"{error} It may lie beside the head, too, as {folder / BACKBONE_FILES[0]}.") from error


def published_config(address: Address, file: Path, overrides: Sequence[str]) -> Config:
    """The config of a published head with overrides on top.

    Args:
        file: with its weights, which tell its sizes.

    Raises:
        ValueError: a file that holds no decoder, or one for other classes or another backbone; an override that is
            wrong; a head that is not known, of which backbone or classes are not given.
    """
    _refuse_unknown(address, overrides)
    sizes = PmtSizes.of(read_decoder(file, address.text), address.text)
    recorded = load_config([*_described(address, overrides), *sizes.settings()])
    spec, count = find_or_describe(recorded.model.dino_hub), _label_space(recorded).num_classes
    if address.head is None:
        _refuse_sizes(overrides, address)
        sizes.refuse_other_backbone(spec, address.text)
        if count != sizes.num_classes:
            raise ValueError(
                f"{address.text}: a decoder for {sizes.num_classes} classes, and {count} are named; give "
                "datasets.classes as it was trained"
            )
        return recorded
    if (sizes.width, sizes.num_classes) != (spec.embed_dim, count):
        raise ValueError(
            f"{address.text}: not the file of {address.head.name}, but a decoder for {sizes.width} channels and "
            f"{sizes.num_classes} classes, where {spec.embed_dim} and {count} are expected; fetch it again from "
            f"{address.head.page}, or put it into a folder of another name and say what it was trained on"
        )
    advice = f"train on others with load_from={address.text}"
    return override(recorded, overrides, Trained("published head", address.text, address.head.page, advice))


def published_labels(address: Address, overrides: Sequence[str]) -> LabelSpace:
    """The classes of a published head; reads no weights.

    Raises:
        ValueError: a head that is not known, of which backbone or classes are not given.
    """
    _refuse_unknown(address, overrides)
    return _label_space(load_config(_described(address, overrides)))


def _described(address: Address, overrides: Sequence[str]) -> list[str]:
    """The settings of a known head; of another one, what the user says of it."""
    weights = backbone_file(address)
    beside = [] if weights is None else [f"model.weights={weights}"]
    return [*beside, *overrides] if address.head is None else [*_known_settings(address.head), *beside]


def _known_settings(head: PublishedHead) -> list[str]:
    """As its authors predict: the short side resized to the window, and as few windows as cover the other."""
    return [
        f"model.dino_hub={head.backbone}",
        f"decoder_head.type={head.head}",
        f"datasets.classes={head.classes}",
        f"transforms.train.crop_size={head.window}",
        f"transforms.eval.img_size={head.window}",
        "eval.mode=slide",
        f"eval.crop_size={head.window}",
        f"eval.stride={head.window}",
    ]


def _label_space(config: Config) -> LabelSpace:
    data = config.datasets
    return LabelSpace.build(data.classes, data.ignore, data.reduce_zero_label, found_ids=())


def _refuse_unknown(address: Address, overrides: Sequence[str]) -> None:
    missing = [key for key in _NEEDED if not is_given(key, overrides)]
    if address.head is None and missing:
        if address.path is not None:
            # Without a head it does not matter what it was trained on.
            local_head_file(address, address.path)
        name = address.repository or (address.path.name if address.path else "")
        raise ValueError(
            f"{address.text}: none of the heads that are known by name (`dinoseg zoo` lists them); "
            f"{nearest_head(name)}say what it was trained on: {' '.join(f'{key}=...' for key in missing)}"
        )


def _refuse_sizes(overrides: Sequence[str], address: Address) -> None:
    for given in overrides:
        if given.startswith("decoder_head."):
            raise ValueError(f"{given}: the sizes of {address.text} are read off its file; leave it out")
