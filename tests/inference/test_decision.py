"""What a run decides by: where it was not found, the command that finds all that is asked for, for the same figure."""

from typing import Literal

import pytest

from dinoseg.config.loading import load_config
from dinoseg.inference.decision import Decision
from dinoseg.run_folder.calibration_file import CalibrationRecord, LeastPatches, TunedWeights


def weights(figure: Literal["Dice", "IoU"], count: int = 2) -> TunedWeights:
    return TunedWeights(figure=figure, weights=[1.0] * count, before=1.0, after=2.0)


def patches(figure: Literal["Dice", "IoU"], tuned: bool, count: int = 2) -> LeastPatches:
    return LeastPatches(figure=figure, pixels=[4] * count, tuned=tuned, before=1.0, after=2.0)


TUNED, LEAST = "eval.tuned=true", "eval.least_patches=true"


@pytest.mark.parametrize(
    ("asked", "tuned", "least", "options"),
    [
        ([TUNED], None, None, "--tune dice` (or iou) first"),
        ([LEAST], None, None, "--patches dice` (or iou) first"),
        ([LEAST], weights("IoU"), None, "--patches dice` (or iou) first"),
        # Each calibration writes the file anew: what is there already is to be found again.
        ([TUNED, LEAST], weights("IoU"), None, "--tune iou --patches dice` (or iou) first"),
        ([TUNED], weights("IoU", 3), None, "--tune iou`"),
        ([LEAST], None, patches("IoU", False, 3), "--patches iou`"),
        ([LEAST], weights("Dice"), patches("IoU", True), "--patches iou`"),
        ([TUNED, LEAST], weights("IoU"), patches("Dice", False), "--tune iou --patches dice`"),
    ],
)
def test_what_is_missing_names_the_command_that_finds_it(
    asked: list[str], tuned: TunedWeights | None, least: LeastPatches | None, options: str
) -> None:
    record = CalibrationRecord.model_construct(temperature=1.0, tuned=tuned, least_patches=least)
    with pytest.raises(ValueError, match=r"(of classes|of patches)") as raised:
        Decision.of(record, load_config(asked), "runs/x", "dinoseg calibrate runs/x --checkpoint last", 2)
    assert f"`dinoseg calibrate runs/x --checkpoint last {options}" in str(raised.value)
