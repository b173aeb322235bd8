"""What is to be said of images that are read in tiles, and which tiles are trained on."""

from collections import defaultdict
from pathlib import Path

from dinoseg.check.file_findings import Finding, Severity, SplitScan, file_finding
from dinoseg.check.label_findings import class_counts
from dinoseg.data.items import is_part
from dinoseg.data.pairs import Pair
from dinoseg.data.tiles import Tile
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import plural


def tile_findings(scan: SplitScan) -> list[Finding]:
    """How many there are, how much of them holds data, and images of which nothing does."""
    facts = [fact for fact in scan.facts if isinstance(fact.pair, Tile) and not (fact.image.error or fact.mask.error)]
    if not facts:
        return []
    counted: dict[Path, int] = defaultdict(int)
    for fact in facts:
        counted[fact.pair.image] += sum(count for _, count in fact.mask.counts)
    pixels = sum(fact.mask.size[0] * fact.mask.size[1] for fact in facts)
    without = 100 * sum(fact.mask.outside for fact in facts) / pixels
    message = (
        f"{plural(len(counted), 'image')} of {scan.name} read in {plural(len(facts), 'tile')}, {without:.1f} % of the "
        "pixels outside a region or without data in image or mask"
    )
    advice = "these count nowhere; a tile is an image of its own and sees nothing beyond its border (datasets.tile)"
    findings = [Finding("note", "tiles", message, advice, count=len(facts))]
    nothing = [image for image, count in counted.items() if not count]
    if nothing:
        severity: Severity = "warning" if scan.name == "test" or len(nothing) < len(counted) else "error"
        message = f"{plural(len(nothing), 'image')} of {scan.name} with no pixel that holds data in image and mask"
        advice = "look at the nodata value of image and mask: one that is a label id makes that class count nowhere"
        findings.append(file_finding(severity, "nothing_but_nodata", message, advice, nothing))
    return findings


def counted_pairs(scan: SplitScan, space: LabelSpace | None) -> tuple[Pair, ...]:
    """The pairs of a split; of train without parts in which no pixel counts: a step would be spent on nothing."""
    if scan.name != "train" or space is None:
        return scan.listing.pairs
    nothing = {
        fact.pair
        for fact in scan.facts
        if is_part(fact.pair) and not fact.mask.error and not class_counts(fact, space).any()
    }
    return tuple(pair for pair in scan.listing.pairs if pair not in nothing)
