"""Evaluation of label maps that any tool wrote: the same counts, figures and files as for a run.

A pixel that the prediction marks as ignored while the truth does not has no predicted class: it is a pixel of its class
in the truth, so that IoU, recall and accuracy fall, and of no class in the prediction.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from dinoseg.check.facts import count_values
from dinoseg.check.label_findings import undeclared_id_findings
from dinoseg.check.label_space import build_label_space
from dinoseg.check.mask_scan import read_mask_facts
from dinoseg.check.slice_facts import mask_facts_of_slice
from dinoseg.config import DatasetsConfig
from dinoseg.config.loading import is_given, load_config
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.console.volume_table import volume_table
from dinoseg.data.georeference import misfits_of_pictures, refuse_misfits
from dinoseg.data.masks import LabelMap, read_mask, size_mismatch
from dinoseg.data.pairs import Pair, SplitListing, label_map_base, pair_label_maps
from dinoseg.data.regions import attach_regions, encode_inside, encode_within, read_region
from dinoseg.data.sampler import spread_subset
from dinoseg.data.slices import Slice, slice_volumes
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation, counted_policy, write_evaluation
from dinoseg.evaluation.measures import Measures, build_measures
from dinoseg.evaluation.volume_figures import volume_names
from dinoseg.inference.recorded_predictions import RecordedPredictions
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind, parse_classes, parse_ignore
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.messages import list_names
from dinoseg.verbs.figures_folder import refuse_figures_of_others, refuse_figures_of_run

# Keys that say what label ids mean, which pixels count, and what is measured.
USED_KEYS = (
    *("datasets.root", "datasets.train", "datasets.val", "datasets.regions", "datasets.slice_axis"),
    *("datasets.classes", "datasets.ignore", "datasets.reduce_zero_label", "eval.reduce_zero_label"),
    *("datasets.colour_tolerance", "decoder_head.num_classes"),
    *("eval.absent_classes", "eval.beta", "eval.boundary_iou", "eval.boundary_width", "eval.cldice"),
    *("eval.compute_metric_per_image", "eval.max_val_samples"),
)


def evaluate_label_maps(
    predictions: Path, masks: Path, settings: Iterable[str], out: Path | None, console: Console
) -> Evaluation:
    """Scores label maps against masks, prints the table and writes the files of an evaluation.

    Args:
        predictions: folder or glob of label maps in any format that masks may have, or what ``dinoseg predict`` wrote
            (its ``labels``).
        masks: folder or glob; both pair as images and masks do for training.
        settings: ``key=value`` and ``config=FILE``; ``datasets.classes``, ``datasets.ignore`` and
            ``datasets.reduce_zero_label`` make the label space, together with the label ids found in the masks.
        out: folder for metrics.json and the others; when None, ``eval`` in the folder of the predictions.

    Raises:
        ValueError: a file without its partner, of another size, with a label id outside the label space, or unreadable;
            settings that do not fit; a folder that holds a run's figures or files of others.
    """
    if out is None:
        out = label_map_base(predictions) / "eval"
        refuse_unwritable(out, "")
    else:
        refuse_figures_of_run(out)
    refuse_figures_of_others(out)
    settings = list(settings)
    config = load_config(settings)
    listing = _find(predictions, masks)
    listing = attach_regions(listing, config.datasets, None)
    refuse_misfits(misfits_of_pictures(listing.pairs), f"--predictions {predictions}")
    every = slice_volumes(listing, config.datasets).pairs
    if listing.pairing_rule:
        example = f"{every[0].image.name} with {every[0].mask.name if every[0].mask else ''}"
        rule = listing.pairing_rule.replace("of the images", "of the predictions")
        console.print(f"paired by names less {rule}: {example}", soft_wrap=True, markup=False)
    # As for a run, a subset has to be asked for by hand.
    most = config.eval.max_val_samples if is_given("eval.max_val_samples", settings) else None
    pairs = [every[row] for row in spread_subset(len(every), most)]
    space = _label_space(config.datasets, config.decoder_head.num_classes, every, console)
    measures = build_measures(config.eval, space)
    counts, unpredicted = count_label_maps(pairs, space, measures, console)
    policy = {"resolution": "native", "source": "label maps"} | counted_policy(space, pairs, len(every))
    names, volumes = tuple(pair.name for pair in pairs), volume_names(pairs)
    evaluation = Evaluation(counts, names, policy, space, measures, volumes)
    extra = {"predictions": str(predictions), "masks": str(masks), "overrides": settings, "unpredicted": unpredicted}
    contents = write_evaluation(evaluation, out, extra)
    console.print(evaluation_table(contents, f"label maps of {predictions}"))
    if "per_volume" in contents:
        console.print(volume_table(contents["per_volume"]))
    if any(unpredicted):
        console.print(
            f"{sum(unpredicted):,} pixels with a true class are ignored in the predictions: counted as missed",
            style="red",
        )
    console.print(f"written: {out}", soft_wrap=True, markup=False)
    return evaluation


def count_label_maps(
    pairs: Sequence[Pair], space: LabelSpace, measures: Measures, console: Console
) -> tuple[Counts, list[int]]:
    """The counts of label maps (``image`` of each pair) against masks, and the pixels without a prediction, by class.

    Raises:
        ValueError: sizes differ, or a label id is outside the label space; names the file.
    """
    # What is not predicted is one more class, predicted there and never true, which is cut off afterwards.
    classes = space.num_classes
    counts = Counts.empty(len(pairs), classes + 1, measures)
    with image_progress(console, len(pairs), "counting") as advance:
        for row, pair in enumerate(pairs):
            prediction, truth = _read_class_maps(pair, space)
            prediction = np.where(prediction == space.ignore_index, classes, prediction.astype(np.int64))
            maps = torch.from_numpy(prediction), torch.from_numpy(truth.astype(np.int64))
            counts.count(row, *maps, space.ignore_index, measures)
            advance()
    cut = {name: array[..., :classes] for name, array in counts.to_arrays().items()}
    matrix = cut.pop("matrix")[:classes]
    return Counts.from_arrays(cut | {"matrix": matrix}), counts.matrix[:classes, classes].tolist()


def _find(predictions: Path, masks: Path) -> SplitListing:
    """Every pair of the two, which leave no file over."""
    folder, recorded = predictions / "labels", RecordedPredictions.of(predictions)
    if not folder.is_dir() or recorded is None:
        _refuse_stopped(predictions)
        folder = predictions
    listing = pair_label_maps(folder, masks)
    if folder != predictions and recorded is not None:
        _refuse_failed(recorded, listing, predictions)
    sides = (
        ("predictions without a mask", listing.images_without_mask, label_map_base(folder)),
        ("masks without a prediction", listing.masks_without_image, label_map_base(masks)),
    )
    problems = [
        f"{noun} ({len(files)}): {list_names((str(file.relative_to(base)) for file in files), 12)}"
        for noun, files, base in sides
        if files
    ]
    if problems:
        raise ValueError(
            f"--predictions {predictions} and --masks {masks} do not fit: {'; '.join(problems)}; both must hold the "
            "same file stems, up to an affix that is the same for all, no more and no fewer: add or rename what is "
            "missing, or leave others out with a quoted glob such as --masks 'gt/**/*_labelIds.png'"
        )
    if not listing.pairs:
        raise ValueError(f"--predictions {predictions}: no label map there (PNG, TIFF, NPY, ...)")
    return listing


def _refuse_stopped(predictions: Path) -> None:
    """Raises ValueError for a folder that ``dinoseg predict`` began to write into and did not end."""
    if all((predictions / name).is_dir() for name in ("labels", "overlays")):
        raise ValueError(
            f"--predictions {predictions}: labels and overlays without predictions.json: a prediction that was "
            "stopped, whose label maps may be those of two runs; give the same `dinoseg predict` again, which goes "
            f"on, or --predictions {predictions / 'labels'} if they are known to be of one"
        )


def _refuse_failed(recorded: RecordedPredictions, listing: SplitListing, predictions: Path) -> None:
    """Raises ValueError where images have label maps that the last prediction failed to make: an earlier one's."""
    found = (*(pair.image for pair in listing.pairs), *listing.images_without_mask)
    stale = recorded.of_failed(found, predictions)
    if stale:
        raise ValueError(
            f"--predictions {predictions}: predictions.json says that these images failed, and label maps of an "
            f"earlier call are there: {list_names((str(file.relative_to(predictions)) for file in stale), 12)}; mend "
            "the images and predict them again, or remove those label maps"
        )


def _label_space(
    datasets: DatasetsConfig, num_classes: int | None, pairs: Sequence[Pair], console: Console
) -> LabelSpace:
    if datasets.classes is not None:
        kind, found = parse_classes(datasets.classes)[0], Counter[int]()
    else:
        kind = parse_ignore(datasets.ignore)[0] or "ids"
        found = _scan(pairs, kind, console)
        for finding in undeclared_id_findings(found):
            if finding.severity == "error":
                raise ValueError(f"{finding.message}; {finding.advice}")
    return build_label_space(datasets, num_classes, found, kind)


def _scan(pairs: Sequence[Pair], kind: Kind, console: Console) -> Counter[int]:
    """Pixels of every label id in the masks, within the regions."""
    pixels: Counter[int] = Counter()
    with image_progress(console, len(pairs), "scanning masks") as advance:
        for pair in pairs:
            pixels.update(_counts(pair, kind))
            advance()
    return pixels


def _counts(pair: Pair, kind: Kind) -> dict[int, int]:
    assert pair.mask is not None
    if pair.region is not None and not isinstance(pair, Slice):
        _, truth = _read_label_ids(pair, kind)
        return count_values(truth[read_region(pair.region, pair.image, (truth.shape[1], truth.shape[0]))])
    facts = mask_facts_of_slice(pair) if isinstance(pair, Slice) else read_mask_facts(pair.mask, kind)
    if facts.error or facts.stores != kind:
        read_mask(pair.mask, kind)  # raises, and says what is wrong
    return dict(facts.counts)


def _read_class_maps(pair: Pair, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Class indices of prediction and truth, (H, W) each."""
    assert pair.mask is not None
    if isinstance(pair, Slice):
        inside, true_ids = pair.within(), pair.label_ids(space.kind)
        true = encode_within(inside, true_ids, space, f"mask {pair.mask} ({pair.name})")
        predicted = pair.image_label_ids(space.kind)
        return encode_within(inside, predicted, space, f"prediction {pair.image} ({pair.name})"), true
    prediction, truth = _read_label_ids(pair, space.kind)
    # The mask first: what it does not name, the prediction is not to blame for.
    true = encode_inside(pair, truth, space, f"mask {pair.mask}")
    return encode_inside(pair, prediction, space, f"prediction {pair.image}"), true


def _read_label_ids(pair: Pair, kind: Kind) -> tuple[LabelMap, LabelMap]:
    """Label ids of prediction and truth, (H, W) each. Raises ValueError where their sizes differ."""
    assert pair.mask is not None
    truth, prediction = read_mask(pair.mask, kind), read_mask(pair.image, kind)
    if prediction.shape != truth.shape:
        sizes: list[Any] = [(shape[1], shape[0]) for shape in (prediction.shape, truth.shape)]
        raise ValueError(size_mismatch(pair.image, sizes[0], pair.mask, sizes[1]))
    return prediction, truth
