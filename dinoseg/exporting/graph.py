"""A segmenter as a graph of one window size: an ONNX file, or a program of ``torch.export``."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dinoseg.models.segmenter import Segmenter
from dinoseg.onnx.description import (
    IMAGES,
    KEY,
    LABELS,
    LOGITS,
    ContentsRecord,
    DataRecord,
    OnnxDescription,
    description_sha256,
)
from dinoseg.onnx.model_file import ModelFile
from dinoseg.system.files import file_sha256

# What exporters of PyTorch 2.6 and later write; every engine of the last years reads it.
OPSET = 18
# Bytes of weights beyond which they lie beside the file: 2 GB do not fit into one.
_LARGEST_FILE = 1_900_000_000


class ScoresGraph(nn.Module):
    """Normalised windows to scores, both fp32, whatever the arithmetic between."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Float[Tensor, "batch bands height width"]) -> Float[Tensor, "batch classes height width"]:
        """One score a class and pixel."""
        dtype = next(self.segmenter.parameters()).dtype
        return self.segmenter.semantic_logits(images.to(dtype)).float()


class LabelsGraph(nn.Module):
    """Scores, and the label ids that they decide on, for engines that want no arithmetic around the graph.

    Args:
        label_ids: by class index.
    """

    label_ids: Tensor

    def __init__(self, scores: ScoresGraph, label_ids: Sequence[int]) -> None:
        super().__init__()
        self.scores = scores
        self.register_buffer("label_ids", torch.tensor(label_ids, dtype=torch.int32))

    def forward(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> tuple[Float[Tensor, "batch classes height width"], Int[Tensor, "batch height width"]]:
        """One score a class and pixel, and the label id of each pixel."""
        scores = self.scores(images)
        return scores, self.label_ids[scores.argmax(dim=1)]


def write_onnx(segmenter: Segmenter, description: OnnxDescription, file: Path) -> None:
    """Writes the graph, its weights and its description as one ONNX file; the batch may have any number of windows.

    Args:
        segmenter: in evaluation mode, on the CPU; in the description's precision afterwards.

    Raises:
        ValueError: onnxscript is not installed, or PyTorch cannot write this model as a graph.
    """
    refuse_without_onnxscript()
    program = traced(segmenter, description)
    with _quietly():
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[IMAGES],
            output_names=[LOGITS, LABELS] if description.gives_labels else [LOGITS],
            optimize=False,
            verbose=False,
        )
        assert written is not None
        _simplify(written.model)
        _name_batch(written.model)
    written.model.producer_name = "dinoseg"
    beside = _bytes_of(segmenter) > _LARGEST_FILE
    written.save(str(file), external_data=beside)
    # Known once it is written, and written into it by doing so again.
    described = description.model_copy(update={"contents": _contents_of(file, description)})
    written.model.metadata_props[KEY] = described.model_dump_json()
    written.save(str(file), external_data=beside)


def _simplify(model: Any) -> None:
    """Computes what is constant, and what is computed twice once.

    Not by the exporter's own optimiser, which looks for patterns in a time that grows with the square of the nodes:
    minutes for the m2f head. What it finds beyond this, engines find themselves.
    """
    # onnxscript, which brings it, is optional.
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(model)
    # What is folded first is an input of what is folded then.
    for _ in range(2):
        # Types of what was inlined are inferred, or casts to them (CastLike) stay, which few engines know.
        optimizer.fold_constants(model, onnx_shape_inference=True)
        common.RemoveUnusedNodesPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    # What a node was in Python: a third of the file of a small model.
    common.ClearMetadataAndDocStringPass()(model)


def _name_batch(model: Any) -> None:
    """Input and outputs name their first axis, which PyTorch numbers, as engines ask for it."""
    from onnx_ir import Shape

    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = Shape(["batch", *value.shape[1:]])


def _contents_of(file: Path, description: OnnxDescription) -> ContentsRecord:
    data = data_file(file)
    beside = DataRecord(name=data.name, sha256=file_sha256(data)) if data.exists() else None
    said = description_sha256(description.model_dump_json())
    return ContentsRecord(sha256=ModelFile.read(file).sha256, data=beside, description_sha256=said)


def data_file(file: Path) -> Path:
    """Where the weights of a file lie that do not fit into it: PyTorch's choice."""
    return file.with_name(f"{file.name}.data")


def write_program(segmenter: Segmenter, description: OnnxDescription, file: Path) -> None:
    """Writes a program of ``torch.export``, with the description as an extra file named ``dinoseg``.

    Raises:
        ValueError: see ``write_onnx``.
        OSError: the file cannot be written.
    """
    # PyTorch's own writer of files ends the process, a while after a disk was full.
    held = BytesIO()
    torch.export.save(traced(segmenter, description), held, extra_files={KEY: description.model_dump_json()})
    file.write_bytes(held.getbuffer())


def traced(segmenter: Segmenter, description: OnnxDescription) -> Any:
    """The graph of the segmenter at the description's window size, with a batch of any size.

    Raises:
        ValueError: PyTorch cannot trace the model.
    """
    if description.precision == "fp16":
        segmenter.half()
    bands = len(description.picture.mean)
    # Two windows: the numbers 0 and 1 would become part of the graph.
    height, width = description.window.size
    example = torch.zeros(2, bands, height, width)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad(), _quietly(), segmenter.backbone.at_size((height, width)):
            program = torch.export.export(
                _graph(segmenter, description), (example,), dynamic_shapes={IMAGES: {0: batch}}, strict=False
            )
    except Exception as error:  # torch.export raises of many kinds
        raise ValueError(
            f"{description.origin.head} on {description.origin.backbone}: PyTorch {torch.__version__} cannot trace it "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}); a newer PyTorch may"
        ) from error
    # Which lines of which files made a node: places on this machine, which would go with the file.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _graph(segmenter: Segmenter, description: OnnxDescription) -> nn.Module:
    scores = ScoresGraph(segmenter)
    return (LabelsGraph(scores, description.label_ids) if description.gives_labels else scores).eval()


def refuse_without_onnxscript() -> None:
    """Raises ValueError where what PyTorch writes ONNX with is not installed."""
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ValueError(
            "onnxscript, which PyTorch writes ONNX files with, is missing: pip install 'dinoseg[onnx]'"
        ) from None


def _bytes_of(segmenter: Segmenter) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in segmenter.state_dict().values())


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's own remarks, which are for who writes exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
