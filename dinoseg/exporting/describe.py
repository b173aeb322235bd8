"""What an exported file says of itself, from the run that it comes from."""

import torch

import dinoseg
from dinoseg.data.transforms import normalisation
from dinoseg.inference.opening import OpenedRun
from dinoseg.inference.policy import WindowPolicy
from dinoseg.labels.labels_json import LabelSpaceRecord
from dinoseg.models.segmenter import HEADS
from dinoseg.onnx.description import FORMAT, OnnxDescription, OriginRecord, PictureRecord, WindowRecord


def description_of(
    opened: OpenedRun, policy: WindowPolicy, precision: str, *, gives_labels: bool = False
) -> OnnxDescription:
    """The description of a run's graph, without its contents, which whoever writes it knows.

    Args:
        policy: its windows; of ``slide``.
        precision: ``fp32`` or ``fp16``.
        gives_labels: whether it gives label ids, too.

    Raises:
        ValueError: what calibration found for the run is damaged.
    """
    config = opened.config
    form = opened.picture_form
    mean, std = normalisation(config.transforms)
    return OnnxDescription(
        format=FORMAT,
        precision="fp16" if precision == "fp16" else "fp32",
        scores_are_probabilities=HEADS[config.decoder_head.type].scores_are_probabilities,
        temperature=opened.decision.temperature,
        gives_labels=gives_labels,
        window=WindowRecord(
            size=list(policy.crop), stride=list(policy.stride), blend=policy.blend, img_size=policy.img_size
        ),
        picture=PictureRecord(
            mean=list(mean),
            std=list(std),
            white_level=form.white_level,
            bands=None if form.bands is None else list(form.bands),
            ranges=None if form.ranges is None else [list(pair) for pair in form.ranges],
        ),
        labels=LabelSpaceRecord.model_validate(opened.label_space.to_dict()),
        origin=OriginRecord(
            dinoseg=dinoseg.__version__,
            torch=torch.__version__,
            checkpoint=opened.source.version,
            weights_sha256=opened.weights_sha256,
            backbone=config.model.dino_hub,
            head=config.decoder_head.type,
        ),
        contents=None,
    )
