"""Exhausted memory: one message with what to lower for the verb at hand, and no message for other errors."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset

from dinoseg.config import all_keys
from dinoseg.system.out_of_memory import memory_advice
from dinoseg.training.plan import _probe

# The keys of the advice for each verb, in the order of the message.
TRAIN = [
    *("bs", "train.accumulation_steps", "transforms.train.crop_size", "model_dtype"),
    *("decoder_head.activation_checkpointing", "model.gradient_checkpointing", "model.mode"),
    *("eval.batch_size", "eval.crop_size", "eval.stride", "num_workers"),
]
WINDOWS = ["eval.batch_size", "eval.crop_size", "eval.stride", "eval.mode", "model_dtype"]
EVALUATING = [*WINDOWS, "device"]
KEYS = {
    "train": TRAIN,
    "eval": EVALUATING,
    "calibrate": EVALUATING,
    "report": WINDOWS,
    "predict": WINDOWS,
    "suggest": WINDOWS,
    "app": WINDOWS,
}


def _keys_in(text: str) -> list[str]:
    known = {entry.key for entry in all_keys()}
    return [word for word in re.findall(r"(?<![-\w.])[\w.]+", text) if word.rstrip(".") in known]


@pytest.mark.parametrize("verb", KEYS)
def test_what_to_lower_for_the_verb_in_order(verb: str) -> None:
    advice = memory_advice(MemoryError(), verb)
    assert advice is not None and advice.startswith(f"out of memory. What makes {verb} need less, in the order to")
    assert _keys_in(advice) == KEYS[verb]
    used = {entry.key for entry in all_keys() if entry.is_used_by(verb)}
    assert set(KEYS[verb]) <= used
    # Whatever looks like a key is one.
    assert all(word in KEYS[verb] for word in re.findall(r"\w+\.\w+(?:\.\w+)*", advice))


@pytest.mark.parametrize("verb", ["check", "export", "compare", "demo", ""])
def test_verbs_without_such_keys(verb: str) -> None:
    advice = memory_advice(MemoryError(), verb)
    assert advice == "out of memory; end other programs, or use a machine with more memory"


@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_the_verb_at_hand_is_told_by_the_command_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhaust(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dinoseg.inference.opening.ChosenRun.open", exhaust)
    (tmp_path / "a.png").touch()
    assert run_cli([verb, tmp_path, *([tmp_path / "a.png"] if verb == "predict" else [])], monkeypatch) == 1
    assert capsys.readouterr().err.startswith(f"error: out of memory. What makes {verb} need less")


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
            "2.00 GiB",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."), "4096 bytes"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"), None),
        (MemoryError(), None),
    ],
)
def test_advice(error: BaseException, amount: str | None) -> None:
    advice = memory_advice(error, "train")
    assert advice is not None and advice.startswith("out of memory")
    assert (f"({amount} more were needed)" in advice) == (amount is not None)


def test_what_torch_raises_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert memory_advice(raised.value, "eval") is not None


def test_other_errors_are_left_alone() -> None:
    assert memory_advice(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "train") is None


def test_the_command_line_says_it_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhaust(trainer: object, training: bool) -> tuple[float, float]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 ...")

    monkeypatch.setattr(f"{_probe.__module__}._probe", exhaust)
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    assert run_cli(["train", *tiny_settings(data, tmp_path / "run")], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "error: out of memory (20.00 MiB more were needed)" in error and "Traceback" not in error
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_command_line_starts_without_pytorch() -> None:
    command = "import sys, dinoseg.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
