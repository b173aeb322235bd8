"""Prediction of files by a run, or by several as one: what ``dinoseg predict`` does, in one process or many."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.data.georeference import misfits_of_pictures, refuse_misfits
from dinoseg.data.pairs import Pair
from dinoseg.inference.chosen_runs import Chosen, Opened, describing_keys
from dinoseg.inference.files import InputImage, list_inputs, with_masks, with_regions
from dinoseg.inference.job import PredictionJob, as_asked
from dinoseg.inference.map_polygons import refuse_unplaced
from dinoseg.inference.maps import is_map
from dinoseg.inference.outcomes import Outcome, PredictionSummary, summarise
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.pipeline import predict_all
from dinoseg.inference.predictor import Predictor
from dinoseg.inference.ray_engine import RayJob, predict_with_ray
from dinoseg.run_folder.ensemble_folder import is_ensemble, is_rest_of_run, is_run
from dinoseg.run_folder.lock import locked_predictions
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.processes import (
    failing_together,
    from_first_process,
    gather_shares,
    joined_processes,
    own_share,
    process_count,
    process_rank,
)
from dinoseg.system.terminal import terminal
from dinoseg.zoo.address import is_address

ENGINES = ("local", "ray")


def runs_and_images(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of the arguments are run folders, and what else there is, in order.

    Every folder that holds a run (config.yaml and labels.json) or an ensemble (ensemble.json) is one, wherever it
    stands, and so is the address of a published head. What is left of a run counts as one, too: whoever opens it says
    what is missing. Where there is none, the first that is no ``key=value`` was meant.
    """
    runs = [entry for entry in arguments if _names_run(entry)]
    runs = runs or [entry for entry in arguments if not is_setting(entry)][:1]
    if not runs:
        raise ValueError("no run is given; give one or more run folders, and then images")
    return runs, [entry for entry in arguments if entry not in runs]


def _names_run(entry: str) -> bool:
    # Not Path.is_dir, which raises for what is too long to be a name, such as a mapping of many classes.
    path = Path(entry)
    return is_address(entry) or (os.path.isdir(entry) and (is_run(path) or is_ensemble(path) or is_rest_of_run(path)))


def predict_run(
    run: Chosen,
    inputs: Iterable[str],
    outputs: OutputFolder,
    console: Console,
    *,
    engine: str = "local",
    workers: int | None = None,
) -> PredictionSummary:
    """Predicts images with a run folder, or the mean of several, says how many, and why others failed.

    Args:
        inputs: files, folders and globs; among them ``key=value`` changes of the run's config.
        engine: ``local``: this process, or those of a launch; ``ray``: actors on a Ray cluster.
        workers: actors of the engine ``ray``; one a GPU, or one for two CPU cores, when left out.

    Raises:
        ValueError: inputs that match nothing, not a run folder, a damaged checkpoint, an unknown engine.
        OSError: an output cannot be written.
    """
    _refuse_engine(engine, workers)
    for place in outputs.folders:
        refuse_unwritable(place, "--out")
    entries = list(inputs)
    overrides = [entry for entry in entries if is_setting(entry)]
    run = run.with_overrides(overrides)
    with joined_processes():
        images = _marked_inputs([entry for entry in entries if entry not in overrides], outputs)
        _refuse_unplaced_images(images, outputs)
        opened = as_asked(run.open(), outputs)
        _refuse_unfit(opened, images, outputs)
        # The list of one process is that of all: the folder may change while they start.
        images = from_first_process(images)
        with ExitStack() as held:
            with failing_together():
                if process_rank() == 0:
                    held.enter_context(locked_predictions(outputs.path))
            if engine == "ray":
                summary = _by_ray(RayJob(run, outputs), opened, images, workers, console)
            else:
                summary = predict_files(PredictionJob(Predictor.load(opened), outputs), images, console)
        if process_rank() == 0:
            note_unused_keys(overrides, "predict", describing_keys(run))
            _report(summary, outputs.path, console)
    return summary


def _marked_inputs(entries: list[str], outputs: OutputFolder) -> list[InputImage]:
    """The images, with the true masks and the regions that are to be minded."""
    images = list_inputs(entries, outputs.path)
    if outputs.mask_ignored is not None:
        images = with_masks(images, outputs.mask_ignored)
    if outputs.regions is not None:
        images = with_regions(images, outputs.regions)
    marked = [Pair(image.name, image.path, image.mask, region=image.region) for image in images]
    refuse_misfits(misfits_of_pictures(marked), "--regions or --mask-ignored")
    return images


def _refuse_unplaced_images(images: Sequence[InputImage], outputs: OutputFolder) -> None:
    """Raises ValueError for options of maps that do not fit the images, whatever the run: before it is opened."""
    if not outputs.of_maps:
        return
    if outputs.of_pictures:
        raise ValueError(
            f"{outputs.of_maps} is of maps, --regions and --mask-ignored are of whole pictures; leave one out"
        )
    refuse_unplaced((image.path for image in images), outputs.vector, outputs.of_maps)


def _refuse_unfit(opened: Opened, images: Sequence[InputImage], outputs: OutputFolder) -> None:
    """Raises ValueError for options that do not fit the run or the images: before the model is loaded."""
    if outputs.of_maps:
        _refuse_as_pictures(opened, outputs.of_maps)
    if outputs.probabilities.top is not None:
        outputs.probabilities.check(opened.label_space)
    _refuse_patches_of_maps(opened, images, outputs)


def _refuse_engine(engine: str, workers: int | None) -> None:
    """Raises ValueError for an unknown engine, or workers that it has none of."""
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine}: choose {' or '.join(ENGINES)}")
    if workers is not None and engine != "ray":
        raise ValueError(f"--workers {workers}: are of --engine ray; give that, too, or start several with torchrun")


def _refuse_as_pictures(opened: Opened, options: str) -> None:
    """Raises ValueError for options of maps where this run predicts maps as pictures."""
    for member in opened.members:
        size = member.config.transforms.eval.img_size
        if size is not None:
            raise ValueError(
                f"{options}: with transforms.eval.img_size={size} of {member.source.words} maps are predicted as whole "
                f"pictures; add transforms.eval.img_size=null, or leave {options} out"
            )
    if opened.label_space.kind == "colours":
        raise ValueError(
            f"{options}: this run has colours in place of label ids, and predicts maps as pictures; leave {options} "
            "out, or train on label ids"
        )


def predict_files(job: PredictionJob, images: list[InputImage], console: Console) -> PredictionSummary:
    """Writes ``labels/<name>.png``, ``overlays/<name>.png`` and ``predictions.json``; several processes share the work.

    An image that cannot be read is recorded and the others go on.

    Raises:
        OSError: an output cannot be written.
    """
    with failing_together():
        if process_rank() == 0:
            job.outputs.begin()
    share = own_share(images)
    title = "predicting" if process_count() == 1 else f"predicting, process 1 of {process_count()}"
    shown = console if process_rank() == 0 else Console(quiet=True)
    outcomes: dict[Path, Outcome] = {}
    parts = {image.path: found for image in share if (found := job.parts_of(image)) is not None}
    pictures = [image for image in share if image.path not in parts]
    units = list(dict.fromkeys([*(["images"] if pictures or not parts else []), *(p.noun for p in parts.values())]))
    count = len(pictures) + sum(found.count for found in parts.values())
    with image_progress(shown, count, title, " and ".join(units)) as advance:
        outcomes |= {outcome.image.path: outcome for outcome in predict_all(job, pictures, advance)}
        for image in share:
            if image.path in parts:
                outcomes[image.path] = _do_parts(job, image, parts[image.path].count, advance)
    # In the order given, whatever was predicted first.
    summary = summarise(gather_shares([outcomes[image.path] for image in share]))
    if process_rank() == 0:
        members = job.predictor.ensemble.members
        origins = [member.origin for member in members if member.origin]
        decisions = [member.decision for member in members]
        job.outputs.record(summary, job.predictor.label_space, origins, decisions)
    return summary


def _do_parts(job: PredictionJob, image: InputImage, parts: int, advance: Callable[[], None]) -> Outcome:
    """The outcome of a map or a volume; advances by all its parts, whether they were predicted or not."""
    left = parts

    def count() -> None:
        nonlocal left
        left -= 1
        advance()

    outcome = job.do_parts(image, count)
    for _ in range(left):
        advance()
    return outcome


def _refuse_patches_of_maps(opened: Opened, images: Sequence[InputImage], outputs: OutputFolder) -> None:
    """Raises ValueError where patches of maps were to have least sizes, and these are not predicted as pictures."""
    resized = any(member.config.transforms.eval.img_size is not None for member in opened.members)
    as_pictures = outputs.of_pictures or resized or opened.label_space.kind == "colours"
    if as_pictures or not opened.config.eval.least_patches:
        return
    for image in images:
        if image.row is None and is_map(image.path):
            raise ValueError(
                f"{image.path}: eval.least_patches=true is of whole images, and a map is predicted in blocks, whose "
                "borders cut patches; leave it out"
            )


def _by_ray(
    job: RayJob, opened: Opened, images: list[InputImage], workers: int | None, console: Console
) -> PredictionSummary:
    if process_count() > 1:
        raise ValueError("--engine ray starts its own workers; run it without torchrun or accelerate launch")
    job.outputs.begin()
    with image_progress(console, len(images), "predicting with Ray") as advance:
        summary = summarise(predict_with_ray(job, images, workers, advance))
    members = opened.members
    origins, decisions = [member.origin for member in members], [member.decision for member in members]
    job.outputs.record(summary, opened.label_space, origins, decisions)
    return summary


def _report(summary: PredictionSummary, out: Path, console: Console) -> None:
    completed = len(summary.completed)
    kept = len(summary.kept) - completed
    parts = [f"{len(summary.written) - len(summary.kept)} predicted"]
    parts += [f"{completed} completed"] if completed else []
    parts += [f"{kept} already there (--overwrite predicts them anew)"] if kept else []
    parts += [f"{len(summary.failed)} failed"]
    console.print(f"{', '.join(parts)}; see {out}", soft_wrap=True, markup=False)
    for message in summary.failed.values():
        terminal(stderr=True).print(f"error: {message}", style="red", markup=False, soft_wrap=True)
