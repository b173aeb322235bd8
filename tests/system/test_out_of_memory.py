"""Exhausted memory: one message with the options that need less, and no message for other errors."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset

from dinoseg.system.messages import memory_advice
from dinoseg.training.plan import _probe

OPTIONS = ("bs", "transforms.train.crop_size", "activation_checkpointing", "gradient_checkpointing", "model_dtype")


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
    advice = memory_advice(error)
    assert advice is not None and advice.startswith("out of memory")
    assert all(option in advice for option in (*OPTIONS, "eval.batch_size"))
    assert (f"({amount} more were needed)" in advice) == (amount is not None)


def test_what_torch_raises_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert memory_advice(raised.value) is not None


def test_other_errors_are_left_alone() -> None:
    assert memory_advice(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


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
