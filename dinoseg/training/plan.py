"""The plan that is printed before the first step."""

import time

import torch
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dinoseg.config import Config
from dinoseg.data.check import CheckReport
from dinoseg.data.transforms import as_size
from dinoseg.label_settings import show_labels
from dinoseg.training.loop import Trainer


def describe_plan(trainer: Trainer, report: CheckReport, seconds: float) -> Group:
    """Label table, parameters, images, steps, evaluations and the time they will take, as ``estimate_seconds`` says."""
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
        f"images       {len(trainer.train_data)} train, {len(trainer.val_data)} val",
        f"steps        {steps} of {images_a_step} images ({epochs:.1f} epochs), "
        f"evaluation every {interval} ({_evaluations(config)} in all)",
        f"device       {trainer.accelerator.device}, {config.model_dtype.lower()}",
        f"time         about {_duration(seconds)}",
        f"run folder   {trainer.run_folder.path}",
    ]
    return Group(_label_table(trainer, report), Text("\n".join(lines)))


def _label_table(trainer: Trainer, report: CheckReport) -> Table:
    space, pixels = trainer.label_space, report.class_pixels("train")
    ignored = show_labels(space.ignored_ids, space.kind) or "none"
    table = Table(title="labels", caption=f"ignored: {ignored}", title_justify="left", caption_justify="left")
    for column in ("label id", "class index", "name", "train pixels"):
        table.add_column(column, justify="left" if column == "name" else "right")
    everything = max(1, sum(pixels))
    for index, label_class in enumerate(space.classes):
        share = f"{100 * pixels[index] / everything:.2f} %"
        table.add_row(show_labels(label_class.label_ids, space.kind), str(index), escape(label_class.name), share)
    return table


def estimate_seconds(trainer: Trainer) -> float:
    """Times one training batch on blank images; weights and statistics stay as they are.

    To be called in every process: the loss adds up counts over all of them.
    """
    config, device = trainer.config, trainer.accelerator.device
    steps = config.scheduler.total_iter - trainer.progress.step
    evaluations = _evaluations(config)
    height, width = as_size(config.transforms.train.crop_size, "transforms.train.crop_size")
    image = torch.zeros(config.bs, 3, height, width, device=device)
    class_map = torch.zeros(config.bs, height, width, dtype=torch.int64, device=device)
    enabled = trainer.autocast_dtype is not None
    # Evaluation mode: a probe must not move BatchNorm statistics.
    trainer.segmenter.eval()
    seconds = []
    for _ in range(2):  # the first pass also pays for allocations
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=trainer.autocast_dtype, enabled=enabled):
            output = trainer.segmenter(image)
        torch.stack(list(trainer.criterion(output, class_map).values())).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    trainer.optimizer.zero_grad(set_to_none=True)
    step = min(seconds) * config.train.accumulation_steps
    windows = len(trainer.val_data) if config.eval.max_val_samples is None else config.eval.max_val_samples
    return steps * step + evaluations * windows * min(seconds) / config.bs


def _evaluations(config: Config) -> int:
    """One each interval, and one at the end."""
    return -(-config.scheduler.total_iter // config.eval.eval_interval)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
