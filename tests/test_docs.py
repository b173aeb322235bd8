"""The documentation names what there is."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
# `folder/file.py` below dinoseg/, alone or with a function, a class or a method.
_PLACE = re.compile(r"`(?:dinoseg/)?([a-z_0-9]+(?:/[a-z_0-9]+)*)\.py(?:::([A-Za-z_0-9.]+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_named_is_there(page: Path) -> None:
    found = _PLACE.findall(page.read_text(encoding="utf-8"))
    assert len(found) > 5
    for module, name in found:
        if module.startswith("tests/"):
            assert (ROOT / f"{module}.py").is_file(), f"{page.name} names {module}.py"
            continue
        node = import_module(f"dinoseg.{module.replace('/', '.')}")
        for part in name.split(".") if name else []:
            assert hasattr(node, part), f"{page.name} names {module}.py::{name}"
            node = getattr(node, part)


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
