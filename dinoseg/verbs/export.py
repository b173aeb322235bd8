"""``dinoseg export``: a run as one folder that needs nothing else to predict."""

import os
from pathlib import Path

from rich.console import Console

from dinoseg.backbone import backbone_hash
from dinoseg.config import Config, with_changes
from dinoseg.config.loading import save_config
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.checkpoint import MODEL_FILE, UnwrittenError, model_state, write_checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.trained_with import describe_training
from dinoseg.system.files import refused_folder
from dinoseg.system.messages import OUT_OF_ROOM
from dinoseg.system.whole_folder import whole_folder


def export_run(run: ChosenRun, out: Path, console: Console) -> None:
    """Writes config, labels and one checkpoint with the whole backbone, LoRA adapters merged into its weights.

    The same run gives the same bytes, wherever they are written.

    The folder loads without peft and without the backbone's own weights, and predicts what the run predicts (to the
    rounding of fp32 where adapters are merged). It holds no optimiser state: it can be evaluated, not resumed.

    Args:
        out: the new folder; must not exist, or be empty.

    Raises:
        ValueError: not a run folder, no such checkpoint, weights that are not to be had, ``out`` is in use or cannot
            be written.
    """
    _refuse_used(out)
    opened = run.open()
    segmenter = opened.load_segmenter()
    if segmenter.backbone.mode == "lora":
        segmenter.backbone.merge_adapters()
    _write_folder(opened, segmenter, out)
    size = (RunFolder(out).checkpoint("best") / MODEL_FILE).stat().st_size / 1e6
    said = (
        f"{out}: {size:.1f} MB, the whole model of {opened.folder.path} (checkpoint {opened.checkpoint.name}); "
        f"next: dinoseg predict {out} IMAGES"
    )
    console.print(said, soft_wrap=True, markup=False)


def _refuse_used(out: Path) -> None:
    if RunFolder(out).config.exists():
        raise ValueError(
            f"{out}: holds a run or an export already, which is kept; give a new folder, or remove that one"
        )
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not an empty folder; give a new one")


def _write_folder(opened: OpenedRun, segmenter: Segmenter, out: Path) -> None:
    """The folder appears whole or not at all."""
    config = _config_of_export(opened.config)
    metadata = opened.checkpoint.metadata | {
        "backbone_saved": "true",
        "backbone_sha256": backbone_hash(segmenter.backbone.state_dict()),
        **describe_training(config, opened.label_space),
    }
    try:
        with whole_folder(out) as written:
            target = RunFolder(written)
            write_checkpoint(target.checkpoint("best"), model_state(segmenter, whole=True), metadata, None, {})
            save_config(config, target.config)
            opened.label_space.save(target.labels)
    except (UnwrittenError, OSError) as error:
        # Another export may have been faster.
        _refuse_used(out)
        raise ValueError(f"{out}: {_why_unwritten(out, error)}") from error


def _why_unwritten(out: Path, error: UnwrittenError | OSError) -> str:
    """What is wrong, and what to give, in words of the folder that was asked for."""
    known = error.errno is not None and error.errno not in OUT_OF_ROOM
    if known:
        refused = OSError(error.errno, error.reason if isinstance(error, UnwrittenError) else error.strerror)
        return f"cannot be written: {refused_folder(out.parent, refused)}; give another folder"
    reason, room = (error.reason, f"; {error.room}") if isinstance(error, UnwrittenError) else (error.strerror, "")
    return f"cannot be written ({reason}){room}; nothing is left of it: make room, or give a folder on another disk"


def _config_of_export(config: Config) -> Config:
    """The run's config for a model of which nothing is trained any more, wherever it will lie."""
    return with_changes(
        config,
        {
            "model.mode": "freeze",
            "model.save_backbone": True,
            "model.gradient_checkpointing": False,
            "optimizer.backbone_lr_factor": None,
            "load_from": None,
            "output_dir": Config().output_dir,
        },
    )
