"""``dinoseg zoo``: the published heads that are known by name."""

import json

from rich.console import Console

from dinoseg.config.loading import HUB_PREFIX
from dinoseg.zoo.catalogue import PublishedHead, list_heads


def print_heads(console: Console, as_json: bool) -> None:
    """Lists the heads: what each is, what its authors measured, its licence and where that stands."""
    heads = list_heads()
    if as_json:
        print(json.dumps({"heads": [head.to_dict() for head in heads]}, indent=2))
        return
    lines = [line for head in heads for line in _lines(head)]
    console.print("\n".join([*lines, *_last_words(heads)]), soft_wrap=True, markup=False, highlight=False)


def _lines(head: PublishedHead) -> list[str]:
    miou = "mIoU not stated" if head.mean_iou is None else f"mIoU {head.mean_iou:g}"
    others = "" if head.figure.name == "mIoU" else f", {head.figure.name} {head.figure.value:g}"
    return [
        head.name,
        f"    {head.head} on {head.backbone}; {head.num_classes} classes ({head.classes}), trained for {head.task} "
        f"segmentation; windows of {head.window} px",
        f"    published: {miou}{others} ({head.table})",
        f"    licence: {head.licence}; backbone: {head.backbone_licence}",
        f"    {head.page}",
    ]


def _last_words(heads: tuple[PublishedHead, ...]) -> list[str]:
    first = f"{HUB_PREFIX}{heads[0].name}"
    return [
        f"use: dinoseg predict {first} IMAGES; as a start: dinoseg train load_from={first} decoder_head.type=pmt ...",
        "figures are their authors', measured with their code; panoptic heads give the classes of pixels here",
        "the weights of a DINOv3 backbone come from timm's pages and are under Meta's DINOv3 License, whatever the "
        "head's is: https://ai.meta.com/resources/models-and-libraries/dinov3-license",
    ]
