"""Options of fine-tuning: ``lora.enabled`` and ``model.mode`` as one, ranges, and defaults that follow the mode."""

from dinoseg.config.schema import Config

_LR_FACTOR = {"lora": 1.0, "full": 0.1}


def settle_fine_tuning(config: Config) -> None:
    """Fills in ``model.mode`` and the learning-rate factor that follows from it.

    ``lora.enabled`` becomes ``model.mode``, which alone the written config states.

    Raises:
        ValueError: the two disagree, or a number is out of range.
    """
    mode, lora = config.model.mode, config.lora
    if mode is not None and lora.enabled is not None and lora.enabled != (mode == "lora"):
        raise ValueError(
            f"model.mode={mode} and lora.enabled={str(lora.enabled).lower()} disagree; lora.enabled=true is another "
            "spelling of model.mode=lora: give one of them"
        )
    config.model.mode = mode or ("lora" if lora.enabled else "freeze")
    lora.enabled = None
    if not 0 <= lora.dropout < 1:
        raise ValueError(f"lora.dropout={lora.dropout} is no share; give 0 or more, below 1")
    if not lora.alpha > 0:
        raise ValueError(f"lora.alpha={lora.alpha} is too small; give a number above 0")
    optimizer = config.optimizer
    if not 0 < optimizer.layer_decay <= 1:
        raise ValueError(f"optimizer.layer_decay={optimizer.layer_decay}: give a number above 0, up to 1 (no decay)")
    if optimizer.backbone_lr_factor is None:
        optimizer.backbone_lr_factor = _LR_FACTOR.get(config.model.mode)
