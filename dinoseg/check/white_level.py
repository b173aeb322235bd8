"""What is white in pictures with 16 bits, found over all splits; and what of pictures is not used."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinoseg.check.file_findings import Finding, Severity, SplitScan, file_finding
from dinoseg.data.pictures import LARGEST_WHITE, comes_out_dark, white_level_of
from dinoseg.system.messages import plural


@dataclass(frozen=True)
class WhiteLevel:
    """The white of a data set's pictures with 16 bits.

    Attributes:
        value: what becomes 255; None where there is no such picture and none was given.
        findings: what is to be said of it.
    """

    value: int | None
    findings: tuple[Finding, ...] = ()


def find_white_level(scans: Sequence[SplitScan], given: int | None) -> WhiteLevel:
    """The smallest 2^n - 1 that is no less than the brightest value of all splits, unless one is given."""
    brightest_of: dict[Path, int] = {}
    for fact in (fact for scan in scans for fact in scan.facts if fact.image.brightest is not None):
        # An image has several facts where it is read in tiles.
        brightest_of[fact.pair.image] = max(brightest_of.get(fact.pair.image, 0), fact.image.brightest or 0)
    if not brightest_of:
        return WhiteLevel(given)
    brightest = max(brightest_of.values())
    found = white_level_of(brightest)
    if given is not None:
        return WhiteLevel(given, tuple(_judge(brightest_of, given, found)))
    message = (
        f"{plural(len(brightest_of), 'image')} with 16 bits a channel, brightest value {brightest}: white is taken as "
        f"{found}, the largest value of {found.bit_length()} bits"
    )
    advice = f"set datasets.white_level if another value is white; a run keeps datasets.white_level={found}"
    # The brightest value of few or dark pictures may be short of white: somebody should look.
    severity: Severity = "note" if found == LARGEST_WHITE else "warning"
    return WhiteLevel(found, (Finding(severity, "white_level", message, advice, count=len(brightest_of)),))


def dropped_channel_findings(scans: Sequence[SplitScan]) -> list[Finding]:
    """Pictures with an alpha channel or further bands."""
    facts = [fact for scan in scans for fact in scan.facts if fact.image.drops_channels]
    files = list(dict.fromkeys(fact.pair.image for fact in facts))
    if not files:
        return []
    message = f"{plural(len(files), 'image')} with a channel beyond red, green and blue (or grey), which is not used"
    advice = "nothing to do where it is transparency; datasets.bands=[1,2,3,4] takes a further band (infrared), too"
    return [file_finding("note", "dropped_channel", message, advice, files)]


def _judge(brightest_of: dict[Path, int], given: int, found: int) -> list[Finding]:
    brightest = max(brightest_of.values())
    above = [path for path, value in brightest_of.items() if value > given]
    if above:
        message = (
            f"{plural(len(above), 'image')} with values above datasets.white_level={given} (brightest {brightest}): "
            "they are clamped"
        )
        return [file_finding("warning", "above_white_level", message, f"{found} would hold all of them", above)]
    if comes_out_dark(brightest, given):
        message = (
            f"{plural(len(brightest_of), 'image')} with 16 bits a channel, {brightest.bit_length()} of them used "
            f"(brightest value {brightest}): with datasets.white_level={given} they come out dark"
        )
        advice = f"leave datasets.white_level out, or set it to {found}, unless they are that dark"
        return [file_finding("warning", "dark_16_bit", message, advice, brightest_of)]
    return []
