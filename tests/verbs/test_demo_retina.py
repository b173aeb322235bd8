"""The drawn retina: all label ids, the same files every time, nothing overwritten."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinoseg.verbs.demo_retina import draw_retina, generate_dataset


def _digests(root: Path) -> dict[str, str]:
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(root.rglob("*.png"))}


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate_dataset(tmp_path / name, train=2, val=1, test=1, side=96)
    generate_dataset(tmp_path / "c", train=2, val=1, test=1, side=96, seed=1)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    assert len(_digests(tmp_path / "a")) == 8
    assert _digests(tmp_path / "a") != _digests(tmp_path / "c")


def test_masks_hold_every_label_id_and_vessels_are_a_minority() -> None:
    shares = np.zeros(4)
    for number in range(6):
        picture, mask = draw_retina(128, np.random.default_rng(number))
        assert picture.shape == (128, 128, 3) and mask.shape == (128, 128)
        assert set(np.unique(mask)) <= {0, 1, 2, 3}
        shares += np.bincount(mask.ravel(), minlength=4) / mask.size / 6
    assert 0.75 < shares[0] < 0.95
    assert min(shares[1:]) > 0.004


def test_vessels_are_darker_than_what_is_around_them_and_veins_darker_than_arteries() -> None:
    picture, mask = draw_retina(192, np.random.default_rng(0))
    inside = picture.sum(axis=-1) > 150
    brightness = {label: picture[(mask == label) & inside].mean() for label in (0, 1, 2)}
    assert brightness[0] > brightness[1] > brightness[2]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    generate_dataset(tmp_path / "data", train=1, val=1, test=1, side=64)
    before = _digests(tmp_path / "data")
    generate_dataset(tmp_path / "data", train=1, val=1, test=1, side=64)
    assert _digests(tmp_path / "data") == before
    with pytest.raises(ValueError, match="not empty"):
        generate_dataset(tmp_path / "data", train=2, val=1, test=1, side=64)
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="not empty"):
        generate_dataset(tmp_path, train=1, val=1, test=1, side=64)


def test_an_interrupted_generation_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 2, "val": 1, "test": 1, "side": 96}
    generate_dataset(tmp_path / "whole", **sizes)
    drawn = draw_retina

    def interrupted(side: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if (tmp_path / "half" / "train" / "masks" / "000.png").exists():
            raise KeyboardInterrupt
        return drawn(side, generator)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dinoseg.verbs.demo_retina.draw_retina", interrupted)
        generate_dataset(tmp_path / "half", **sizes)
    with pytest.raises(ValueError, match="not empty"):
        generate_dataset(tmp_path / "half", **(sizes | {"seed": 5}))
    generate_dataset(tmp_path / "half", **sizes)
    assert _digests(tmp_path / "half") == _digests(tmp_path / "whole")
