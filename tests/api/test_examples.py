"""Every Python example of the docs runs, in order, where ``data/retina`` and ``runs/retina`` are."""

import re
import shutil
from pathlib import Path

import pytest
from helpers.tiny import tiny_settings, train_tiny_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a run on it."""
    return train_tiny_run(tmp_path_factory, {"train": 4, "val": 2, "test": 2})


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_examples_run(page: str, finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = finished
    shutil.copytree(data, tmp_path / "data" / "retina")
    shutil.copytree(run, tmp_path / "runs" / "retina")
    shutil.copy(data / "test" / "images" / "test_0.png", tmp_path / "fundus.png")
    recipe = (setting.split("=", 1) for setting in tiny_settings(data, run))
    lines = [f"{key}: {value}" for key, value in recipe if key not in ("datasets.root", "output_dir")]
    (tmp_path / "recipe.yaml").write_text(_nested(lines))
    configured = (tmp_path / "runs" / "retina" / "config.yaml").read_text()
    (tmp_path / "runs" / "retina" / "config.yaml").write_text(configured.replace(str(data), "data/retina"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    names: dict[str, object] = {"__name__": "example"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, example {number}", "exec"), names)


def _nested(lines: list[str]) -> str:
    """Dotted keys as the nested YAML of a recipe."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.from_dotlist([line.replace(": ", "=", 1) for line in lines]))
