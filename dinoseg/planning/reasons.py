"""Reasons of rules in words, with the figures of a data set."""

from dinoseg.planning.fingerprint import ClassPrint, Fingerprint
from dinoseg.planning.rule import Facts


def width_in_words(entry: ClassPrint | None) -> str:
    """``vein: median width 4 px, a tenth below 1``."""
    if entry is None or entry.width is None:
        return "no width is known"
    return f"{entry.name}: median width {entry.width.median:.3g} px, a tenth below {entry.width.tenth:.3g}"


def no_cache_in_words(facts: Facts) -> str:
    """Why features are not computed once."""
    why = "the backbone is trained, or random"
    if facts.keeps_features:
        why = "there is no time, or no room, for a pass over all images"
    return f"features are computed in every step: {why}"


def scale_in_words(facts: Facts, wanted: float, thin: int) -> str:
    """Why the backbone sees images at a scale.

    Args:
        wanted: were there time for anything.
        thin: how many classes are thin.
    """
    scale = facts.way.scale
    said = f"{width_in_words(facts.data.thinnest)}; a patch is {facts.patch}"
    if thin:
        said += f", and {thin} of {len(facts.data.learned)} classes are thinner than half of one"
    if scale == wanted:
        return f"{said}: backbone_scale {scale:g}"
    return f"{said}, which wants {wanted:g}; {scale:g} is what there is time or room for"


def orientation_in_words(data: Fingerprint) -> str:
    """What is known of an up."""
    found = data.positions
    if not found.is_known:
        return f"{found.images} masks are too few to tell whether images have an up, so they are left upright"
    kind = "have an up" if found.has_up else "have no up"
    return (
        f"images {kind}: turned upside down, {100 * found.upside_down:.0f} % of a class lies elsewhere; between halves "
        f"of the data set it is {100 * found.chance:.0f} %"
    )


def window_in_words(facts: Facts) -> str:
    """How large the largest image is to the backbone."""
    height, width = facts.data.largest
    return f"the largest image, {width} x {height}, is {facts.megapixels:.2g} megapixels to the backbone"


def rare_in_words(data: Fingerprint) -> str:
    """How rare the rarest class is, and all but the most frequent one."""
    return (
        f"{data.rarest.name} is in {100 * data.rarest.images:.0f} % of the images, and all but "
        f"{data.most_frequent.name} is {100 * (1 - data.most_frequent.share):.3g} % of the pixels"
    )
