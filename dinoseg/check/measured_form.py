"""What the scan of all splits says of the values of pictures: their range, and mean and deviation of each band."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dinoseg.check.band_measures import BandProfile, profile
from dinoseg.check.facts import ImageFacts, PairFacts
from dinoseg.check.file_findings import Finding, SplitScan, file_finding
from dinoseg.config import Config, DatasetsConfig, get_key
from dinoseg.config.bands import Percentiles, Ranges, parse_range
from dinoseg.config.defaults import IMAGENET_MEAN, IMAGENET_STD
from dinoseg.data.pictures import LARGEST_WHITE
from dinoseg.system.messages import plural

_RGB = [1, 2, 3]
# Of black to white, what 98 % of the values must fill: below it they are 13 of 256 steps.
_LEAST_OF_RANGE = 0.05


@dataclass(frozen=True)
class MeasuredForm:
    """What a run is to keep, and what is to be said of it.

    Attributes:
        settled: config keys and their values.
        profiles: of each band that is read, in the order of ``numbers``; None for one without a pixel.
    """

    settled: dict[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    profiles: tuple[BandProfile | None, ...] = ()
    findings: tuple[Finding, ...] = ()

    def changes(self, config: Config) -> dict[str, Any]:
        """What a run's config is to say; mean and deviation only where they are not given."""
        settled = self.settled.items()
        return {key: value for key, value in settled if key == "datasets.range" or get_key(config, key) is None}

    def table(self) -> list[dict[str, int | float]]:
        """What was measured of each band, in the units of the file."""
        shown = zip(self.numbers, self.profiles, strict=True)
        return [
            {
                "band": number,
                "mean": found.mean,
                "std": found.std,
                "min": found.low,
                "p1": found.percentile(1.0),
                "p99": found.percentile(99.0),
                "max": found.high,
            }
            for number, found in shown
            if found is not None
        ]


def measure_form(scans: Sequence[SplitScan], datasets: DatasetsConfig, white_level: int | None) -> MeasuredForm:
    """Measures what the settings leave to the data.

    Args:
        white_level: what is white in 16 bits, as it was given or found.

    Raises:
        ValueError: ``datasets.range`` is none.
    """
    ranges = parse_range(datasets.range)
    facts = [fact for scan in scans for fact in scan.facts if not fact.image.error]
    if datasets.bands is None and ranges is None:
        return MeasuredForm(findings=tuple(_without_range(facts, None)))
    measured = [fact for fact in facts if fact.image.bands]
    findings = [*_no_data(facts), *(_band_counts(measured) if datasets.bands is not None else [])]
    if not measured:
        return MeasuredForm(findings=tuple(findings))
    widths = {len(fact.image.bands) for fact in measured}
    if len(widths) > 1:
        # Grey beside colours: one range for both is told from all of their values.
        parts = [[band for fact in measured for band in fact.image.bands]]
    else:
        parts = [[fact.image.bands[place] for fact in measured] for place in range(widths.pop())]
    profiles = tuple(profile(part) for part in parts)
    numbers = tuple(datasets.bands or range(1, len(profiles) + 1))
    if len(numbers) != len(profiles):
        return MeasuredForm(findings=tuple(findings))
    if ranges is None:
        findings += (missing := _without_range(measured, datasets.bands))
        if missing:
            return MeasuredForm(findings=tuple(findings), numbers=numbers, profiles=profiles)
    settled: dict[str, Any] = {}
    within = _ranges(ranges, datasets, profiles, measured, white_level)
    if ranges is not None:
        settled["datasets.range"] = _as_setting(ranges if isinstance(ranges, tuple) else within)
        findings += [_range_note(datasets, within, numbers), *_missed(within, numbers, profiles)]
    if datasets.bands is not None:
        settled |= _statistics(datasets.bands, within, profiles, measured)
        own = settled["transforms.mean"] is not IMAGENET_MEAN
        findings += _band_notes(datasets.bands, measured, profiles, "its own values" if own else "ImageNet's mean")
    return MeasuredForm(settled, numbers, profiles, tuple(findings))


def _ranges(
    ranges: Ranges | Percentiles | None,
    datasets: DatasetsConfig,
    profiles: Sequence[BandProfile | None],
    measured: Sequence[PairFacts],
    white_level: int | None,
) -> Ranges:
    """Low and high of every band; one pair where no bands are named."""
    if isinstance(ranges, Percentiles):
        if datasets.bands is None:
            pooled = profile([band for fact in measured for band in fact.image.bands])
            return (_between(pooled, ranges),)
        return tuple(_between(found, ranges) for found in profiles)
    if ranges is not None:
        return ranges if datasets.bands is None or len(ranges) == len(profiles) else ranges * len(profiles)
    sixteen = any(fact.image.dtype == "uint16" for fact in measured)
    return ((0.0, float(white_level or LARGEST_WHITE) if sixteen else 255.0),) * len(profiles)


def _between(found: BandProfile | None, ranges: Percentiles) -> tuple[float, float]:
    if found is None:
        return 0.0, 1.0
    low, high = found.percentile(ranges.low), found.percentile(ranges.high)
    # One value alone has no range; it becomes 0.
    return (low, high) if low < high else (low, low + 1.0)


def _as_setting(ranges: Ranges) -> list[Any]:
    pairs = [list(pair) for pair in ranges]
    return pairs[0] if len(pairs) == 1 else pairs


def _statistics(
    bands: list[int], ranges: Ranges, profiles: Sequence[BandProfile | None], measured: Sequence[PairFacts]
) -> dict[str, Any]:
    if bands == _RGB and all(fact.image.dtype == "uint8" for fact in measured):
        return {"transforms.mean": IMAGENET_MEAN, "transforms.std": IMAGENET_STD}
    moments = [
        (0.0, 1.0) if found is None else found.moments_within(*pair)
        for found, pair in zip(profiles, ranges, strict=True)
    ]
    # A band of one value has no deviation, and stays 0 in the model.
    return {
        "transforms.mean": [min(1.0, max(0.0, mean)) for mean, _ in moments],
        "transforms.std": [std if std > 0 else 1.0 for _, std in moments],
    }


def _without_range(facts: Sequence[PairFacts], bands: list[int] | None) -> list[Finding]:
    """Pictures whose values have no white of their own."""
    found = [fact for fact in facts if fact.image.dtype not in ("", "uint8", "uint16")]
    if not found:
        return []
    extremes = [fact.image.extremes for fact in found if fact.image.extremes is not None]
    low = min((pair[0] for pair in extremes), default=0.0)
    high = max((pair[1] for pair in extremes), default=1.0)
    kinds = ", ".join(dict.fromkeys(fact.image.dtype for fact in found))
    message = (
        f"{plural(len(found), 'image')} with values of type {kinds} ({low:g} to {high:g}), and nothing says what is "
        "black and what is white"
    )
    several = max(fact.image.count for fact in found) > 1
    given = f"{low:g},{high:g}" if low < high else "low,high"
    advice = f"set datasets.range=p1-p99 for percentiles of the data set, or datasets.range={given} for all values"
    advice += f"; and datasets.bands={_all_bands(found[0].image)} for more than grey" if several and not bands else ""
    return [file_finding("error", "no_range", message, advice, dict.fromkeys(fact.pair.image for fact in found))]


def _all_bands(image: ImageFacts) -> str:
    return _typed(range(1, image.count + 1))


def _typed(bands: Iterable[int]) -> str:
    """Bands as one types them: without blanks, at which a shell would part them."""
    return f"[{','.join(map(str, bands))}]"


def _no_data(facts: Sequence[PairFacts]) -> list[Finding]:
    without = [fact for fact in facts if fact.image.no_data]
    if not without:
        return []
    pixels = sum(fact.image.size[0] * fact.image.size[1] for fact in without)
    share = 100 * sum(fact.image.no_data for fact in without) / pixels
    message = (
        f"{plural(len(without), 'image')} with pixels without data (NaN, infinite or nodata), {share:.1f} % of them"
    )
    advice = "these are black to the model, are not measured, and count nowhere"
    return [file_finding("note", "no_data", message, advice, dict.fromkeys(fact.pair.image for fact in without))]


def _band_counts(measured: Sequence[PairFacts]) -> list[Finding]:
    first = {fact.image.count: fact.pair.image for fact in reversed(measured)}
    if len(first) < 2:
        return []
    (count, path), (other, second) = list(first.items())[:2]
    message = f"files with different numbers of bands: {path} holds {count}, {second} holds {other}"
    advice = "band 4 of one may be another of the other: give all files the same bands in the same order"
    return [file_finding("error", "band_counts", message, advice, first.values())]


def _range_note(datasets: DatasetsConfig, ranges: Ranges, numbers: Sequence[int]) -> Finding:
    shown = [f"{low:g} to {high:g}" for low, high in ranges[:4]]
    listed = (
        shown[0]
        if len(ranges) == 1
        else ", ".join(f"band {number}: {words}" for number, words in zip(numbers, shown, strict=False))
    )
    more = f" and {len(ranges) - len(shown)} more" if len(ranges) > len(shown) else ""
    message = f"values from low to high of datasets.range={datasets.range} become black to white: {listed}{more}"
    return Finding("note", "range", message, "what lies beyond is cut; a run keeps these values")


def _missed(ranges: Ranges, numbers: Sequence[int], profiles: Sequence[BandProfile | None]) -> list[Finding]:
    """Bands that a range makes nearly all black, all white, or one grey."""
    findings = []
    pairs = ranges * len(profiles) if len(ranges) == 1 else ranges
    for number, (low, high), found in zip(numbers, pairs, profiles, strict=True):
        if found is None or found.low == found.high:
            continue
        first, last = found.percentile(1.0), found.percentile(99.0)
        kept = (min(last, high) - max(first, low)) / (high - low)
        if kept >= _LEAST_OF_RANGE:
            continue
        all_of = "black" if last <= low else "white" if first >= high else "one grey"
        message = (
            f"band {number}: 98 % of its values are {first:.5g} to {last:.5g}, and black to white are {low:.5g} to "
            f"{high:.5g}: nearly all of it is {all_of}"
        )
        advice = "give values in the units of the files, or datasets.range=p1-p99"
        findings.append(Finding("warning", "range_missed", message, advice))
    return findings


def _band_notes(
    bands: list[int], measured: Sequence[PairFacts], profiles: Sequence[BandProfile | None], by: str
) -> list[Finding]:
    count = measured[0].image.count
    colours = "" if len(bands) == 3 else "; training changes brightness and contrast, and no saturation and hue"
    message = f"{len(bands)} of {count} bands are read (datasets.bands={_typed(bands)}), each normalised by {by}"
    findings = [Finding("note", "bands", message, f"a run keeps what was measured{colours}")]
    flat = [band for band, found in zip(bands, profiles, strict=True) if found is not None and found.low == found.high]
    if flat:
        message = f"band {', '.join(map(str, flat))} holds one value in all pictures: nothing can be learned from it"
        findings.append(Finding("warning", "flat_band", message, "leave it out of datasets.bands"))
    return findings
