"""The configuration: every option declared once; files and ``key=value`` overrides become one checked object."""

from dinoseg.config.data_options import DatasetsConfig, EvalTransformConfig, TrainTransformConfig, TransformsConfig
from dinoseg.config.defaults import settled_lora, with_changes
from dinoseg.config.evaluation_options import EvalConfig
from dinoseg.config.model_options import DecoderHeadConfig, LoraConfig, ModelConfig
from dinoseg.config.schema import Config, all_keys, get_key
from dinoseg.config.training_options import Mask2FormerTrainConfig, OptimizerConfig, SchedulerConfig, TrainConfig

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
