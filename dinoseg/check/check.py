"""Is this data set fit for training? Lists, scans and judges every split before anything is loaded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console

from dinoseg.check.class_names import named_by_layout
from dinoseg.check.file_findings import Finding, SplitScan, file_findings, same_image_findings
from dinoseg.check.folding import Folding, fold_findings
from dinoseg.check.label_findings import (
    mask_kind_findings,
    palette_findings,
    presence_findings,
    undeclared_id_findings,
    unknown_label_findings,
    usable_masks,
)
from dinoseg.check.label_space import is_ade20k, label_space_of
from dinoseg.check.measured_form import MeasuredForm, measure_form
from dinoseg.check.misfit_findings import misfit_findings
from dinoseg.check.own_data import scan_own_data
from dinoseg.check.scan_splits import scan_splits
from dinoseg.check.slice_findings import slice_findings
from dinoseg.check.split_summary import SplitSummary, label_counts, label_rows, summarise
from dinoseg.check.splitting import MADE_SPLITS
from dinoseg.check.tile_findings import counted_pairs, tile_findings
from dinoseg.check.white_level import dropped_channel_findings, find_white_level
from dinoseg.check.wrapper_findings import wrapper_findings
from dinoseg.check.zero_decision import Decision, decide
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import data_root
from dinoseg.data.items import OwnDataset
from dinoseg.data.pairs import Pair, Split
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.selection import recorded_name
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind, LabelError, parse_classes, parse_ignore, show_label


@dataclass(frozen=True)
class CheckReport:
    """Everything a check found.

    ``label_space`` is None where the settings and masks do not give one; ``most_classes`` is the most classes that one
    training mask holds; ``pairs`` are those of every split that is there, less training tiles in which nothing counts.
    ``white_level`` is what the settings or the scan say is white in pictures with 16 bits, None where there are none.
    ``measured``: what it says of the values of bands, and of the range that becomes black to white.
    ``made_splits``: the images of every split by their path below the root, where the data has no splits of its own.
    ``folds``: what each fold of a cross-validation holds.
    """

    kind: Kind
    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]
    label_space: LabelSpace | None
    decision: Decision | None
    most_classes: int | None = None
    pairs: Mapping[Split, tuple[Pair, ...]] = field(default_factory=dict)
    white_level: int | None = None
    measured: MeasuredForm = field(default_factory=MeasuredForm)
    made_splits: Mapping[Split, tuple[str, ...]] | None = None
    folds: tuple[SplitSummary, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether training would be right: no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def class_pixels(self, split: Split) -> list[int]:
        """Pixels of every class index in the masks of a split (zeros for a split that is not there).

        Raises:
            ValueError: there is no label space.
        """
        if self.label_space is None:
            raise ValueError("the data set has no label space; see the findings of the check")
        pixels = [0] * self.label_space.num_classes
        for summary in self.splits:
            if summary.name == split:
                for row in label_rows(summary, self.label_space):
                    if row.class_index is not None:
                        pixels[row.class_index] += row.pixels
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """The report for ``--json``."""
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "splits": [self._split_to_dict(summary) for summary in self.splits],
            "folds": [self._split_to_dict(summary) | {"name": f"fold {i}"} for i, summary in enumerate(self.folds)],
            "label_space": self.label_space.to_dict() if self.label_space else None,
            "decision": self.decision.to_dict() if self.decision else None,
            "white_level": self.white_level,
            "bands": self.measured.table(),
            "settled": self.measured.settled,
            "made_splits": self.made_splits,
        }

    def _split_to_dict(self, summary: SplitSummary) -> dict[str, Any]:
        rows = label_rows(summary, self.label_space)
        return {
            "name": summary.name,
            "pairs": summary.pairs,
            "image_sizes": summary.image_sizes,
            "image_modes": summary.image_modes,
            "mask_modes": summary.mask_modes,
            "labels": [
                {
                    "label_id": show_label(row.label_id, self.kind) if self.kind == "colours" else row.label_id,
                    "class_index": row.class_index,
                    "name": row.name,
                    "pixels": row.pixels,
                    "pixel_share": row.share,
                    "masks": row.masks,
                }
                for row in rows
            ],
        }


def check_dataset(
    datasets: DatasetsConfig,
    num_classes: int | None = None,
    splits: Sequence[Split] = ("train", "val", "test"),
    console: Console | None = None,
    use_cache: bool = True,
) -> CheckReport:
    """Scans the splits and judges them; never raises for a bad data set, which becomes findings.

    Args:
        num_classes: ``decoder_head.num_classes``, checked when given.
        console: shows progress and pace when given.
        use_cache: remember the facts of every file in the user's cache folder.
    """
    findings: list[Finding] = []
    datasets = named_by_layout(datasets, findings)
    findings += wrapper_findings(datasets)
    kind, _ = _declared_kind(datasets)
    scanned = scan_splits(datasets, splits, kind, num_classes, console, use_cache)
    findings += scanned.findings
    report = _judge(scanned.scans, datasets, num_classes, findings, scanned.folding)
    if not any(finding.code == MADE_SPLITS for finding in findings):
        return report
    root = data_root(datasets)
    images = {name: dict.fromkeys(pair.image for pair in pairs) for name, pairs in report.pairs.items()}
    made = {name: tuple(recorded_name(image, root) for image in found) for name, found in images.items()}
    return replace(report, made_splits=made)


def check_own_data(
    data: Mapping[Split, OwnDataset],
    datasets: DatasetsConfig,
    num_classes: int | None = None,
    console: Console | None = None,
) -> CheckReport:
    """The same for a user's own data sets, by split; reads every item once.

    Raises:
        ValueError: an item is no image with a mask, or is another one each time it is asked for.
    """
    kind, _ = _declared_kind(datasets)
    form = PictureForm.before_measuring(datasets)
    return _judge(scan_own_data(data, kind, console, form), datasets, num_classes, [])


def _judge(
    scans: Sequence[SplitScan],
    datasets: DatasetsConfig,
    num_classes: int | None,
    findings: list[Finding],
    folding: Folding | None = None,
) -> CheckReport:
    """Adds to the findings all that the scans give."""
    kind, declared = _declared_kind(datasets)
    for scan in scans:
        findings += [*file_findings(scan), *misfit_findings(scan), *tile_findings(scan)]
        findings += slice_findings(scan, datasets.range is not None)
    findings += same_image_findings(scans)
    white = find_white_level(scans, datasets.white_level)
    measured = measure_form(scans, datasets, white.value)
    findings += [*white.findings, *dropped_channel_findings(scans), *measured.findings]
    findings += mask_kind_findings(scans, kind, declared, datasets.ignore)
    findings += palette_findings(scans) if kind == "ids" else []
    counts = label_counts(scans, kind)
    blurred = undeclared_id_findings(counts, datasets.ignore) if datasets.classes is None else []
    findings += blurred
    fit = not any(finding.severity == "error" for finding in blurred)
    space = _label_space(datasets, num_classes, counts, findings) if fit else None
    if space is not None:
        findings += unknown_label_findings(scans, space)
        findings += fold_findings(presence_findings(scans, space, is_ade20k(datasets)), folding, space)
    findings += _ade20k_zero(datasets, counts)
    order = ("error", "warning", "note")
    return CheckReport(
        kind,
        tuple(summarise(scan, kind) for scan in scans),
        tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        space,
        decide(
            counts,
            space,
            sum(len(usable_masks(scan, kind)) for scan in scans),
            _masks_with_zero(scans, kind),
            datasets.classes is None and not is_ade20k(datasets),
        ),
        _most_classes(scans, kind, space) if space else None,
        {scan.name: counted_pairs(scan, space) for scan in scans},
        white.value,
        measured,
        folds=tuple(summarise(fold, kind) for fold in folding.folds) if folding else (),
    )


def _most_classes(scans: Sequence[SplitScan], kind: Kind, space: LabelSpace) -> int:
    most = 0
    for fact in (fact for scan in scans if scan.name == "train" for fact in usable_masks(scan, kind)):
        indices = space.classify(np.array([label_id for label_id, _ in fact.mask.counts], dtype=np.int64))
        most = max(most, len(set(indices.tolist()) - {space.ignore_index, -1}))
    return most


def _declared_kind(datasets: DatasetsConfig) -> tuple[Kind, bool]:
    """What the masks are declared to store, and whether the config says so; bad settings are reported later."""
    try:
        if datasets.classes is not None:
            return parse_classes(datasets.classes)[0], True
        return parse_ignore(datasets.ignore)[0] or "ids", False
    except ValueError:
        return "ids", False


def _masks_with_zero(scans: Sequence[SplitScan], kind: Kind) -> int:
    return sum(any(label_id == 0 for label_id, _ in f.mask.counts) for scan in scans for f in usable_masks(scan, kind))


def _label_space(
    datasets: DatasetsConfig, num_classes: int | None, counts: Counter[int], findings: list[Finding]
) -> LabelSpace | None:
    try:
        return label_space_of(datasets, num_classes, counts)
    except ValueError as error:
        code = error.code if isinstance(error, LabelError) else "label_settings"
        findings.append(Finding("error", code, str(error)))
        return None


def _ade20k_zero(datasets: DatasetsConfig, counts: Counter[int]) -> list[Finding]:
    if not is_ade20k(datasets) or datasets.reduce_zero_label or datasets.classes is not None or not counts[0]:
        return []
    message = 'label id 0 of ADE20K means "not labelled", and here it is learned as a class'
    return [Finding("warning", "ade20k_zero", message, "set datasets.reduce_zero_label=true")]
