"""What is to be said of volumes that are read slice by slice."""

from collections import Counter

from dinoseg.check.file_findings import Finding, SplitScan
from dinoseg.data.found_files import suffix_of
from dinoseg.data.slices import Slice, volumes_of
from dinoseg.system.messages import plural


def slice_findings(scan: SplitScan, has_range: bool) -> list[Finding]:
    """How many there are, across which axis they are cut and why; and what training from packed ones takes.

    Args:
        has_range: whether ``datasets.range`` says what is black and white.
    """
    volumes = volumes_of(fact.pair for fact in scan.facts)
    if not volumes:
        return []
    first_slices = [slices[0] for slices in volumes.values()]
    count = sum(map(len, volumes.values()))
    outside = sum(fact.mask.outside for fact in scan.facts if isinstance(fact.pair, Slice))
    pixels = sum(len(slices) * slices[0].size[0] * slices[0].size[1] for slices in volumes.values())
    cut = "; ".join(f"{_axis_in_words(axis, kept)}" for axis, kept in _by_axis(first_slices).items())
    without = f", {100 * outside / pixels:.1f} % of the pixels {_outside_in_words(scan)}" if outside else ""
    message = f"{plural(len(volumes), 'volume')} of {scan.name} read in {plural(count, 'slice')} {cut}{without}"
    advice = "a slice is an image of its own (datasets.slice_axis=0, 1 or 2 cuts across another axis)"
    if not has_range:
        advice += (
            "; black and white are the 0.5th and 99.5th percentile of each volume, unless datasets.range gives values, "
            "such as -160,240 of a CT"
        )
    findings = [Finding("note", "volumes", message, advice, count=len(volumes))]
    if len(_by_axis(first_slices)) > 1:
        findings.append(
            Finding(
                "warning",
                "several_slice_axes",
                f"volumes of {scan.name} are cut across different axes of their arrays: {cut}",
                "that is right where files store the same direction as different axes; else set datasets.slice_axis",
            )
        )
    return [*findings, *_packed(scan, first_slices)]


def _outside_in_words(scan: SplitScan) -> str:
    slices = [fact for fact in scan.facts if isinstance(fact.pair, Slice)]
    regions = any(fact.pair.region is not None for fact in slices)
    missing = any(fact.image.no_data for fact in slices)
    return " or ".join([*(["outside a region"] if regions else []), *(["without data"] if missing else [])])


def _by_axis(slices: list[Slice]) -> dict[int, list[Slice]]:
    found: dict[int, list[Slice]] = {}
    for part in slices:
        found.setdefault(part.view.axis, []).append(part)
    return dict(sorted(found.items()))


def _axis_in_words(axis: int, slices: list[Slice]) -> str:
    steps = sorted(part.headers[part.image].spacing[axis] for part in slices)
    apart = f"{steps[0]:.4g}" if steps[0] == steps[-1] else f"{steps[0]:.4g} to {steps[-1]:.4g}"
    return f"across axis {axis} ({plural(len(slices), 'volume')}, {apart} apart)"


def _packed(scan: SplitScan, slices: list[Slice]) -> list[Finding]:
    """Training asks for slices in random order: those of packed volumes that no memory keeps are unpacked each time."""
    headers = (header for part in slices for header in part.headers.values())
    sizes = Counter({header.path: header.stored_bytes for header in headers if suffix_of(header.path) == ".nii.gz"})
    if scan.name != "train" or not slices or sizes.total() <= slices[0].shelf.most_bytes:
        return []
    message = (
        f"packed volumes of train hold {sizes.total() / 1e9:.1f} GB, more than the "
        f"{slices[0].shelf.most_bytes / 1e9:.1f} GB that a process keeps of them: training unpacks a whole volume for "
        "many a slice"
    )
    advice = "unpack them once (gunzip *.nii.gz): of a plain .nii a slice alone is read"
    return [Finding("warning", "packed_volumes", message, advice, count=len(sizes))]
