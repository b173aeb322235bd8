"""Prediction of a window by onnxruntime against PyTorch, fp32 on a CPU: a JSON line a head.

    python benchmarks/onnx_speed.py [--head linear ...] [--size 512] [--repeats 5]

Random weights: the time does not depend on them. ``difference`` is of the largest score, as a share of their range.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from measure import interleaved, report

from dinoseg.config import Config
from dinoseg.config.loading import load_config
from dinoseg.exporting.graph import write_onnx
from dinoseg.labels.labels_json import LabelSpaceRecord
from dinoseg.labels.space import LabelSpace
from dinoseg.models.segmenter import build_segmenter
from dinoseg.onnx.description import FORMAT, OnnxDescription, OriginRecord, PictureRecord, WindowRecord

_CLASSES = 19


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--head", action="append", choices=["linear", "dense", "m2f", "pmt"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for head in options.head or ["linear", "dense", "pmt", "m2f"]:
        measure(head, options.size, options.repeats)


def measure(head: str, size: int, repeats: int) -> None:
    """Prints the ratio of one head."""
    config = load_config(["model.dino_hub=dinov2_vits14", "model.weights=none", f"decoder_head.type={head}"])
    segmenter = build_segmenter(config, _CLASSES).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def by_torch() -> np.ndarray:
        with torch.no_grad():
            return segmenter.semantic_logits(image).numpy()

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(segmenter, _description(config, size), file)
        session = onnxruntime.InferenceSession(str(file), _as_many_threads(), providers=["CPUExecutionProvider"])

        def by_onnx() -> np.ndarray:
            return session.run(["logits"], {"images": image.numpy()})[0]

        seconds = interleaved({"torch": by_torch, "onnxruntime": by_onnx}, repeats)
        expected = by_torch()
        difference = np.abs(by_onnx() - expected).max() / np.ptp(expected)
    report(
        "PyTorch's time over onnxruntime's",
        seconds["torch"] / seconds["onnxruntime"],
        "ratio",
        head=head,
        size=size,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        difference=float(difference),
        onnxruntime=onnxruntime.__version__,
    )


def _as_many_threads() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return options


def _description(config: Config, size: int) -> OnnxDescription:
    space = LabelSpace.build({index: f"class {index}" for index in range(_CLASSES)}, None, None, ())
    return OnnxDescription(
        format=FORMAT,
        precision="fp32",
        scores_are_probabilities=False,
        temperature=1.0,
        gives_labels=False,
        window=WindowRecord(size=[size, size], stride=[size, size], blend="uniform", img_size=None),
        picture=PictureRecord(mean=[0.5] * 3, std=[0.2] * 3, white_level=None, bands=None, ranges=None),
        labels=LabelSpaceRecord.model_validate(space.to_dict()),
        origin=OriginRecord(
            dinoseg="",
            torch=torch.__version__,
            checkpoint="",
            weights_sha256="",
            backbone=config.model.dino_hub,
            head=config.decoder_head.type,
        ),
        contents=None,
    )


if __name__ == "__main__":
    main()
