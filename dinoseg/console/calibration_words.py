"""What ``dinoseg calibrate`` prints."""

from collections.abc import Sequence

from dinoseg.evaluation.class_weights import TunedFigure
from dinoseg.evaluation.temperature import HIGHEST, LOWEST
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.calibration_file import CalibrationRecord, LeastPatches, TunedWeights
from dinoseg.system.messages import list_names

# Images below which a temperature is of these images as much as of the model.
_FEW = 10


def calibration_in_words(record: CalibrationRecord) -> str:
    """The temperature, what it was fitted to, and what it changed."""
    fitted, before, after = record.fitted_on, record.before, record.after
    lines = [
        f"temperature {record.temperature:.4f}, fitted to {fitted.pixels:,} pixels of {fitted.images} images of "
        f"{fitted.split}",
        f"ECE {before.ECE:.2f} % -> {after.ECE:.2f} %   NLL {before.NLL:.4f} -> {after.NLL:.4f}   (every pixel)",
    ]
    if after.ECE > before.ECE:
        lines.append("note: ECE rose: the temperature is fitted for NLL, and ECE need not follow where it is small")
    if fitted.images < _FEW:
        lines.append(f"note: {fitted.images} images are few: others may want another temperature")
    if not LOWEST * 1.01 < record.temperature < HIGHEST / 1.01:
        lines.append(
            f"note: that is the end of the range {LOWEST:g} to {HIGHEST:g}; a model that is right, or wrong, on nearly "
            "every pixel has no temperature of its own: give it more images"
        )
    return "\n".join(lines)


def weights_in_words(tuned: TunedWeights | None, figure: TunedFigure, label_space: LabelSpace) -> str:
    """What weights of classes gain."""
    if tuned is None:
        return f"mean {figure} is best without weights of classes: none are kept"
    named = zip(label_space.class_names, tuned.weights, strict=True)
    weights = list_names((f"{name} {weight:.2f}" for name, weight in named), 12)
    return f"{_gain_in_words(tuned)} with weights of classes: {weights}; used with eval.tuned=true"


def unknown_in_words(names: Sequence[str]) -> str:
    """Of classes that none of the fitted pixels is of."""
    return f"note: none of the fitted pixels is of {list_names(names, 12)}: nothing is found for them"


def patches_in_words(least: LeastPatches | None, figure: TunedFigure, label_space: LabelSpace) -> str:
    """What least sizes of patches gain."""
    if least is None:
        return f"mean {figure} is best with patches of every size: no least sizes are kept"
    named = zip(label_space.class_names, least.pixels, strict=True)
    sizes = list_names((f"{name} {pixels} px" for name, pixels in named if pixels), 12)
    keys = "eval.tuned=true eval.least_patches=true" if least.tuned else "eval.least_patches=true"
    return f"{_gain_in_words(least)} where smaller patches become what lies around them: {sizes}; used with {keys}"


def _gain_in_words(found: TunedWeights | LeastPatches) -> str:
    return f"mean {found.figure} {found.before:.2f} % -> {found.after:.2f} %"
