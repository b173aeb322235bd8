"""Errors of exhausted memory in words that help: what to lower for the verb at hand, the least painful first."""

import re
from collections.abc import Mapping
from types import MappingProxyType

_TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
_AMOUNT = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)

_WINDOWS = (
    "a lower eval.batch_size",
    "a lower eval.crop_size, with eval.stride no larger",
    "eval.mode=slide, where it is whole",
)
_TRAINING = (
    "a lower bs (raise train.accumulation_steps for it)",
    "a lower transforms.train.crop_size",
    "model_dtype=BFLOAT16",
    "decoder_head.activation_checkpointing=true (m2f, pmt, eomt)",
    "model.gradient_checkpointing=true (model.mode=lora or full)",
    "if an evaluation needs it: a lower eval.batch_size, then eval.crop_size with eval.stride no larger",
    "if the machine's own memory ends: a lower num_workers",
)
_EVALUATING = (*_WINDOWS, "model_dtype=BFLOAT16", "device=cpu, which is slower and has the memory of the machine")
_PREDICTING = (*_WINDOWS, "model_dtype=BFLOAT16", "--device cpu, which is slower and has the machine's memory")
# What needs less memory, in the order to try it.
_LOWER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": _TRAINING,
        "eval": _EVALUATING,
        "calibrate": _EVALUATING,
        "report": (*_WINDOWS, "model_dtype=BFLOAT16", "--max-images 0, which needs no model"),
        "predict": _PREDICTING,
        "suggest": _PREDICTING,
        "app": _PREDICTING,
    }
)


def memory_advice(error: BaseException, verb: str) -> str | None:
    """What was needed, and what to lower in which order; None for an error of another kind.

    Args:
        verb: of the command line that met it.
    """
    text = str(error)
    kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not kind and not any(part in text for part in _TEXTS):
        return None
    found = _AMOUNT.search(text)
    amount = f" ({found.group(1)} more were needed)" if found else ""
    steps = _LOWER.get(verb)
    if steps is None:
        return f"out of memory{amount}; end other programs, or use a machine with more memory"
    numbered = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"out of memory{amount}. What makes {verb} need less, in the order to try it:\n{numbered}"
