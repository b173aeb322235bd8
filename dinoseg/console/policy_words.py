"""What an evaluation measured, in words."""

from typing import Any

from dinoseg.evaluation.compare import FEWEST_IMAGES
from dinoseg.evaluation.constant import not_above_constant
from dinoseg.labels.settings import Kind, label_number, show_labels
from dinoseg.system.messages import list_names, plural

ABSENT_CLASSES = {
    "skip_empty": "A class with no pixel in truth or prediction is left out of the means (skip_empty).",
    "skip_absent": "A class with no pixel in the truth is left out of the means (skip_absent).",
    "zero": "Every class counts in the means; a figure without pixels is 0 (zero).",
}

# Of a list that is read, not counted.
_MOST_NAMES = 6


def policy_in_words(policy: dict[str, Any], kind: Kind = "ids") -> list[str]:
    """Sentences about images, resolution, windows, augmentation, absent classes, measures and ignored pixels.

    Args:
        policy: of metrics.json; what it does not say is left out.
        kind: what the masks store, for the spelling of ignored labels.
    """
    absent = str(policy.get("absent_classes", ""))
    origin = [*out_of_fold_in_words(policy), _members(policy), _resolution(policy)]
    sentences = [images_in_words(policy), *origin, *_window(policy.get("window") or {})]
    sentences += [
        ABSENT_CLASSES.get(absent, f"Absent classes: {absent}." if absent else ""),
        *_measures(policy),
        _temperature(policy),
        _weights(policy),
        _patches(policy),
        _ignored(policy, kind),
        "Pixels outside the regions count nowhere (datasets.regions)." if policy.get("regions") else "",
        _tiles(policy),
        _slices(policy),
    ]
    return [sentence for sentence in sentences if sentence]


def _tiles(policy: dict[str, Any]) -> str:
    tiles = policy.get("tiles")
    if not tiles:
        return ""
    which = "The images are" if tiles == policy["images"] else f"{tiles} of the images are"
    return f"{which} tiles of large files, nothing beyond whose border is seen (datasets.tile); nodata counts nowhere."


def _slices(policy: dict[str, Any]) -> str:
    slices = policy.get("slices")
    if not slices:
        return ""
    which = "The images are" if slices == policy["images"] else f"{slices} of the images are"
    volumes = policy["volumes"]
    return f"{which} slices of {plural(volumes, 'volume')}; intervals are over volumes."


def images_in_words(policy: dict[str, Any]) -> str:
    """How many images were counted, of how many."""
    images, available = policy["images"], policy.get("images_available", policy["images"])
    sliced = policy.get("slices") == images
    noun = "slice" if sliced else "tile" if policy.get("tiles") == images else "image"
    noun = noun if available == 1 else f"{noun}s"
    if sliced:
        noun += f" of {plural(policy['volumes'], 'volume')}"
    independent = policy["volumes"] if sliced else images
    few = " An interval over so few means little." if 1 < independent < FEWEST_IMAGES else ""
    if images == available:
        return f"{images} {noun}, each counted once.{few}"
    return f"{images} of {available} {noun}: an evenly spread, fixed subset (eval.max_val_samples).{few}"


def out_of_fold_in_words(policy: dict[str, Any]) -> list[str]:
    """Which run scored which image, and what chose their checkpoints; nothing where there are no folds."""
    folds = policy.get("out_of_fold") or []
    if not folds:
        return []
    figures = ", ".join(percent(fold["mIoU"]) for fold in folds)
    sentences = [f"Out of {len(folds)} folds: each by the run that held it out.", f"mIoU by fold: {figures}."]
    if learned := sum(fold.get("learned_before", 0) for fold in folds):
        sentences.append(f"Runs they began with (load_from) learned from {learned} of the images: this flatters.")
    if any(fold["checkpoint"] == "best" for fold in folds):
        sentences.append("Best was chosen on these images; --checkpoint last was not.")
    return sentences


def constant_in_words(contents: dict[str, Any]) -> str:
    """What always predicting one class scores on the same truth, and which figures of metrics.json do not beat it."""
    constant = contents["constant"]
    name = contents["per_class"][constant["class_index"]]["name"]
    words = f"always {name}: mIoU {percent(constant['mIoU'])}  aAcc {percent(constant['aAcc'])}"
    beaten = not_above_constant(contents)
    return f"{words}  <- not beaten in {' and '.join(beaten)}" if beaten else words


def never_predicted_in_words(contents: dict[str, Any]) -> list[str]:
    """Which classes of the truth the prediction has no pixel of; nothing where there are none."""
    missed = [row["name"] for row in contents["per_class"] if row["truth"] and not row["prediction"]]
    return [f"Never predicted, though the truth has them: {list_names(missed, _MOST_NAMES)}."] if missed else []


def percent(value: float | None) -> str:
    """Two digits, ``n/a`` for None."""
    return "n/a" if value is None else f"{value:.2f}"


def _members(policy: dict[str, Any]) -> str:
    members = policy.get("members") or []
    if not members:
        return ""
    named = ", ".join(f"{member['run']} (checkpoint {member['checkpoint']})" for member in members)
    return f"The mean of the class probabilities of {len(members)} runs: {named}."


def _temperature(policy: dict[str, Any]) -> str:
    members = policy.get("members") or []
    found = [float(said.get("temperature", 1.0)) for said in (members or [policy])]
    if all(temperature == 1.0 for temperature in found):
        return ""
    values = ", ".join(f"{temperature:.4g}" for temperature in found)
    return f"Probabilities at temperature{'s' if members else ''} {values} (calibration.json)."


def _weights(policy: dict[str, Any]) -> str:
    weights = policy.get("class_weights")
    return (
        f"Decided by weights of classes that were tuned for mean {weights['figure']} (eval.tuned)." if weights else ""
    )


def _patches(policy: dict[str, Any]) -> str:
    patches = policy.get("least_patches")
    if not patches:
        return ""
    return (
        f"Patches below least sizes found for mean {patches['figure']} became what lies around them "
        "(eval.least_patches)."
    )


def _resolution(policy: dict[str, Any]) -> str:
    resolution = policy.get("resolution")
    if resolution is None:
        return ""
    return "Every pixel at native size." if resolution == "native" else f"Resolution: {resolution}."


def _window(window: dict[str, Any]) -> list[str]:
    sentences = []
    if window.get("mode") == "whole":
        sentences.append("The whole image in one pass.")
    elif window.get("mode") == "slide":
        crop, stride = (_size(window.get(key)) for key in ("crop", "stride"))
        sentences.append(f"Sliding windows of {crop}, stride {stride}, {window.get('blend', 'uniform')} blend.")
    tta = window.get("tta")
    if tta:
        scales = ", ".join(f"{scale:g}" for scale in tta.get("scales", [1.0]))
        names = ("horizontal_flip", "right_angle_rotations", "backbone_once")
        extras = [name.replace("_", " ") for name in names if tta.get(name)]
        sentences.append(f"Test-time augmentation: scales {scales}{''.join(f', {extra}' for extra in extras)}.")
    elif window:
        sentences.append("No test-time augmentation.")
    return sentences


def _measures(policy: dict[str, Any]) -> list[str]:
    sentences = []
    if policy.get("beta", 1.0) != 1.0:
        sentences.append(f"F-score with beta {policy['beta']:g}.")
    if "boundary_width" in policy:
        sentences.append(f"Boundary IoU in bands of {100 * policy['boundary_width']:g} % of the image diagonal.")
    if policy.get("cldice"):
        sentences.append(f"clDice of {', '.join(policy['cldice'])}.")
    return sentences


def _ignored(policy: dict[str, Any], kind: Kind) -> str:
    ignored = policy.get("ignored_label_ids") or []
    if not ignored:
        return "No label id is ignored."
    shorthand = " (reduce_zero_label)" if policy.get("reduce_zero_label") else ""
    # Evaluations of earlier versions have colours as numbers.
    numbers = [label_number(label) for label in ignored]
    return f"Pixels of label id {show_labels(numbers, kind)} count nowhere{shorthand}."


def _size(value: Any) -> str:
    height, width = value if isinstance(value, list) and len(value) == 2 else (value, value)
    return f"{height} × {width} px"
