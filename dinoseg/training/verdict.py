"""What is said of a finished training whose best figures a constant prediction has, too."""

from collections.abc import Sequence

from dinoseg.check.check import CheckReport
from dinoseg.console.policy_words import percent
from dinoseg.evaluation.constant import COMPARED, not_above_constant
from dinoseg.run_folder.recorded_evaluation import RecordedEvaluation, read_evaluation
from dinoseg.run_folder.training_records import read_training_records
from dinoseg.system.json_files import is_finite_number
from dinoseg.training.diagnosis import Ended, likely_causes
from dinoseg.training.loop import Trainer


def verdict(trainer: Trainer, report: CheckReport) -> str:
    """The figures that the constant has, too, and the likeliest causes; empty when there are none of them.

    Args:
        trainer: of a finished training, whose best evaluation is in the run folder.
        report: of the check before it, which counted the pixels of each class.
    """
    try:
        recorded = read_evaluation(trainer.run_folder, "val", trainer.label_space)
        records = read_training_records(trainer.run_folder.metrics)
    except ValueError:
        # Files that someone else removed or changed; a training does not fail for a remark.
        return ""
    beaten = not_above_constant(recorded.metrics)
    if not beaten:
        return ""
    config, progress, steps = trainer.config, trainer.progress, trainer.progress.step
    images = steps * config.bs * config.train.accumulation_steps
    ended = Ended(
        config,
        trainer.label_space.class_names,
        recorded.matrix,
        tuple(report.class_pixels("train")),
        _values(records, "train", "loss"),
        _values(records, "val", config.metric_to_save),
        steps,
        images * trainer.accelerator.num_processes / len(trainer.train_data),
        trainer.val_data.stored_size(0),
        tuple(report.class_pixels("val")),
        progress.is_stopped_early(config.train.early_stopping),
        _deciding_minutes(trainer),
    )
    causes = [f"  {place}. {cause.text}" for place, cause in enumerate(likely_causes(ended), start=1)]
    return "\n".join([_headline(recorded, beaten), "likeliest causes in this run, most likely first:", *causes])


def _deciding_minutes(trainer: Trainer) -> float | None:
    """Those of ``minutes=``, where there would have been more steps with more of them."""
    budget, planned = trainer.budget, trainer.config.scheduler.total_iter
    ended_by_it = trainer.progress.step < planned
    chosen_for_it = budget is not None and budget.settles_steps and planned < budget.most_steps
    return budget.seconds / 60 if budget is not None and (ended_by_it or chosen_for_it) else None


def _headline(recorded: RecordedEvaluation, beaten: list[str]) -> str:
    metrics, constant = recorded.metrics, recorded.metrics["constant"]
    name = metrics["per_class"][constant["class_index"]]["name"]
    figures = [f"{key} {percent(metrics[key])} (always {name}: {percent(constant[key])})" for key in beaten]
    above = [key for key in COMPARED if key not in beaten]
    rest = f"; {above[0]} {percent(metrics[above[0]])} is above its {percent(constant[above[0]])}" if above else ""
    where = "in one figure no" if above else "no"
    return f"warning: {where} better than a constant on the validation images: {', '.join(figures)}{rest}"


def _values(records: Sequence[dict[str, object]], kind: str, key: str) -> tuple[float, ...]:
    found = [record.get(key) for record in records if record.get("kind") == kind]
    return tuple(value for value in found if isinstance(value, float | int) and is_finite_number(value))
