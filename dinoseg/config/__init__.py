"""The configuration: every option declared once; files and ``key=value`` overrides become one checked object."""

from dinoseg.config.defaults import settled_lora, with_changes
from dinoseg.config.schema import (
    Config,
    DatasetsConfig,
    DecoderHeadConfig,
    EvalConfig,
    EvalTransformConfig,
    LoraConfig,
    Mask2FormerTrainConfig,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    TrainConfig,
    TrainTransformConfig,
    TransformsConfig,
    all_keys,
    get_key,
)

__all__ = [
    "Config",
    "DatasetsConfig",
    "DecoderHeadConfig",
    "EvalConfig",
    "EvalTransformConfig",
    "LoraConfig",
    "Mask2FormerTrainConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SchedulerConfig",
    "TrainConfig",
    "TrainTransformConfig",
    "TransformsConfig",
    "all_keys",
    "get_key",
    "settled_lora",
    "with_changes",
]
