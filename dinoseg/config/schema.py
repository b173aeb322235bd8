"""Every option of dinoseg, declared once: type, default, help, range, unit, and whether it may change at resume.

A superset of DINOv3's segmentation configs, so those files load as they are. The sections stand in the files beside
this one, by what they are about. Checks, messages, ``--help``, ``dinoseg options``, docs/options.md and the resume rule
derive from the declarations (``option.py``). How files and ``key=value`` overrides become one object stands in
``loading.py``, what is filled in for a key left out in ``defaults.py``.
"""

from typing import Any

from pydantic import Field

from dinoseg.config.data_options import DatasetsConfig, TransformsConfig
from dinoseg.config.evaluation_options import EvalConfig
from dinoseg.config.model_options import DecoderHeadConfig, LoraConfig, ModelConfig
from dinoseg.config.option import PREDICTS, Key, Section, keys_of, option
from dinoseg.config.training_options import Mask2FormerTrainConfig, OptimizerConfig, SchedulerConfig, TrainConfig


class Config(Section):
    """The whole config."""

    bs: int = option(2, "images per step and process", least=1, most=65536, unit="images", resume="free", first=True)
    num_workers: int = option(2, "data loading processes", least=0, most=256, resume="free", verbs=("eval",))
    model_dtype: str = option(
        "FLOAT32",
        "precision of the forward pass",
        choices=("FLOAT32", "BFLOAT16"),
        verbs=PREDICTS,
    )
    seed: int = option(100, "seed of everything random", least=0, most=2**63 - 1)
    device: str = option(
        "auto",
        "where the model runs",
        choices=("auto", "cpu", "cuda", "mps"),
        resume="free",
        verbs=("eval", "report"),
        first=True,
    )
    metric_to_save: str = option(
        "mIoU",
        "decides which checkpoint is best",
        choices=("mIoU", "mAcc", "aAcc", "mDice", "mFscore"),
        resume="decides best",
    )
    output_dir: str = option("runs/dinoseg", "run folder", resume="free", first=True)
    trackers: list[str] = option(
        ["tensorboard"],
        "where a training is shown; [] for nowhere",
        choices=("tensorboard", "wandb", "mlflow", "trackio"),
        resume="free",
    )
    load_from: str | None = option(
        None,
        "run folder, state dict of its authors' code, or hf:owner/name on the Hub, whose head to start from",
    )
    model: ModelConfig = Field(default_factory=ModelConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    datasets: DatasetsConfig = Field(default_factory=DatasetsConfig)
    decoder_head: DecoderHeadConfig = Field(default_factory=DecoderHeadConfig)
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    transforms: TransformsConfig = Field(default_factory=TransformsConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    m2f_train: Mask2FormerTrainConfig = Field(default_factory=Mask2FormerTrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)


def all_keys() -> tuple[Key, ...]:
    """Every option by its dotted key, in the order of the schema."""
    return keys_of(Config)


def get_key(config: Config, key: str) -> Any:
    """The value at a dotted key, e.g. ``"eval.crop_size"``."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return node
