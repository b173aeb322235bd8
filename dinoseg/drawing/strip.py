"""One evaluated sample as a strip: image, truth, prediction, errors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer
from PIL import Image
from torch import Tensor

from dinoseg.config import TransformsConfig
from dinoseg.data.dataset import Sample
from dinoseg.data.picture_tensors import visible_bands
from dinoseg.data.transforms import normalisation
from dinoseg.drawing.overlay import error_map, overlay, side_by_side
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replaced_file


def draw_sample(
    sample: Sample,
    prediction: Integer[Tensor, "height width"],
    label_space: LabelSpace,
    transforms: TransformsConfig,
    folders: Sequence[Path],
) -> None:
    """Writes ``<name>.png`` into each folder; pixels without truth are hatched in all but the image."""
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation(transforms))
    pixels = (visible_bands(sample["image"] * std + mean) * 255).round().clamp(0, 255).byte()
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    truth = sample["class_map"].numpy()
    predicted = np.where(truth == label_space.ignore_index, truth, prediction.cpu().numpy())
    strip = side_by_side(
        [
            ("image", image),
            ("truth", overlay(image, truth, label_space, legend=False)),
            ("prediction", overlay(image, predicted, label_space, legend=False)),
            ("errors", error_map(image, truth, predicted, label_space)),
        ]
    )
    for folder in folders:
        with replaced_file(folder / f"{sample['name']}.png") as temporary:
            strip.save(temporary)
