"""Every split as listed and as read: those that the data has, those that are made, and those of a fold."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from dinoseg.check.file_findings import Finding, SplitScan
from dinoseg.check.folding import Folding, fold_scans
from dinoseg.check.label_space import space_of_facts
from dinoseg.check.misfit_findings import misfit_findings
from dinoseg.check.scan import scan_pairs
from dinoseg.check.scan_cache import ScanCache, default_cache_path
from dinoseg.check.splitting import cut, list_data
from dinoseg.config import DatasetsConfig
from dinoseg.data.pairs import SPLITS, Split
from dinoseg.data.picture_form import PictureForm
from dinoseg.labels.settings import Kind


@dataclass
class ScannedData:
    """What was found.

    Attributes:
        scans: of the splits, train first.
        findings: what is missing or wrong, or was made.
        folding: how the images were dealt into folds, where they were.
    """

    scans: list[SplitScan] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    folding: Folding | None = None


def scan_splits(
    datasets: DatasetsConfig,
    splits: Sequence[Split],
    kind: Kind,
    num_classes: int | None,
    console: Console | None,
    use_cache: bool,
) -> ScannedData:
    """Lists the splits and reads every file; never raises for a bad data set, which becomes findings."""
    data = list_data(datasets.model_copy(update={"folds": None, "fold": None}), splits)
    found = ScannedData(findings=list(data.findings))
    cache = ScanCache(default_cache_path(datasets.root) if use_cache else None)
    pairs, form = [pair for listing in data.listings for pair in listing.pairs], PictureForm.before_measuring(datasets)
    facts = scan_pairs(pairs, kind, cache, console, form)
    space = space_of_facts(facts, kind, datasets, num_classes)
    for name, listing in data.splits.items():
        count = len(listing.pairs)
        found.scans.append(SplitScan(name, listing, tuple(facts[:count])))
        facts = facts[count:]
    try:
        if data.to_cut is not None:
            made, finding = cut(data, facts, space, datasets)
            found.scans += [scan for scan in made if scan.name in splits]
            found.findings.append(finding)
        if datasets.folds is not None and any(scan.name == "train" for scan in found.scans):
            cut_shares = data.shares if data.to_cut is not None else {}
            found.scans, found.folding, folded = fold_scans(found.scans, space, datasets, cut_shares)
            # It says what was cut, too.
            found.findings = [*data.findings, folded]
    except ValueError as error:
        found.findings.append(Finding("error", "bad_layout", str(error)))
        if data.to_cut is not None:
            found.findings += misfit_findings(SplitScan("train", data.to_cut, ()))
    found.scans.sort(key=lambda scan: SPLITS.index(scan.name))
    return found
