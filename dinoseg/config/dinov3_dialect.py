"""DINOv3's segmentation configs in our schema: keys that have another name here, and keys that mean nothing here."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

# Read and passed over; the sentence says what takes their place.
_WITHOUT_MEANING = {
    "n_gpus": "start several processes with `accelerate launch --num_processes N` or `torchrun --nproc_per_node N`",
    "model.config_file": "model.dino_hub names the backbone, model.weights its weights",
    "scheduler.constructor_kwargs.use_beta1": "AdamW's betas stay as optimizer.beta1 and optimizer.beta2 say",
    "scheduler.constructor_kwargs.update_momentum": "AdamW's betas stay as optimizer.beta1 and optimizer.beta2 say",
    "scheduler.constructor_kwargs.cycle_momentum": "AdamW's betas stay as optimizer.beta1 and optimizer.beta2 say",
    "scheduler.constructor_kwargs.base_momentum": "momentum is optimizer.beta1 throughout",
    "scheduler.constructor_kwargs.max_momentum": "momentum is optimizer.beta1 throughout",
}

_RENAMED = {
    "model.pretrained_weights": "model.weights",
    "model_dtype.autocast_dtype": "model_dtype",
}

# What null stands for in those files; None: the key is left out.
_NULL_MEANS: dict[str, Any] = {
    "model.dino_hub": None,
    "model.pretrained_weights": None,
    "transforms.train.random_img_size_ratio_range": [1.0, 1.0],
}


def translate(addition: DictConfig, source: str) -> list[str]:
    """Turns DINOv3's spellings into ours, in place; returns one remark for each key that is passed over.

    Args:
        addition: what one file or one override sets.
        source: that file or override, for messages.

    Raises:
        ValueError: both spellings of one option with different values.
    """
    remarks = []
    for key, instead in _WITHOUT_MEANING.items():
        if _holds(addition, key):
            value = _take(addition, key)
            # null and false ask for nothing.
            if value is not None and value is not False:
                remarks.append(f"{source}: {key} has no meaning here and is passed over; {instead}")
    for key, meant in _NULL_MEANS.items():
        if _holds(addition, key) and _raw(addition, key) is None:
            _take(addition, key)
            if meant is not None:
                OmegaConf.update(addition, key, meant)
    for theirs, ours in _RENAMED.items():
        if _holds(addition, theirs):
            _rename(addition, theirs, ours, source)
    return remarks


def scale_to_unit_range(values: Any) -> Any:
    """Channel statistics of images in 0..255, as DINOv3's files may give them, for images in 0..1.

    Anything but a list of numbers comes back as it is: what is wrong with it is said by its option.
    """
    numbers = isinstance(values, list) and values and all(isinstance(value, int | float) for value in values)
    return [value / 255 for value in values] if numbers and min(values) > 1 else values


def _rename(addition: DictConfig, theirs: str, ours: str, source: str) -> None:
    value = _take(addition, theirs)
    if theirs.startswith(f"{ours}."):
        left = OmegaConf.select(addition, ours)
        if left:
            raise ValueError(f"{source}: {ours} has the unknown key {next(iter(left))!r}; write {ours}=FLOAT32")
    elif _holds(addition, ours) and _raw(addition, ours) != value:
        raise ValueError(
            f"{source}: {theirs}={value} and {ours}={_raw(addition, ours)} disagree; they are two spellings of one "
            "option: give one of them"
        )
    OmegaConf.update(addition, ours, value, merge=False)


def _parent(addition: DictConfig, key: str) -> tuple[Any, str]:
    section, _, name = key.rpartition(".")
    node: Any = addition
    for part in section.split(".") if section else []:
        node = node._get_node(part) if isinstance(node, DictConfig) and not node._is_none() else None
    return node, name


def _holds(addition: DictConfig, key: str) -> bool:
    parent, name = _parent(addition, key)
    return isinstance(parent, DictConfig) and not parent._is_none() and parent._get_node(name) is not None


def _raw(addition: DictConfig, key: str) -> Any:
    """The value as written: an interpolation stays one, since what it points to may stand in another file."""
    parent, name = _parent(addition, key)
    return parent._get_node(name)._value()


def _take(addition: DictConfig, key: str) -> Any:
    value = _raw(addition, key)
    parent, name = _parent(addition, key)
    del parent[name]
    return value
