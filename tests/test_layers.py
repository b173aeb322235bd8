"""Imports point one way."""

import ast
from pathlib import Path

import pytest

import dinoseg

ROOT = Path(dinoseg.__file__).parent

# A module may import from its own row and from rows above it.
ROWS = [
    ["atomic_file", "file_hash", "listing", "out_of_memory", "palette", "processes"],
    ["zero_label", "label_settings", "label_consistency", "labels"],
    ["config", "config_checks", "config_dialect", "config_fine_tuning", "config_loading"],
    ["data"],
    [
        *("backbone", "backbone_catalogue", "backbone_dialects", "backbone_lora"),
        *("backbone_mismatch", "backbone_timm", "backbone_weights"),
    ],
    ["models"],
    ["losses"],
    ["training.optim", "training.checkpoint", "training.checkpoint_contents", "training.device", "run_folder"],
    ["report.overlay", "report.table", "report.progress", "report.policy", "report.sample", "report.recorded"],
    ["inference"],
    ["evaluation"],
    ["training"],
    ["report"],
    ["demo"],
    ["cli"],
]


def _row(module: str) -> int:
    names = [(name, row) for row, entries in enumerate(ROWS) for name in entries]
    fitting = [(len(name), row) for name, row in names if module == name or module.startswith(name + ".")]
    assert fitting, f"dinoseg.{module} stands in no row; add it where it belongs"
    return max(fitting)[1]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dinoseg."):
            found.add(node.module.removeprefix("dinoseg."))
    return found


MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for imported in _imports(path):
        assert _row(imported) <= _row(module), f"{module} imports {imported}, which stands later"
