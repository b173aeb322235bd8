"""The head of a report: the means, how they were measured, of what, and how to get them again."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from dinoseg.config import Config
from dinoseg.console.policy_words import ABSENT_CLASSES, constant_in_words, policy_in_words
from dinoseg.evaluation.constant import not_above_constant
from dinoseg.labels.settings import Kind
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.recorded_evaluation import RecordedEvaluation
from dinoseg.system.messages import plural, shell_word

# Accuracy of a class is its recall; an interval has a column of its own. With beta 1 the F-score is the Dice score.
_SHOWN_ELSEWHERE = ("accuracy", "IoU_interval")
_FSCORES = ("Fscore", "mFscore")
_MODES = {"freeze": "frozen", "lora": "with LoRA adapters", "full": "trained with the head"}
_HEADS = {
    "linear": "linear head",
    "dense": "dense head",
    "m2f": "Mask2Former head",
    "pmt": "Plain Mask Transformer head",
    "eomt": "Encoder-only Mask Transformer head",
}


def report_head(
    folder: RunFolder,
    config: Config,
    recorded: RecordedEvaluation,
    kind: Kind,
    overrides: tuple[str, ...],
) -> dict[str, Any]:
    """What the template shows above everything else."""
    metrics = recorded.metrics
    means = {
        name: value for name, value in metrics.items() if name != "mIoU" and is_figure(name, value, recorded.policy)
    }
    if metrics.get("per_image"):
        means["mIoU, mean over images"] = metrics["per_image"]["mIoU"]
    return {
        "miou": metrics["mIoU"],
        "confidence": metrics["confidence"],
        "constant": constant_in_words(metrics) if metrics.get("constant") else "",
        "beaten": not_above_constant(metrics),
        "resampled": _resampled(recorded),
        "means": means,
        "by_policy": [
            {"name": name, "value": value, "meaning": ABSENT_CLASSES.get(name, "")}
            for name, value in (metrics.get("mIoU_by_policy") or {}).items()
        ],
        "policy": policy_in_words(recorded.policy, kind),
        "data": f"{config.datasets.root or 'globs of datasets.images'}, split {recorded.split}",
        "model": _model_in_words(folder, config, recorded),
        "evaluated": recorded.date.strftime("%Y-%m-%d %H:%M"),
        "written": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "commands": _commands(folder, recorded, overrides),
    }


def _resampled(recorded: RecordedEvaluation) -> str:
    """What intervals are over, with how many there are."""
    images, volumes = len(recorded.names), len(set(recorded.volumes))
    return plural(volumes, "volume") if recorded.volumes else plural(images, "image")


def _model_in_words(folder: RunFolder, config: Config, recorded: RecordedEvaluation) -> list[str]:
    name, step, remark = recorded.checkpoint, recorded.metrics.get("step"), ""
    # A page without pictures can be made where the checkpoint is not.
    with suppress(ValueError):
        checkpoint = folder.open_checkpoint(name)
        if recorded.is_of(checkpoint):
            step = step or checkpoint.metadata.get("step")
        else:
            remark = " (as it was then: another one lies there now)"
    where = f"checkpoint {name}" + (f", step {step} of {config.scheduler.total_iter}" if step else "")
    return [model_in_words(config), where + remark]


def model_in_words(config: Config) -> str:
    """Backbone, what of it was trained, and head."""
    mode, head = config.model.mode or "freeze", config.decoder_head.type
    return f"{config.model.dino_hub} ({_MODES.get(mode, mode)}), {_HEADS.get(head, head)}"


def _commands(folder: RunFolder, recorded: RecordedEvaluation, overrides: tuple[str, ...]) -> list[str]:
    run, checkpoint = shell_word(folder.path), recorded.checkpoint
    given = "".join(f" {shell_word(override)}" for override in overrides)
    chosen = "" if checkpoint == "best" else f" --checkpoint {checkpoint}"
    images = recorded.policy["images"]
    # `dinoseg eval` counts every image unless told otherwise; validation during training may not.
    if images < recorded.policy.get("images_available", images) and "eval.max_val_samples" not in given:
        chosen += f" eval.max_val_samples={images}"
    return [
        f"dinoseg train config={shell_word(folder.config)} output_dir=NEW_RUN",
        f"dinoseg eval {run} --split {recorded.split}{chosen}{given}",
        f"dinoseg report {run} --split {recorded.split}{given}",
    ]


def is_figure(name: str, value: object, policy: dict[str, Any]) -> bool:
    """A percentage, possibly undefined, that is not another figure once more under this policy of metrics.json."""
    repeated = _SHOWN_ELSEWHERE + (_FSCORES if policy.get("beta", 1.0) == 1.0 else ())
    return (value is None or isinstance(value, float)) and name not in repeated
