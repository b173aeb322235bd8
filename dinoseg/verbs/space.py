"""A folder that is a Hugging Face Space: the page of runs, with the runs as ``dinoseg export`` writes them."""

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from dinoseg import __version__
from dinoseg.inference.chosen_runs import Chosen
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.messages import shell_word
from dinoseg.system.whole_folder import refuse_unreplaceable, whole_folder
from dinoseg.verbs.app import AppRequest
from dinoseg.verbs.export import export_run

_APP = '''"""The page of {count}, as a Hugging Face Space or `python app.py` starts it."""

import os
import sys
from pathlib import Path

from dinoseg.__main__ import main

if __name__ == "__main__":
    # A Space is reached from outside; elsewhere the page is of this machine alone.
    host = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
    os.chdir(Path(__file__).parent)
    sys.argv = ["dinoseg", "app", {runs}, "--host", host, "--port", os.environ.get("PORT", "7860")]
    main()
'''
_README = """---
title: {title}
emoji: 🗺️
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
pinned: false
---

# {heading}

What {words} on pictures that are dropped on the page: classes over the picture, confidence, and the label map as
`dinoseg predict` writes it. Pictures go to the Space, which keeps them until it restarts.

On a machine of your own: `pip install 'dinoseg[app]=={version}'`, and `python app.py`.
"""
# Weights are large files.
_ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
# Where gradio is not installed.
_GRADIO = "6.31.0"


def write_space(request: AppRequest, out: Path, console: Console) -> None:
    """Writes app.py, requirements.txt, README.md and the exported runs; uploads nothing.

    Args:
        out: the new folder; must not exist, or be empty.

    Raises:
        ValueError: no run, options of a page that is served, or ``out`` is in use or cannot be written; see
            ``export_run``.
    """
    _refuse_of_serving(request)
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--space {out}: exists and is not an empty folder; give a new one")
    refuse_unreplaceable(out, "--space")
    refuse_unwritable(out, "--space")
    runs = request.runs()
    names = _names(runs)
    quiet = Console(quiet=True)
    with whole_folder(out) as folder:
        for run, name in zip(runs, names, strict=True):
            export_run(run, folder / name, quiet, public=True)
        count = "a run" if len(runs) == 1 else f"{len(runs)} runs"
        arguments = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
        (folder / "app.py").write_text(_APP.format(count=count, runs=arguments), encoding="utf-8")
        (folder / "requirements.txt").write_text(f"dinoseg[app]=={__version__}\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(names), encoding="utf-8")
        (folder / ".gitattributes").write_text(_ATTRIBUTES, encoding="utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    console.print(
        f"{out}: {size:.1f} MB, a Space of {count}; nothing was uploaded; try it: python {shell_word(out / 'app.py')}",
        soft_wrap=True,
        markup=False,
    )


def _refuse_of_serving(request: AppRequest) -> None:
    """Raises ValueError for options of a page that is served from here."""
    device = None if request.device == "auto" else request.device
    options = {"--host": request.host, "--port": request.port, "--device": device}
    given = [f"{name} {value}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(
            f"--space starts nothing, and a Space runs where it is put: leave out {', '.join(given)}, or leave out "
            "--space to see the page"
        )


def _names(runs: list[Chosen]) -> list[str]:
    """Folders of the runs in the Space: their own names, told apart where they are alike."""
    names: list[str] = []
    for run in runs:
        name = Path(run.words.removeprefix("hf:")).resolve().name[:50].replace("\\", "_") or "run"
        number, found = 1, name
        while found in names or found in ("app.py", "README.md", "requirements.txt"):
            number += 1
            found = f"{name}_{number}"
        names.append(found)
    return names


def _readme(names: list[str]) -> str:
    title = ", ".join(names)
    words = "the run predicts" if len(names) == 1 else f"each of {len(names)} runs predicts, side by side,"
    try:
        gradio = version("gradio")
    except PackageNotFoundError:
        gradio = _GRADIO
    return _README.format(
        title=json.dumps(title, ensure_ascii=False), heading=title, gradio=gradio, words=words, version=__version__
    )
