"""What is to be said of masks and regions whose georeference or size is not that of their image."""

from collections import defaultdict

from dinoseg.check.file_findings import Finding, SplitScan, file_finding
from dinoseg.data.pairs import Misfit
from dinoseg.system.messages import plural


def misfit_findings(split: SplitScan) -> list[Finding]:
    """Masks and regions that do not lie on the pixels of their images, as the headers of both say."""
    by_code: dict[str, list[Misfit]] = defaultdict(list)
    for misfit in split.listing.misfits:
        by_code[misfit.code].append(misfit)
    return [
        file_finding(
            "error",
            code,
            f"{plural(len(found), 'file')} of {split.name} not on the pixels of the image: {found[0].message}",
            found[0].advice,
            [misfit.file for misfit in found],
        )
        for code, found in by_code.items()
    ]
