"""Checkpoints: written whole or not at all, compared with their hashes when read, read without running code.

A checkpoint is a folder: ``model.safetensors`` (trained weights and BatchNorm statistics; the frozen backbone by name
and hash, in the file's metadata), ``trainer.pt`` (optimiser state) and ``checkpoint.json`` (step, best metric, and the
hashes of the other two).
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dinoseg.models.head_hash import head_hash
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.checkpoint_manifest import (
    CONTENTS_FILE,
    REMEDY,
    Manifest,
    read_manifest,
    verify_part,
    write_contents,
)
from dinoseg.system.files import file_sha256, flush_to_disk
from dinoseg.system.state_dicts import (
    read_state,
    refuse_not_finite,
    refuse_without_values,
    tensors_within,
)
from dinoseg.system.tensor_files import save_tensors

MODEL_FILE = "model.safetensors"
TRAINER_FILE = "trainer.pt"

# Of the names of its tensors in the weights file.
_HEAD = "head."

# The checkpoint that ``last`` becomes when the next one is complete.
PREVIOUS = "previous"


class UnwrittenError(ValueError):
    """A checkpoint that cannot be written, in the words of a training; an export has others.

    Attributes:
        reason: in words of the system where it has some.
        room: what is needed and what is free.
        errno: of the system; None where a library says no more than that it failed.
    """

    def __init__(self, file: Path, reason: str, room: str, errno: int | None) -> None:
        super().__init__(
            f"{file}: cannot be written ({reason}); {room}. The checkpoints before it are whole: make room, or make "
            "the folder writable, and go on with --resume"
        )
        self.reason, self.room, self.errno = reason, room, errno


def model_state(segmenter: Segmenter, whole: bool) -> dict[str, Tensor]:
    """What a checkpoint holds: everything when ``whole``, else all but the frozen part of the backbone."""
    trained = {f"backbone.{name}" for name, value in segmenter.backbone.named_parameters() if value.requires_grad}
    return {
        name: value.detach().cpu().contiguous()
        for name, value in segmenter.state_dict().items()
        if whole or not name.startswith("backbone.") or name in trained
    }


def write_checkpoint(
    folder: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    trainer: dict[str, Any] | None,
    progress: dict[str, Any],
) -> None:
    """Writes the checkpoint beside ``folder`` and swaps it in by renaming; an older one stays until then.

    What was ``last`` until now is kept as ``previous``.

    Args:
        metadata: of the weights file.
        trainer: optimiser state: tensors and plain values; None for a model that is not to be resumed.
        progress: plain values for ``checkpoint.json``.

    Raises:
        UnwrittenError: the disk is full or the folder cannot be written; names the file and the room it needs.
    """
    temporary = folder.with_name(f".{folder.name}.new")
    try:
        with _writing(folder, [tensors, trainer]):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        with _writing(folder / MODEL_FILE, tensors):
            save_tensors(tensors, temporary / MODEL_FILE, metadata)
            flush_to_disk(temporary / MODEL_FILE)
        if trainer is not None:
            with _writing(folder / TRAINER_FILE, trainer):
                _save_trainer(trainer, temporary / TRAINER_FILE)
        with _writing(folder / CONTENTS_FILE, progress):
            files = (MODEL_FILE,) if trainer is None else (MODEL_FILE, TRAINER_FILE)
            flush_to_disk(write_contents(temporary, files, progress))
            flush_to_disk(temporary)
        _swap_in(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _save_trainer(trainer: dict[str, Any], file: Path) -> None:
    # Through a stream of Python: its error says that the disk is full, which torch's own does not.
    with file.open("wb") as stream:
        torch.save(trainer, stream)
    flush_to_disk(file)


def _swap_in(temporary: Path, folder: Path) -> None:
    aside = _aside(folder)
    with _writing(folder, []):
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        temporary.rename(folder)
        flush_to_disk(folder.parent)
    if aside.name != PREVIOUS:
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to read from. Its manifest is read once, and each part is compared with its hash once.

    Without ``checkpoint.json`` no part is compared: a model that was put together by hand can be evaluated.

    Attributes:
        folder: where it lies.
    """

    folder: Path
    _verified: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def open(folder: Path) -> "Checkpoint":
        """That of the folder, or the version before it when a save was interrupted between its two renames.

        Raises:
            ValueError: there is neither.
        """
        found = Checkpoint.find(folder)
        if found is None:
            raise ValueError(
                f"{folder}: no checkpoint there (no file {MODEL_FILE}); train first, or name another with --checkpoint "
                "last|best"
            )
        return found

    @staticmethod
    def find(folder: Path) -> "Checkpoint | None":
        """As ``open``; None where there is no checkpoint."""
        for candidate in (folder, _aside(folder)):
            if (candidate / MODEL_FILE).is_file():
                return Checkpoint(candidate)
        return None

    @property
    def name(self) -> str:
        """``last``, ``best`` or ``previous``."""
        return self.folder.name

    @cached_property
    def metadata(self) -> dict[str, str]:
        """That of the weights file: backbone name, its hash, format.

        Raises:
            ValueError: the file is damaged.
        """
        with self._opened() as tensors:
            return dict(tensors.metadata() or {})

    @property
    def holds_backbone(self) -> bool:
        """Whether the weights file holds the whole backbone, so that no other weights are needed.

        Raises:
            ValueError: the file is damaged.
        """
        return self.metadata.get("backbone_saved") == "true"

    @property
    def progress(self) -> dict[str, Any]:
        """Step, best metric and so on, as they were written.

        Raises:
            ValueError: ``checkpoint.json`` is missing or damaged.
        """
        if self._manifest is None:
            raise ValueError(f"{self.folder / CONTENTS_FILE}: missing; {REMEDY}")
        return self._manifest.progress

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file.

        Raises:
            ValueError: the file is damaged.
        """
        return self._verify(MODEL_FILE)

    @property
    def head_sha256(self) -> str:
        """Names the weights of the head, which are the same in an export of this checkpoint and in what is pushed.

        Raises:
            ValueError: the file is damaged.
        """
        self._verify(MODEL_FILE)
        with self._opened() as tensors:
            names = [name for name in tensors.keys() if name.startswith(_HEAD)]  # noqa: SIM118 (no mapping)
            return head_hash({name.removeprefix(_HEAD): tensors.get_tensor(name) for name in names})

    def weights(self) -> dict[str, Tensor]:
        """The tensors of ``model.safetensors``.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.folder / MODEL_FILE
        self._verify(MODEL_FILE)
        tensors = dict(read_state(file, str(file), REMEDY))
        refuse_not_finite(tensors, str(file), REMEDY)
        return tensors

    def load_into(self, segmenter: Segmenter) -> None:
        """Loads the weights into the segmenter.

        Raises:
            ValueError: the file is damaged, or holds other tensors than this segmenter trains.
        """
        file, tensors = self.folder / MODEL_FILE, self.weights()
        try:
            result = segmenter.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{file}: does not fit the run's config: {error}") from None
        needed = model_state(segmenter, whole=self.holds_backbone)
        missing = [name for name in result.missing_keys if name in needed]
        if missing or result.unexpected_keys:
            raise ValueError(
                f"{file}: does not fit the run's config: missing {missing[:3]}, unexpected {result.unexpected_keys[:3]}"
            )

    def refuse_other_backbone(self, found_sha256: str, weights: str) -> None:
        """A checkpoint without the backbone fits the weights that it was trained with only.

        Args:
            found_sha256: of the frozen backbone that was loaded from ``weights``.

        Raises:
            ValueError: they are others.
        """
        recorded = self.metadata
        if not self.holds_backbone and recorded.get("backbone_sha256", found_sha256) != found_sha256:
            raise ValueError(
                f"{self.folder}: trained on other weights of {recorded.get('backbone')} than "
                f"model.weights={weights} holds; give the file it was trained with as model.weights=PATH"
            )

    def trainer_state(self) -> dict[str, Any]:
        """Optimiser state, as it was written; tensors and plain values only.

        Raises:
            ValueError: the file is missing, damaged, or holds anything else.
        """
        file = self.folder / TRAINER_FILE
        self._verify(TRAINER_FILE)
        state = dict(read_state(file, str(file), REMEDY))
        tensors = dict(tensors_within(state))
        refuse_without_values(tensors, str(file), REMEDY)
        refuse_not_finite(tensors, str(file), REMEDY)
        if not isinstance(state.get("optimizer"), dict):
            raise ValueError(f"{file}: optimizer: missing or no optimiser state; {REMEDY}")
        return state

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """The weights file, of which nothing is read yet. Raises ValueError when it is damaged."""
        file = self.folder / MODEL_FILE
        try:
            with safe_open(file, framework="pt") as opened:
                yield opened
        except (SafetensorError, OSError) as error:
            self._verify(MODEL_FILE)
            raise ValueError(f"{file}: damaged or not a safetensors file ({error}); {REMEDY}") from None

    @cached_property
    def _manifest(self) -> Manifest | None:
        return read_manifest(self.folder) if (self.folder / CONTENTS_FILE).exists() else None

    def _verify(self, name: str) -> str:
        """The SHA-256 of a part, which is compared with the manifest the first time."""
        if name not in self._verified:
            file = self.folder / name
            self._verified[name] = file_sha256(file) if self._manifest is None else verify_part(file, self._manifest)
        return self._verified[name]


@contextmanager
def _writing(file: Path, contents: Any) -> Iterator[None]:
    """Turns what the libraries raise on a full disk, or where nothing may be written, into one message."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = _system_error(error)
        existing = next(folder for folder in file.parents if folder.exists())
        free = f"{shutil.disk_usage(existing).free / 1e6:.1f} MB are free there"
        raise UnwrittenError(
            file,
            str(error).splitlines()[0] if cause is None else str(cause.strerror),
            f"it needs {_bytes_of(contents) / 1e6:.1f} MB, and {free}",
            None if cause is None else cause.errno,
        ) from error


def _system_error(error: BaseException) -> OSError | None:
    """What the system said, where it did: torch's own error hides that the disk is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause
        cause = cause.__context__
    return None


def _bytes_of(contents: Any) -> int:
    if isinstance(contents, Tensor):
        return contents.numel() * contents.element_size()
    inner: Iterable[Any] = contents.values() if isinstance(contents, dict) else ()
    inner = contents if isinstance(contents, list | tuple) else inner
    return sum(_bytes_of(entry) for entry in inner)


def _aside(folder: Path) -> Path:
    return folder.with_name(PREVIOUS if folder.name == "last" else f".{folder.name}.previous")
