"""Peak memory of the Mask2Former head's semantic map, beyond the model and its output.

    python benchmarks/semantic_map.py [--size 2048] [--classes 150] [--queries 100]

Goal: under 3 GB at these defaults; the map itself is 2.4 GiB of it.
"""

import argparse

import torch
from measure import peak_kilobytes, report

from dinoseg.models.mask2former_head import Mask2FormerHead, Mask2FormerOptions
from dinoseg.models.mask_output import MaskOutput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    sizes = Mask2FormerOptions(num_queries=options.queries)
    head = Mask2FormerHead(in_channels=(384,) * 4, num_classes=options.classes, options=sizes).eval()
    side = options.size // 4
    output = MaskOutput(
        torch.randn(1, 1, options.queries, options.classes + 1),
        torch.randn(1, 1, options.queries, 256),
        torch.randn(1, 1, options.queries),
        torch.randn(1, 256, side, side),
    )
    before = peak_kilobytes()
    with torch.inference_mode():
        scores = head.semantic_logits(output, (options.size, options.size))
    gigabytes = (peak_kilobytes() - before) * 1024 / 1e9
    result = scores.numel() * scores.element_size() / 1e9
    facts = {"size": options.size, "classes": options.classes, "queries": options.queries}
    report("peak memory of the semantic map", gigabytes, "GB", goal="< 3", result_gigabytes=round(result, 3), **facts)


if __name__ == "__main__":
    main()
