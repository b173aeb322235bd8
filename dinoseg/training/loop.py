"""The training loop, the same for all heads."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinoseg.backbone import FeatureMap
from dinoseg.config import Config
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.data.dataset import EvaluationDataset, Sample, SegmentationDataset, outlive_signals, samples_of
from dinoseg.data.sampler import EpochBatchSampler, mixed_seed, spread_subset
from dinoseg.evaluation.evaluate import BrokenOff, Evaluation, evaluate, write_evaluation
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.features.fill import FeatureCache
from dinoseg.features.store import feature_maps
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.checkpoint import model_state, write_checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.device import DTYPES
from dinoseg.system.processes import any_process, copy_from_first_process, failing_together
from dinoseg.training.budget import Budget
from dinoseg.training.cached_images import CachedImages
from dinoseg.training.data_watch import DataWatch, gpu_memory
from dinoseg.training.ema import WeightAverage
from dinoseg.training.interruption import Interruption
from dinoseg.training.journal import Journal
from dinoseg.training.optim import build_optimizer, build_schedule
from dinoseg.training.progress import Progress
from dinoseg.training.validation_pictures import ValidationPictures

_REMEDY = "lower optimizer.lr, set optimizer.gradient_clip, or model_dtype=FLOAT32"

# Fewer tell nothing, and of more the mean is steady.
_LEAST_TIMED_STEPS, _MOST_TIMED_STEPS = 3, 60


@dataclass
class Trainer:
    """Everything one training needs; ``run`` is the loop.

    The optimiser step t sees the same samples, augmented the same way, and the same noise, whatever happened before:
    samples are a function of (seed, t), noise is seeded from (seed, t, process).

    ``budget`` ends the training, evaluated, where the machine is too slow for the steps that were planned; for one
    process only.
    """

    config: Config
    run_folder: RunFolder
    label_space: LabelSpace
    segmenter: Segmenter
    criterion: nn.Module
    train_data: SegmentationDataset
    val_data: EvaluationDataset
    evaluation_settings: EvaluationSettings
    accelerator: Accelerator
    checkpoint_metadata: dict[str, str]
    features: FeatureCache | None = None
    cached_images: CachedImages | None = None
    features_in_words: str = ""
    journal: Journal | None = None
    budget: Budget | None = None
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            self.segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(self.segmenter)
        self.optimizer = build_optimizer(self.segmenter, self.config.optimizer)
        self.schedule = build_schedule(self.config.scheduler)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.criterion.to(self.accelerator.device)
        self.autocast_dtype = DTYPES[self.config.model_dtype]
        decay = self.config.train.ema_decay
        self.average = None if decay is None else WeightAverage(self.segmenter, decay)
        self.data_watch = DataWatch(self.config.num_workers)

    def run(self, interruption: Interruption) -> Progress:
        """Trains to ``scheduler.total_iter``, an early stop, the end of the budget or an interruption; each leaves the
        last checkpoint, but for an interruption before the first step.

        An interruption ends the running step, or an evaluation after its running image; the evaluation is then done
        when the training goes on.

        Raises:
            ValueError: the loss is not finite (names the step and the images of the batch), a file cannot be read, or
                a checkpoint cannot be written. With more than one process all of them raise.
        """
        total, progress = self.config.scheduler.total_iter, self.progress
        first, seconds = progress.step, 0.0
        # Training goes through the wrapped model, so that gradients are averaged; evaluation through the bare one.
        self.model = self.accelerator.prepare_model(self.segmenter)
        batches = self._batches()
        if self.journal:
            self.journal.start_progress(progress.step, total)
        # Two ways out are here: all steps are done and evaluated, or so many evaluations in a row gave nothing better.
        while not progress.is_finished(total, self.config.train.early_stopping):
            # The third: a signal. Agreed on: a process that ended alone would leave the others waiting for it.
            if any_process(interruption.requested):
                # Before the first step there is nothing to go on with.
                if progress != Progress():
                    self.save("last")
                break
            ended = self.budget is not None and self.budget.has_ended(progress.step - first, seconds)
            # The fourth: the time is up, and the step at which it was has been evaluated, below, a round before.
            if ended and progress.evaluated_step == progress.step:
                break
            if ended or progress.is_evaluation_due(self.config.eval.eval_interval, total):
                started = time.monotonic()
                try:
                    self._validate(interruption)
                except BrokenOff:
                    continue
                self.save("last")
                self._remember_evaluation(time.monotonic() - started)
            else:
                started = time.monotonic()
                self._step(batches)
                seconds += time.monotonic() - started
                interval = self.config.train.checkpoint_interval
                if interval and progress.step % interval == 0:
                    self.save("last")
        return progress

    def timed_steps(self, seconds: float) -> list[float]:
        """Seconds of each of some real steps of one process, data included.

        They are not undone: the trainer is of no further use.

        Args:
            seconds: after which no other step is begun, once there are three.

        Raises:
            ValueError: as ``run``.
        """
        # Not prepared: what the accelerator once had in hand it never lets go.
        self.model = self.segmenter
        batches, found = self._batches(), list[float]()
        while len(found) < _MOST_TIMED_STEPS and (len(found) < _LEAST_TIMED_STEPS or sum(found) < seconds):
            started = time.perf_counter()
            self._step(batches)
            found.append(time.perf_counter() - started)
        # The first ones allocate, while workers read ahead what then takes no time.
        return found[len(found) // 2 :]

    def _batches(self) -> Iterator[dict[str, Any]]:
        accumulation = self.config.train.accumulation_steps
        sampler = EpochBatchSampler(
            len(self.train_data),
            self.config.bs,
            self.config.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            start_batch=self.progress.step * accumulation,
            num_batches=(self.config.scheduler.total_iter - self.progress.step) * accumulation,
        )
        loader = DataLoader(
            self.train_data,
            batch_sampler=sampler,
            num_workers=self.config.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            worker_init_fn=outlive_signals,
        )
        return samples_of(loader)

    def _step(self, batches: Iterator[dict[str, Any]]) -> None:
        config, step = self.config, self.progress.step
        started, data_seconds = time.perf_counter(), 0.0
        self.model.train()
        # Dropout, drop-path and point sampling depend on the step alone, so a resumed run draws the same numbers.
        torch.manual_seed(mixed_seed(config.seed, step, self.accelerator.process_index))
        self.segmenter.head.set_progress(step / config.scheduler.total_iter)
        factor = self.schedule(step)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        terms: dict[str, Tensor] = {}
        for micro_step in range(config.train.accumulation_steps):
            waiting = time.perf_counter()
            with failing_together():
                batch = next(batches)
            data_seconds += time.perf_counter() - waiting
            last = micro_step == config.train.accumulation_steps - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                for name, value in self._backward(batch).items():
                    terms[name] = terms[name] + value if name in terms else value
        limit = config.optimizer.gradient_clip or math.inf
        norm = float(nn.utils.clip_grad_norm_([p for p in self.segmenter.parameters() if p.requires_grad], limit))
        if not math.isfinite(norm):
            raise ValueError(f"step {step + 1}: a gradient is not finite; {_REMEDY}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        if self.average is not None:
            self.average.update(self.progress.step)
        self._report(terms, norm, time.perf_counter() - started, data_seconds)

    def _backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Forward and backward of one batch; returns its loss terms, detached, as their share of the step."""
        device, share = self.accelerator.device, 1 / self.config.train.accumulation_steps
        image, class_map = batch["image"].to(device), batch["class_map"].to(device)
        # What was computed before the training is not computed again.
        features = None
        if "features" in batch:
            known = feature_maps(batch["features"], batch["class_tokens"], batch["prefix_tokens"])
            features = [layer.to(device) for layer in known]
        with torch.autocast(device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            output = self.model(image, features)
        terms = self.criterion(output, class_map)
        loss = torch.stack(list(terms.values())).sum() * share
        with failing_together():
            if not math.isfinite(float(loss.detach())):
                raise ValueError(f"step {self.progress.step + 1}: {_not_finite(batch['name'], terms, features)}")
        loss.backward()
        return {name: value.detach() * share for name, value in terms.items()}

    def _report(self, terms: dict[str, Tensor], norm: float, seconds: float, data_seconds: float) -> None:
        config, step = self.config, self.progress.step
        if not self.journal:
            return
        figures = {name: float(value) for name, value in terms.items()}
        loss, rate = sum(figures.values()), self.optimizer.param_groups[0]["lr"]
        images = config.bs * config.train.accumulation_steps * self.accelerator.num_processes
        log = step % config.train.log_interval == 0 or step == 1
        self.journal.report_step(step, loss, rate, images / seconds, log)
        if remark := self.data_watch.observe(data_seconds / seconds):
            self.journal.say(remark)
        if log:
            self.journal.record(
                "train",
                step,
                {
                    "loss": loss,
                    **figures,
                    "learning_rate": rate,
                    "gradient_norm": norm,
                    "images_per_second": images / seconds,
                    "data_wait_share": data_seconds / seconds,
                    **gpu_memory(self.accelerator.device),
                },
            )

    def _validate(self, interruption: Interruption) -> None:
        """Evaluates on the validation split; the best model so far becomes the checkpoint ``best``.

        Raises:
            BrokenOff: the training was asked to stop meanwhile; nothing is recorded.
            ValueError: an image whose features are cached was replaced since.
        """
        config, progress = self.config, self.progress
        with failing_together():
            if self.cached_images is not None and self.accelerator.is_main_process:
                self.cached_images.refuse_changed()
        # BatchNorm statistics are each process's own between forward passes; what is saved is the first one's.
        for buffer in self.segmenter.buffers():
            copy_from_first_process(buffer)
        with self._evaluated_weights():
            evaluation = evaluate(
                self.segmenter.eval(),
                self.val_data,
                self.evaluation_settings,
                self.accelerator.device,
                on_image=self._see_image,
                stop=lambda: interruption.requested,
            )
        found = evaluation.metrics.means[config.metric_to_save]
        better = progress.finish_evaluation(found)
        with failing_together():
            if self.journal:
                self._record_evaluation(evaluation, better)
        if better:
            # After its figures are written: a run that is killed in between has both, or does both again.
            progress.set_best(found, progress.step)
            self.save("best")

    def _remember_evaluation(self, seconds: float) -> None:
        """Of one that was done, its checkpoints included."""
        if self.budget is not None:
            # Images may be larger than the one that was measured, pictures to draw many, and the disk slow.
            most = max(self.budget.evaluation_seconds, seconds)
            self.budget = replace(self.budget, evaluation_seconds=most)

    def _evaluated_weights(self) -> AbstractContextManager[dict[str, Tensor]]:
        """The segmenter has the averaged weights meanwhile, if there are any; gives the trained ones kept aside."""
        return nullcontext({}) if self.average is None else self.average.applied()

    def _see_image(self, sample: Sample, prediction: Tensor) -> None:
        self._pictures.draw(sample, prediction, self.progress.step)
        if self.journal:
            images = min(len(self.val_data), self.evaluation_settings.max_samples or len(self.val_data))
            self.journal.report_image(-(-images // self.accelerator.num_processes))

    @cached_property
    def _pictures(self) -> ValidationPictures:
        evaluated = spread_subset(len(self.val_data), self.evaluation_settings.max_samples)
        return ValidationPictures(self.config, self.run_folder, self.label_space, self.val_data, evaluated)

    def _record_evaluation(self, evaluation: Evaluation, better: bool) -> None:
        assert self.journal is not None
        contents, step = evaluation.to_dict(), self.progress.step
        figures: dict[str, Any] = {name: value for name, value in contents.items() if isinstance(value, float)}
        policy = contents["policy"]
        figures |= {name: policy[name] for name in ("images", "images_available", "absent_classes")}
        figures["per_class_IoU"] = {row["name"]: row["IoU"] for row in contents["per_class"]}
        self.journal.record("val", step, figures)
        self.journal.show_pictures("val", step, self._pictures.files())
        self.journal.say(evaluation_table(contents, f"validation after step {step}"))
        if better:
            self.journal.say(f"best {self.config.metric_to_save} so far: becomes checkpoints/best")
            write_evaluation(evaluation, self.run_folder.evaluation("val"), {"checkpoint": "best", "step": step})

    def save(self, name: str) -> None:
        """Writes the checkpoint ``last`` or ``best``; every process leaves when it is written.

        Raises:
            ValueError: it cannot be written.
        """
        with failing_together():
            if self.journal:
                self.journal.flush()
            if self.accelerator.is_main_process:
                metadata = self.checkpoint_metadata | {"step": str(self.progress.step)}
                with self._evaluated_weights() as trained:
                    write_checkpoint(
                        self.run_folder.checkpoint(name),
                        model_state(self.segmenter, metadata["backbone_saved"] == "true"),
                        metadata,
                        {"optimizer": self.optimizer.state_dict()} | ({"trained": trained} if trained else {}),
                        asdict(self.progress),
                    )


def _not_finite(names: list[str], terms: dict[str, Tensor], features: list[FeatureMap] | None) -> str:
    if features is not None and not all(bool(layer.map.isfinite().all()) for layer in features):
        return (
            f"features of {', '.join(names)} in the cache were damaged since the training began; start it again "
            "(--resume goes on from the last checkpoint), which computes them anew"
        )
    found = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
    return f"the loss is not finite ({found}) on images {', '.join(names)}; {_REMEDY}"
