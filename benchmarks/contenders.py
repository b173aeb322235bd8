"""Ways to train that ``quality_minutes.py`` compares: a recipe each, and what is changed in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dinoseg.backbone import Backbone, FeatureMap

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Attributes:
        recipe: its file.
        settings: on top of the recipe.
        blind: the head sees zeros in place of the backbone's features.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    blind: bool = False

    def arguments(self, data: Path, weights: Path, folder: Path, changes: Sequence[str]) -> list[str]:
        """Those of ``dinoseg train``, for a run and a feature cache in ``folder``."""
        return [
            f"config={RECIPES / self.recipe}",
            f"datasets.root={data}",
            f"model.weights={weights}",
            "model_dtype=BFLOAT16",
            "num_workers=1",
            "trackers=[]",
            f"output_dir={folder / 'run'}",
            f"train.cache_folder={folder / 'cache'}",
            # Validation takes no time of the training, and chooses nothing: the last checkpoint is scored.
            "eval.eval_interval=1000000",
            "eval.max_val_samples=1",
            "eval.num_visualizations=0",
            *self.settings,
            *changes,
        ]


_UNCACHED = ("train.cache_features=false",)
_RETINA_CACHED = (
    "train.cache_features=true",
    "model.backbone_scale=2",
    "eval.mode=whole",
    "transforms.train.img_size=null",
    "transforms.eval.img_size=null",
    "bs=8",
)
_STREET_NATIVE = (
    "transforms.train.img_size=null",
    "transforms.eval.img_size=null",
    "transforms.train.crop_size=336",
    "eval.mode=whole",
)
# In the recipes of the dense head: features from the cache, and all of their augmentation.
_PMT = ("decoder_head.type=pmt", "decoder_head.output_stride=1", "optimizer.lr=2e-4")
# As retina.yaml was when these were measured.
RETINA_TWICE = ("bs=2", "decoder_head.output_stride=1", "decoder_head.feature_dropout=0", "model.backbone_scale=2")
CONTENDERS: dict[str, dict[str, Contender]] = {
    "drive": {
        "linear": Contender("retina_linear.yaml", _UNCACHED),
        "linear, cached": Contender("retina_linear.yaml", _RETINA_CACHED),
        "LoRA": Contender("retina_linear.yaml", ("model.mode=lora", "optimizer.backbone_lr_factor=0.1")),
        "dense": Contender("retina.yaml"),
        "dense, scale 2, single pixels": Contender("retina.yaml", RETINA_TWICE),
        "m2f": Contender("retina_m2f.yaml"),
        "pmt": Contender("retina.yaml", (*RETINA_TWICE, *_PMT)),
        "dense without backbone": Contender("retina.yaml", (*RETINA_TWICE, *_UNCACHED), blind=True),
    },
    "camvid": {
        "linear": Contender("street_linear.yaml", (*_STREET_NATIVE, *_UNCACHED)),
        "linear, cached": Contender("street_linear.yaml", _STREET_NATIVE),
        "LoRA": Contender(
            "street_linear.yaml", (*_STREET_NATIVE, "model.mode=lora", "optimizer.backbone_lr_factor=0.1")
        ),
        "dense": Contender("street.yaml"),
        "m2f": Contender("street_m2f.yaml", _STREET_NATIVE),
        "pmt": Contender("street.yaml", (*_PMT, "model.backbone_scale=1")),
        "dense without backbone": Contender("street.yaml", _UNCACHED, blind=True),
    },
}
# What is averaged at the end: a street has an up, a retina has none.
AUGMENTED = {
    "drive": ("eval.use_tta=true", "transforms.eval.tta_right_angle_rotations=true"),
    "camvid": ("eval.use_tta=true",),
}


@contextmanager
def blindfold(blind: bool) -> Iterator[None]:
    """Within, a backbone gives zeros, and takes no time for them."""
    if not blind:
        yield
        return
    seeing = Backbone.forward_fitted

    def zeros(backbone: Backbone, image: Tensor) -> list[FeatureMap]:
        height, width = image.shape[-2:]
        return [
            FeatureMap(image.new_zeros(len(image), channels, height // stride, width // stride), None)
            for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)
        ]

    Backbone.forward_fitted = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        Backbone.forward_fitted = seeing  # type: ignore[method-assign]
