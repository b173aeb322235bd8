"""Every recipe is a config that loads, and says how it is run."""

from pathlib import Path

import pytest

from dinoseg.config.loading import load_config

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_load(recipe: Path) -> None:
    config = load_config([f"config={recipe}"])
    assert config.datasets.classes
    header = recipe.read_text()
    assert f"dinoseg train config=recipes/{recipe.name}" in header
    assert all(word in header for word in ("Hardware: ", "Time: ", "Score: "))


def test_there_are_recipes() -> None:
    assert RECIPES
