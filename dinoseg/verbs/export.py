"""``dinoseg export``: a run, or several as one, as one folder that needs nothing else to predict; or as a file."""

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from dinoseg.backbone import backbone_hash
from dinoseg.config import Config, with_changes
from dinoseg.config.loading import is_setting, save_config
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.hub.local_keys import public_metadata, without_local
from dinoseg.inference.chosen_runs import Chosen, OpenedEnsemble, choose_runs, describing_keys
from dinoseg.inference.opening import OpenedRun
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.calibration_file import CalibrationFile
from dinoseg.run_folder.checkpoint import MODEL_FILE, UnwrittenError, model_state, write_checkpoint
from dinoseg.run_folder.ensemble_folder import EnsembleFolder, is_ensemble
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.trained_with import describe_training
from dinoseg.system.files import refuse_unwritable, refused_folder
from dinoseg.system.messages import OUT_OF_ROOM, shell_word
from dinoseg.system.whole_folder import refuse_unreplaceable, whole_folder
from dinoseg.verbs.export_file import FILE_SUFFIXES, FileOptions, export_file
from dinoseg.zoo.address import is_address

# Names of files that TensorRT, Core ML, OpenVINO, TensorFlow and PyTorch itself read.
_OF_OTHER_ENGINES = frozenset(
    {".engine", ".plan", ".trt", ".mlmodel", ".mlpackage", ".xml", ".pb", ".tflite", ".pth", ".ts", ".safetensors"}
)


def export_arguments(arguments: Sequence[str], checkpoint: str, options: FileOptions, console: Console) -> None:
    """What the command line asks for: run folders, then the new folder or file; and ``key=value``, in any order.

    Args:
        options: of a file.

    Raises:
        ValueError: see ``export_run`` and ``export_file``; there are fewer than two paths, or the last looks like a
            misspelt file.
    """
    settings = [argument for argument in arguments if is_setting(argument)]
    places = [argument for argument in arguments if argument not in settings]
    if len(places) < 2:
        found = f"found {places[0]} alone" if places else "found none"
        raise ValueError(f"give one or more run folders, and then a new folder or file ({found})")
    run, out = choose_runs(places[:-1], checkpoint, None, settings), Path(places[-1])
    if out.suffix.lower() in FILE_SUFFIXES:
        export_file(run, out, options, console)
    else:
        options.refuse_given(out)
        _refuse_misspelt(out)
        export_run(run, out, console)
    note_unused_keys(settings, "export", describing_keys(run))


def _refuse_misspelt(out: Path) -> None:
    """Raises ValueError for a name that was to be a file's: of ``vessels.onn`` a folder would be made."""
    if out.exists():
        return
    if out.suffix.lower() in _OF_OTHER_ENGINES:
        raise ValueError(
            f"{out}: {out.suffix} files are made by their own tools, of FILE.onnx or FILE.pt2 (docs/onnx.md says how); "
            f"give {out.with_suffix('.onnx')}"
        )
    meant = difflib.get_close_matches(out.suffix.lower(), FILE_SUFFIXES, 1, cutoff=0.7)
    if meant:
        raise ValueError(f"{out}: did you mean {out.with_suffix(meant[0])}? A folder wants a name without {out.suffix}")


def export_run(run: Chosen, out: Path, console: Console, public: bool = False) -> None:
    """Writes config, labels and one checkpoint with the whole backbone, LoRA adapters merged into its weights.

    The same run gives the same bytes, wherever they are written. Several runs are written so into subfolders, beside an
    ``ensemble.json`` that names them.

    The folder loads without peft and without the backbone's own weights, and predicts what the run predicts (to the
    rounding of fp32 where adapters are merged). It holds no optimiser state: it can be evaluated, not resumed.

    Args:
        out: the new folder; must not exist, or be empty.
        public: without what is of this machine and its data: paths, and hashes of names of images.

    Raises:
        ValueError: not a run folder, no such checkpoint, weights that are not to be had, ``out`` is in use or cannot
            be written; or runs that cannot be averaged.
    """
    _refuse_used(out)
    refuse_unwritable(out, "")
    opened = run.open()
    if isinstance(opened, OpenedRun):
        said = f"the whole model of {opened.source.words} (checkpoint {opened.source.version})"
        segmenter = opened.load_merged()
        with _written(out) as folder:
            _write_run(opened, segmenter, RunFolder(folder), public)
    else:
        said = f"the whole models of {len(opened.members)} runs (checkpoint {run.checkpoint} of each)"
        with _written(out) as folder:
            _write_members(opened, EnsembleFolder(folder), public)
    size = sum(file.stat().st_size for file in out.rglob(MODEL_FILE)) / 1e6
    console.print(
        f"{out}: a folder of {size:.1f} MB, {said}; next: dinoseg predict {shell_word(out)} IMAGES",
        soft_wrap=True,
        markup=False,
    )


def _refuse_used(out: Path) -> None:
    if RunFolder(out).config.exists() or is_ensemble(out):
        raise ValueError(
            f"{out}: holds a run or an export already, which is kept; give a new folder, or remove that one"
        )
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not an empty folder; give a new one")
    refuse_unreplaceable(out, "")


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder to fill, which appears whole or not at all.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        with whole_folder(out) as written:
            yield written
    except (UnwrittenError, OSError) as error:
        # Another export may have been faster.
        _refuse_used(out)
        raise ValueError(f"{out}: {_why_unwritten(out, error)}") from error


def _write_run(opened: OpenedRun, segmenter: Segmenter, target: RunFolder, public: bool) -> None:
    config, kept = config_of_export(opened.config), opened.source.metadata
    if public:
        config, kept = without_local(config), public_metadata(kept)
    metadata = {
        **kept,
        "backbone": opened.config.model.dino_hub,
        "backbone_saved": "true",
        "backbone_sha256": backbone_hash(segmenter.backbone.frozen_state()),
        **describe_training(config, opened.label_space),
    }
    write_checkpoint(target.checkpoint("best"), model_state(segmenter, whole=True), metadata, None, {})
    save_config(config, target.config)
    opened.label_space.save(target.labels)
    if opened.calibration is not None:
        of_export = {"checkpoint": "best", "weights_sha256": target.open_checkpoint("best").weights_sha256}
        CalibrationFile(target.calibration).write(opened.calibration.model_copy(update=of_export))


def _write_members(opened: OpenedEnsemble, target: EnsembleFolder, public: bool) -> None:
    """One model in memory at a time."""
    listed = []
    for number, member in enumerate(opened.members, start=1):
        # A name may have 255 bytes at most.
        name = f"{number}_{_last_name(member.source.words)[:50]}".replace("\\", "_")
        folder = RunFolder(target.path / name)
        _write_run(member, member.load_merged(), folder, public)
        listed.append((name, folder.open_checkpoint("best").weights_sha256))
    target.write(listed)


def _last_name(words: str) -> str:
    """Of a run folder, or of the address of a published head."""
    return words.rpartition("/")[2] if is_address(words) else Path(words).resolve().name


def _why_unwritten(out: Path, error: UnwrittenError | OSError) -> str:
    """What is wrong, and what to give, in words of the folder that was asked for."""
    known = error.errno is not None and error.errno not in OUT_OF_ROOM
    if known:
        refused = OSError(error.errno, error.reason if isinstance(error, UnwrittenError) else error.strerror)
        return f"cannot be written: {refused_folder(out.parent, refused)}; give another folder"
    reason, room = (error.reason, f"; {error.room}") if isinstance(error, UnwrittenError) else (error.strerror, "")
    return f"cannot be written ({reason}){room}; nothing is left of it: make room, or give a folder on another disk"


def config_of_export(config: Config) -> Config:
    """The run's config for a model of which nothing is trained any more, wherever it will lie."""
    return with_changes(
        config,
        {
            "model.mode": "freeze",
            "model.save_backbone": True,
            "model.gradient_checkpointing": False,
            "optimizer.backbone_lr_factor": None,
            "optimizer.layer_decay": 1.0,
            "load_from": None,
            "output_dir": Config().output_dir,
        },
    )
