"""A wrong option is told before any weights are loaded, whoever opens the run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import run_cli, tiny_settings, train_tiny_run
from safetensors.torch import load_file, save_file

import dinoseg
from dinoseg.run_folder import run_source


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a finished, evaluated run on it."""
    return train_tiny_run(tmp_path_factory, {"train": 4, "val": 2})


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights ends the test."""

    def loading(*arguments: Any) -> Any:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(run_source, "load_segmenter", loading)


VERBS: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "eval": lambda data, run, out: ["eval", str(run)],
    "predict": lambda data, run, out: ["predict", str(run), str(data / "val" / "images"), "--out", str(out)],
    "export": lambda data, run, out: ["export", str(run), str(out)],
    "report": lambda data, run, out: ["report", str(run)],
}


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("bss=2", "did you mean 'bs'?"),
        ("datasets.classes={0: other}", "the label space of a run is fixed"),
        ("lora.use_rslora=true", "lora.use_rslora=true: the model of this run was trained with false"),
        ("lora.r=4", "lora.rank=8 and lora.r=4 disagree"),
        ("model.backbone_scale=2", "model.backbone_scale=2.0: the model of this run was trained with 1.0"),
        ("decoder_head.type=dense", "decoder_head.type=dense: the model of this run was trained with linear"),
        ("eval.stride=4000", "eval.stride [4000, 4000] exceeds eval.crop_size"),
    ],
)
def test_a_wrong_option_costs_no_waiting(
    verb: str,
    setting: str,
    message: str,
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_cli([*VERBS[verb](*finished, tmp_path / "out"), setting], monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


@pytest.mark.usefixtures("weightless")
def test_the_api_opens_runs_the_same_way(finished: tuple[Path, Path]) -> None:
    _, run = finished
    for wrong, message in (
        ({"overrides": ["eval.mode=hole"]}, "hole"),
        ({"checkpoint": "worst"}, "there is no checkpoint 'worst'; choose best, last, previous"),
        ({"device": "mps", "overrides": ["device=cpu"]}, "--device mps and device=cpu disagree"),
    ):
        for act in (partial(dinoseg.load, run), partial(dinoseg.evaluate, run), dinoseg.Run(run).load):
            with pytest.raises(ValueError, match=message):
                act(**wrong)
    with pytest.raises(ValueError, match=r"eval\.cldice=\['vein'\]: no class is named 'vein'"):
        dinoseg.evaluate(run, overrides={"eval.cldice": ["vein"]})
    with pytest.raises(AssertionError, match="weights are loaded"):
        dinoseg.load(run)


@pytest.mark.parametrize("verb", VERBS)
def test_weights_that_are_not_used_are_said_in_one_line(
    verb: str,
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The run's backbone is random and hence in its checkpoint.
    data, run = finished
    for settings in ([], ["model.weights=other.pth"]):
        command = VERBS[verb](data, run, tmp_path / f"out{len(settings)}")
        capsys.readouterr()
        assert run_cli([*command, *settings], monkeypatch) == 0
        note = f"note: model.weights=other.pth is not used: {run / 'checkpoints/best'} holds its own backbone\n"
        assert capsys.readouterr().err == note * len(settings)


def test_weights_that_are_used_are_not_spoken_of(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    state = load_file(run / "checkpoints/best/model.safetensors")
    weights, second = tmp_path / "weights.safetensors", tmp_path / "run"
    inside = {name.removeprefix("backbone.model."): state[name] for name in state if name.startswith("backbone.")}
    save_file(inside, weights)
    settings = tiny_settings(data, second, "scheduler.total_iter=1", f"model.weights={weights}")
    assert run_cli(["train", *settings], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["eval", second, f"model.weights={weights}"], monkeypatch) == 0
    assert "is not used" not in capsys.readouterr().err
