"""The folders of the package import one way: each from those below it, and no two from each other."""

import ast
from pathlib import Path

import pytest

import dinoseg

ROOT = Path(dinoseg.__file__).parent

# From the ground up. A folder imports from rows below its own; folders of one row do not know each other.
FLOORS = [
    ["system"],
    ["labels", "config"],
    ["data", "tracking", "backbone"],
    ["check", "drawing", "importing", "models"],
    ["run_folder", "losses", "features", "zoo"],
    ["hub"],
    ["inference", "onnx"],
    ["evaluation", "exporting", "app"],
    ["console"],
    ["report", "training"],
    ["planning"],
    ["verbs"],
    ["api", "commands", "napari"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
# The package itself stands outside: its names are the public ones, wherever they live.
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def _folder(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def _imported_folders(path: Path) -> set[str]:
    """Folders of dinoseg that a module imports from, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "dinoseg" else [f"dinoseg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not isinstance(node, ast.ImportFrom), f"{path}: a relative import; write it in full"
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("dinoseg.")}
    # ``from dinoseg import __version__`` and the like name no folder.
    return {name for name in found if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()}


def test_every_folder_has_its_floor() -> None:
    assert {_folder(path) for path in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    folder = _folder(path)
    for imported in _imported_folders(path) - {folder}:
        assert FLOOR_OF[imported] < FLOOR_OF[folder], f"{folder} imports {imported}, which does not stand below it"


def test_tests_mirror_the_folders() -> None:
    tests = Path(__file__).parent
    folders = {path.name for path in tests.iterdir() if path.is_dir() and path.name not in ("data", "__pycache__")}
    assert folders <= set(FLOOR_OF) | {"helpers"}
