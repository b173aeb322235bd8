"""``dinoseg export RUN FILE``: one run as an ONNX file or a program of ``torch.export``, proved before it appears."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dinoseg.config import Config, with_changes
from dinoseg.data.folders import find_pairs
from dinoseg.data.found_files import is_volume
from dinoseg.data.pairs import Pair
from dinoseg.exporting.describe import description_of
from dinoseg.exporting.graph import data_file, refuse_without_onnxscript, write_onnx, write_program
from dinoseg.exporting.parity import TOLERANCES, Parity, ProgramModel, TorchScores, compare, refuse_other_labels
from dinoseg.inference.chosen_runs import Chosen
from dinoseg.inference.decision import asked_of_calibration
from dinoseg.inference.files import list_inputs
from dinoseg.inference.opening import OpenedRun
from dinoseg.inference.policy import WindowPolicy, window_policy
from dinoseg.models.segmenter import Segmenter
from dinoseg.onnx import OnnxSegmenter, load
from dinoseg.onnx.description import OnnxDescription
from dinoseg.system.files import named_errors, refuse_unwritable, replace_text
from dinoseg.system.messages import plural
from dinoseg.system.whole_folder import folder_beside

FILE_SUFFIXES = (".onnx", ".pt2")
_MOST_IMAGES = 3
# From Python, given the file's name as a literal.
_NEXT = {
    ".onnx": "import dinoseg.onnx; dinoseg.onnx.load({}).predict(IMAGE).labels   (docs/onnx.md)",
    ".pt2": "torch.export.load({}).module()(images)   (docs/onnx.md)",
}


@dataclass(frozen=True)
class FileOptions:
    """Options of a file.

    Attributes:
        images: file or folder of pictures that prove it; None takes those of the run's validation split.
        fp16: half precision.
        tolerance: largest difference of a score, as a share of the range that scores have; None for the usual one.
        labels: label ids as a second output.
    """

    images: Path | None = None
    fp16: bool = False
    tolerance: float | None = None
    labels: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance <= 1:
            raise ValueError(f"--tolerance {self.tolerance:g}: give a share above 0 and at most 1, such as 0.001")

    @property
    def precision(self) -> str:
        """``fp32`` or ``fp16``."""
        return "fp16" if self.fp16 else "fp32"

    @property
    def allowed(self) -> float:
        """The tolerance that applies."""
        return self.tolerance or TOLERANCES[self.precision]

    def refuse_given(self, out: Path) -> None:
        """Raises ValueError for options of a file where a folder is written."""
        given = {
            "--images": self.images is not None,
            "--fp16": self.fp16,
            "--tolerance": self.tolerance is not None,
            "--labels": self.labels,
        }
        for option in (name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{option} is of files: {out} will be a folder; end its name in {' or '.join(FILE_SUFFIXES)}"
            )


def export_file(run: Chosen, out: Path, options: FileOptions, console: Console) -> None:
    """Writes the run's segmenter as a file, and beside it ``FILE.json`` with how far it is from the run.

    Both predict a few pictures. Where they differ by more than the tolerance, there is no file.

    Args:
        out: ``FILE.onnx`` or ``FILE.pt2``; must not exist.

    Raises:
        ValueError: not a run folder, several runs, a damaged checkpoint, no pictures, a missing extra, ``out`` exists
            or cannot be written, a model that cannot be traced, or a file that does not say what the run says.
    """
    _refuse_existing(out)
    refuse_unwritable(out.parent, "")
    if out.suffix.lower() == ".onnx":
        refuse_without_onnxscript()
    opened = run.open()
    if not isinstance(opened, OpenedRun):
        raise ValueError(f"{out}: a file holds one model; export each run on its own, or all of them as a folder")
    _refuse_lost(opened.config, out)
    # A file sees an image once; where a temperature was fitted to more views of it, that is said.
    opened = replace(opened, config=with_changes(opened.config, {"eval.use_tta": False}))
    images = _pictures(opened.config, options)
    policy = _file_policy(opened, images)
    description = description_of(opened, policy, options.precision, gives_labels=options.labels)
    segmenter = opened.load_merged().eval()
    run_says = TorchScores(segmenter, opened.member(segmenter).reading, policy)
    expected = [run_says.scores(image) for image in images]
    with folder_beside(out) as folder, named_errors(out):
        written = folder / out.name
        exported = _written(written, segmenter, description, run_says)
        parity = compare(expected, exported, images)
        _refuse_beyond(parity, options, out)
        if options.labels:
            refuse_other_labels(written, description)
        replace_text(_beside(written), json.dumps(_account(out, opened, description, parity, options), indent=2) + "\n")
        # Another export may have been faster.
        _refuse_existing(out)
        # The file itself last: where it is, all is.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):
            file.rename(out.parent / file.name)
    _say(out, description, parity, console)


def _written(
    file: Path, segmenter: Segmenter, description: OnnxDescription, run_says: TorchScores
) -> OnnxSegmenter | TorchScores:
    """Writes the file, and opens it."""
    if file.suffix.lower() == ".onnx":
        write_onnx(segmenter, description, file)
        return load(file)
    write_program(segmenter, description, file)
    return run_says.of(ProgramModel(file, segmenter.num_classes, segmenter.scores_are_probabilities))


def _account(
    out: Path, opened: OpenedRun, description: OnnxDescription, parity: Parity, options: FileOptions
) -> dict[str, Any]:
    """Of what the file was made, and how far it is from that."""
    made = {
        "file": out.name,
        "checkpoint": opened.source.version,
        "precision": description.precision,
        "window": description.window.size,
    }
    return made | parity.describe() | {"tolerance": options.allowed}


def _beside(file: Path) -> Path:
    """Where it says how far the file is from its run."""
    return file.with_name(f"{file.name}.json")


def _refuse_existing(out: Path) -> None:
    """Raises ValueError where one of the files that are written is there: the export, weights, or what it says."""
    for file in (out, data_file(out), _beside(out)):
        if os.path.lexists(file):
            raise ValueError(f"{file}: exists, and is kept; give a new name, or remove it")


def _refuse_lost(config: Config, out: Path) -> None:
    """What decides a run's predictions and is not in a file: what calibration found is refused, views are noted."""
    for asked in asked_of_calibration(config):
        raise ValueError(
            f"{out}: {asked.key}=true: a file decides by its scores, without {asked.noun}; leave it out, or export a "
            "folder, which keeps them"
        )
    if config.eval.use_tta:
        warnings.warn(f"{out} predicts without test-time augmentation (eval.use_tta=true)", stacklevel=3)


def _pictures(config: Config, options: FileOptions) -> list[Path]:
    """Those that prove the file."""
    if options.images is not None:
        given = [image.path for image in list_inputs([str(options.images)]) if image.row is None]
        if not given:
            raise ValueError(
                f"--images {options.images}: rows of tables are no files of their own; give pictures as files"
            )
        return given[:_MOST_IMAGES]
    try:
        pairs = find_pairs(config.datasets, "val").pairs
    except (ValueError, OSError) as error:
        raise ValueError(
            f"no pictures to prove the file with: the run's validation split is not there ({error}); give some with "
            "--images FOLDER"
        ) from None
    # Slices, tiles and rows of tables are no files of their own.
    images = [pair.image for pair in pairs if type(pair) is Pair and not is_volume(pair.image)]
    if not images:
        raise ValueError(
            "no picture of the run's validation split is a file of its own; give some with --images FOLDER"
        )
    return images[:_MOST_IMAGES]


def _file_policy(opened: OpenedRun, images: Sequence[Path]) -> WindowPolicy:
    """The run's windows; for a run that sees images in one piece, one window of the size that most of these have."""
    policy = replace(window_policy(opened.config), batch_size=1)
    if policy.mode == "slide":
        return policy
    sizes = Counter(policy.view_sizes(opened.picture_form.read(image).size[::-1])[0] for image in images)
    size = sizes.most_common(1)[0][0]
    warnings.warn(
        f"the run sees images in one piece, and the file sees windows of {size[0]} x {size[1]} px: label maps of "
        "images of another size differ from those of `dinoseg predict`, and the proof is of this size alone; with "
        "windows in both (eval.mode=slide eval.crop_size=... eval.stride=...) they agree at every size",
        stacklevel=3,
    )
    return replace(policy, mode="slide", crop=size, stride=size)


def _refuse_beyond(parity: Parity, options: FileOptions, out: Path) -> None:
    if parity.share_of_range > options.allowed:
        raise ValueError(
            f"{out}: not written. Its scores differ from the run's by up to {parity.largest_difference:.3g}, "
            f"{parity.share_of_range:.2g} of their range, and {options.allowed:g} is allowed "
            f"({parity.pixels_that_differ} of {parity.pixels} pixels would change their class); --tolerance allows more"
        )


def _say(out: Path, description: OnnxDescription, parity: Parity, console: Console) -> None:
    height, width = description.window.size
    console.print(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, windows of {height} x {width} px, {description.precision}\n"
        f"proved on {plural(len(parity.images), 'picture')}: scores differ by up to {parity.largest_difference:.2g} "
        f"({parity.share_of_range:.1g} of their range), {parity.pixels_that_differ} of {parity.pixels} pixels are of "
        f"another class\nnext: {_NEXT[out.suffix.lower()].format(repr(str(out)))}",
        soft_wrap=True,
        markup=False,
    )
