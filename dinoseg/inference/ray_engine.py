"""Prediction on a Ray cluster: actors that hold the model take images one by one (extra ``dinoseg[ray]``)."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.inference.chosen_runs import Chosen
from dinoseg.inference.files import InputImage
from dinoseg.inference.job import PredictionJob, as_asked
from dinoseg.inference.outcomes import Outcome
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.predictor import Predictor


@dataclass(frozen=True)
class RayJob:
    """What every actor needs. Run folder, images and outputs lie where all nodes see them under the same path."""

    run: Chosen
    outputs: OutputFolder


class PredictionActor:
    """One worker: loads the run once, then fills the output folder image by image."""

    def __init__(self, job: RayJob) -> None:
        self.job = PredictionJob(Predictor.load(as_asked(job.run.open(), job.outputs)), job.outputs)

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Rows of ``index``, ``path``, ``name``, ``mask`` and ``region`` to rows of outcomes.

        An empty ``mask``, ``region`` or ``error`` is none.
        """
        columns = (rows[key].tolist() for key in ("path", "name", "mask", "region"))
        outcomes = [
            self.job.do(InputImage(Path(path), name, Path(mask) if mask else None, Path(region) if region else None))
            for path, name, mask, region in zip(*columns, strict=True)
        ]
        return {
            "index": rows["index"].tolist(),
            "kept": [outcome.kept for outcome in outcomes],
            "error": [outcome.error or "" for outcome in outcomes],
            "suffix": [outcome.suffix for outcome in outcomes],
            "completed": [outcome.completed for outcome in outcomes],
        }


def predict_with_ray(
    job: RayJob, images: list[InputImage], workers: int | None, progress: Callable[[], None]
) -> list[Outcome]:
    """Predicts on the cluster that ``RAY_ADDRESS`` names, or on one started here for the length of the call.

    Returns:
        One outcome for each image, in order.

    Raises:
        ValueError: Ray is not installed or does not start, too few workers, or a worker failed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: give 1 or more")
    if any(image.row is not None for image in images):
        raise ValueError("--engine ray: rows of parquet files are predicted without Ray; leave --engine out")
    ray, errors = _import_ray()
    started_here = not ray.is_initialized()
    if started_here:
        _start(ray)
    try:
        return _map(ray, job, images, workers, progress)
    except errors.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ValueError(f"--engine ray: a worker failed: {cause}") from error
    finally:
        if started_here:
            ray.shutdown()


def _import_ray() -> tuple[Any, Any]:
    # Ray reports its use over the network unless told otherwise, before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise ValueError(
            f"--engine ray: {error.name or 'Ray'} is not installed; pip install 'dinoseg[ray]', or leave --engine out"
        ) from None
    return ray, ray.exceptions


def _start(ray: Any) -> None:
    try:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    except Exception as error:  # a plain Exception when the machine is too busy, ConnectionError for a bad address
        address = os.environ.get("RAY_ADDRESS")
        place = f"RAY_ADDRESS={address} cannot be joined" if address else "Ray cannot be started on this machine"
        raise ValueError(f"--engine ray: {place} ({error}); leave --engine out to predict without Ray") from error


def _map(
    ray: Any, job: RayJob, images: list[InputImage], workers: int | None, progress: Callable[[], None]
) -> list[Outcome]:
    gpus, cpus = int(ray.cluster_resources().get("GPU", 0)), int(ray.cluster_resources().get("CPU", 1))
    on_gpu = gpus > 0 and job.run.device in ("auto", "cuda") and "device=cpu" not in job.run.overrides
    count = min(workers or (gpus if on_gpu else max(1, cpus // 2)), len(images))
    rows = [
        {
            "index": index,
            "path": str(image.path.absolute()),
            "name": image.name,
            "mask": "" if image.mask is None else str(image.mask.absolute()),
            "region": "" if image.region is None else str(image.region.absolute()),
        }
        for index, image in enumerate(images)
    ]
    # The bar of ours counts images; that of Ray would draw over it.
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Small blocks, so that every actor has work and an interruption loses little.
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), 8 * count))
    predicted = dataset.map_batches(
        PredictionActor,
        fn_constructor_args=(_absolute(job),),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count),
        num_gpus=1 if on_gpu else None,
        num_cpus=None if on_gpu else max(1, cpus // count),
    )
    outcomes: dict[int, Outcome] = {}
    for row in predicted.iter_rows():
        index = int(row["index"])
        image = images[index]
        error = row["error"].replace(str(image.path.absolute()), str(image.path))
        outcomes[index] = Outcome(image, bool(row["kept"]), error or None, row["suffix"], bool(row["completed"]))
        progress()
    return [outcomes[index] for index in range(len(images))]


def _absolute(job: RayJob) -> RayJob:
    """The same job from any working folder."""
    outputs = job.outputs
    outputs = replace(
        outputs,
        path=outputs.path.absolute(),
        mask_ignored=outputs.mask_ignored and outputs.mask_ignored.absolute(),
        regions=outputs.regions and outputs.regions.absolute(),
    )
    return RayJob(job.run.absolute(), outputs)
