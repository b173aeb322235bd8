"""What ``import dinoseg`` offers, and that asking costs no time."""

import pydoc
import subprocess
import sys

import pytest

import dinoseg

NAMES = {
    "Config",
    "Evaluation",
    "ImageFeatures",
    "LabelSpace",
    "Metrics",
    "OwnDataset",
    "Prediction",
    "Predictor",
    "ReduceZeroLabel",
    "Run",
    "calculate_intersect_and_union",
    "calculate_segmentation_metrics",
    "evaluate",
    "evaluate_segmentation_model",
    "load",
    "make_inference",
    "preprocess_nonzero_labels",
    "restore_original_labels",
    "train",
}


def test_the_public_names() -> None:
    assert set(dinoseg.__all__) - {"__version__"} == NAMES
    assert set(dir(dinoseg)) >= NAMES
    shown = pydoc.render_doc(dinoseg, renderer=pydoc.plaintext)
    for name in NAMES:
        assert getattr(dinoseg, name).__doc__ and name in (dinoseg.__doc__ or "") and name in shown


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dinoseg' has no attribute 'trian'"):
        dinoseg.trian  # noqa: B018


def test_importing_loads_no_torch() -> None:
    code = "import sys, dinoseg; dir(dinoseg); print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
