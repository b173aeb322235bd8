"""The plan that is printed before the first step."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Group
from rich.text import Text

from dinoseg.backbone import FeatureMap
from dinoseg.check.check import CheckReport
from dinoseg.config import Config
from dinoseg.config.defaults import trains_bands
from dinoseg.config.training_options import SchedulerConfig
from dinoseg.console.label_table import class_table
from dinoseg.data.tiles import count_in_words
from dinoseg.data.transforms import as_size
from dinoseg.system.messages import duration_in_words
from dinoseg.system.processes import process_count
from dinoseg.training.feature_cache import fits_evaluation
from dinoseg.training.loop import Trainer
from dinoseg.training.pace import Estimate, evaluations_left
from dinoseg.training.trainable import trained_parts, trained_table

_LONG_SECONDS = 6 * 3600


def describe_plan(trainer: Trainer, report: CheckReport, estimate: Estimate) -> Group:
    """Label table, what is trained, images, steps, evaluations and the time they take, as ``estimate_time`` says."""
    config, segmenter = trainer.config, trainer.segmenter
    total = sum(parameter.numel() for parameter in segmenter.parameters())
    trainable = sum(parameter.numel() for parameter in segmenter.parameters() if parameter.requires_grad)
    steps, interval = config.scheduler.total_iter, config.eval.eval_interval
    images_a_step = config.bs * config.train.accumulation_steps * trainer.accelerator.num_processes
    epochs = steps * images_a_step / len(trainer.train_data)
    lines = [
        f"backbone     {config.model.dino_hub} ({config.model.mode}), head {config.decoder_head.type}",
        f"weights      {segmenter.backbone.weights_report or 'random initialisation'}",
        f"parameters   {trainable:,} trained of {total:,}",
        f"images       {count_in_words(trainer.train_data.pairs)} train, {count_in_words(trainer.val_data.pairs)} val",
        f"steps        {steps} of {images_a_step} images ({epochs:.1f} epochs), "
        f"evaluation every {interval} ({evaluations_left(0, None, steps, interval)} in all)",
        f"features     {trainer.features_in_words}",
        f"device       {trainer.accelerator.device}, {config.model_dtype.lower()}",
        f"time         about {duration_in_words(estimate.seconds)}, measured again after the first steps",
        *_too_long(config, estimate, trainer.progress.step > 0),
        f"run folder   {trainer.run_folder.path}",
        *_bands_in_words(config),
        *_without_effect(config),
    ]
    trained = trained_table(trained_parts(segmenter, trainer.optimizer, trainer.base_rates))
    return Group(class_table(trainer.label_space, report.class_pixels("train")), trained, Text("\n".join(lines)))


def _too_long(config: Config, estimate: Estimate, goes_on: bool) -> list[str]:
    """Advice to who has taken the default, which is of trainings on GPUs; a run that goes on keeps its length."""
    usual = config.scheduler.total_iter == SchedulerConfig().total_iter
    if goes_on or not usual or estimate.seconds < _LONG_SECONDS:
        return []
    advice = ["scheduler.total_iter=2000 is fewer steps"]
    if process_count() == 1 and config.datasets.folds is None:
        advice.insert(0, "minutes=20 plans a training that is done by then")
    return [f"             {'; '.join(advice)}"]


def _bands_in_words(config: Config) -> list[str]:
    if config.datasets.bands is None:
        return []
    made = f"made by model.band_weights={config.model.band_weights}" if config.model.band_weights else "as it was"
    trained = "trained with the head" if trains_bands(config) else "not trained"
    return [f"bands        {config.datasets.bands}; patch embedding {made}, {trained}"]


def _without_effect(config: Config) -> list[str]:
    given = {
        "model.gradient_checkpointing": config.model.gradient_checkpointing,
        "optimizer.layer_decay": config.optimizer.layer_decay not in (None, 1.0),
    }
    keys = [key for key, value in given.items() if value]
    if not keys or config.model.mode != "freeze" or trains_bands(config):
        return []
    return [f"note         no effect on a frozen backbone (model.mode=freeze): {', '.join(keys)}"]


def estimate_time(trainer: Trainer) -> Estimate:
    """Time of the steps and evaluations that remain: a training batch of blank images is timed.

    An evaluation is taken to need the forward pass of every pixel that the windows of its images hold, with the first
    image's size for all. Weights and statistics stay as they are. To be called in every process: the loss adds up
    counts over all of them.
    """
    config, progress = trainer.config, trainer.progress
    steps = config.scheduler.total_iter - progress.step
    buffers = [(buffer, buffer.clone()) for buffer in trainer.segmenter.buffers()]
    # The first pass also pays for allocations.
    forward, whole = (min(seconds) for seconds in zip(*(_probe(trainer, steps > 0) for _ in range(2)), strict=True))
    for buffer, before in buffers:
        buffer.copy_(before)
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.features is not None and not fits_evaluation(config):
        forward += _backbone_seconds(trainer)
    scored = trainer.evaluation_settings.window.scored_pixels(trainer.val_data.stored_size(0))
    images = min(len(trainer.val_data), config.eval.max_val_samples or len(trainer.val_data))
    height, width = _crop(config)
    evaluation = forward * scored / (config.bs * height * width) * images / trainer.accelerator.num_processes
    left = evaluations_left(
        progress.step, progress.evaluated_step, config.scheduler.total_iter, config.eval.eval_interval
    )
    return Estimate(whole * config.train.accumulation_steps, evaluation, steps, left)


def _probe(trainer: Trainer, training: bool) -> tuple[float, float]:
    """Seconds of a forward pass, and of one with loss and backward pass (none unless ``training``)."""
    config, device = trainer.config, trainer.accelerator.device
    image = torch.zeros(config.bs, trainer.segmenter.backbone.bands, *_crop(config), device=device)
    class_map = torch.zeros(config.bs, *_crop(config), dtype=torch.int64, device=device)
    features = _blank_features(trainer) if trainer.features else None
    # In training mode, if there is to be any: activation checkpointing acts in it alone.
    trainer.segmenter.train(training)
    started = time.perf_counter()
    autocast = torch.autocast(device.type, dtype=trainer.autocast_dtype, enabled=trainer.autocast_dtype is not None)
    with torch.set_grad_enabled(training), autocast, _batch_norm_in_words(config):
        output = trainer.segmenter(image, features)
    forward = _seconds_since(started, device)
    if training:
        torch.stack(list(trainer.criterion(output, class_map).values())).sum().backward()
    return forward, _seconds_since(started, device)


def _backbone_seconds(trainer: Trainer) -> float:
    """Of one forward pass on a training batch."""
    device = trainer.accelerator.device
    image = torch.zeros(trainer.config.bs, trainer.segmenter.backbone.bands, *_crop(trainer.config), device=device)
    autocast = torch.autocast(device.type, dtype=trainer.autocast_dtype, enabled=trainer.autocast_dtype is not None)
    started = time.perf_counter()
    with torch.no_grad(), autocast:
        trainer.segmenter.features(image)
    return _seconds_since(started, device)


def _blank_features(trainer: Trainer) -> list[FeatureMap]:
    """As the cache would give them for a batch."""
    backbone, bs, device = trainer.segmenter.backbone, trainer.config.bs, trainer.accelerator.device
    maps = []
    for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True):
        cells = [max(1, math.ceil(side * backbone.scale / stride)) for side in _crop(trainer.config)]
        maps.append(FeatureMap(torch.zeros(bs, channels, *cells, device=device), torch.zeros(bs, channels).to(device)))
    return maps


@contextmanager
def _batch_norm_in_words(config: Config) -> Iterator[None]:
    """What PyTorch says of a BatchNorm with one value a channel, by the keys that give it more."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"bs={config.bs} with transforms.train.crop_size={config.transforms.train.crop_size} leaves one value a "
            "channel to a BatchNorm of the head, which cannot be normalised; raise bs or transforms.train.crop_size"
        ) from None


def _crop(config: Config) -> tuple[int, int]:
    return as_size(config.transforms.train.crop_size)


def _seconds_since(started: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
