"""What a training changes, part by part: tensors, parameters, learning rate and weight decay."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from rich.table import Table

from dinoseg.models.segmenter import Segmenter


@dataclass
class TrainedPart:
    """A part of the model that is trained.

    Attributes:
        name: in words.
        tensors, parameters: how many there are.
        layers: of the backbone, where the part is made of such.
        learning_rates, weight_decays: the values that occur; learning rates before the schedule's factor.
    """

    name: str
    tensors: int = 0
    parameters: int = 0
    layers: set[int] = field(default_factory=set)
    learning_rates: set[float] = field(default_factory=set)
    weight_decays: set[float] = field(default_factory=set)

    @property
    def title(self) -> str:
        """The name, with the layers it covers."""
        if not self.layers:
            return self.name
        first, last = min(self.layers), max(self.layers)
        gapless = len(self.layers) == last - first + 1 > 2
        return f"{self.name} {f'{first} to {last}' if gapless else ', '.join(map(str, sorted(self.layers)))}"


def trained_parts(
    segmenter: Segmenter, optimizer: torch.optim.Optimizer, base_rates: Iterable[float]
) -> list[TrainedPart]:
    """The parts of the segmenter that the optimiser changes, in the order of the model.

    Args:
        base_rates: the learning rate of each of the optimiser's groups, before the schedule's factor.
    """
    settings = {
        id(parameter): (rate, float(group["weight_decay"]))
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True)
        for parameter in group["params"]
    }
    parts: dict[str, TrainedPart] = {}
    for name, parameter in segmenter.named_parameters():
        if id(parameter) in settings:
            title, layer = _part_of(segmenter, name)
            part = parts.setdefault(title, TrainedPart(title))
            part.tensors += 1
            part.parameters += parameter.numel()
            part.layers |= set() if layer is None else {layer}
            part.learning_rates.add(settings[id(parameter)][0])
            part.weight_decays.add(settings[id(parameter)][1])
    return list(parts.values())


def trained_table(parts: Iterable[TrainedPart]) -> Table:
    """The parts as a table; the lowest and the highest learning rate where they differ."""
    table = Table(title="trained", title_justify="left", box=None, pad_edge=False)
    table.add_column("part")
    for column in ("tensors", "parameters", "learning rate", "weight decay"):
        table.add_column(column, justify="right")
    for part in parts:
        rates = sorted({min(part.learning_rates), max(part.learning_rates)})
        table.add_row(
            part.title,
            f"{part.tensors:,}",
            f"{part.parameters:,}",
            " to ".join(f"{rate:.3g}" for rate in rates),
            ", ".join(f"{decay:g}" for decay in sorted(part.weight_decays, reverse=True)),
        )
    return table


def _part_of(segmenter: Segmenter, name: str) -> tuple[str, int | None]:
    """The part that a parameter belongs to, and the layer of the backbone that it is of."""
    if not name.startswith("backbone."):
        return ("adapter" if name.startswith("head.adapter.") else "head"), None
    backbone = segmenter.backbone
    layer = backbone.layer_of(name.removeprefix("backbone."))
    if not 0 <= layer <= backbone.layers[-1]:
        return ("backbone embeddings" if layer < 0 else "backbone norm"), None
    layers = "blocks" if backbone.spec.kind == "vit" else "stages"
    return f"{'LoRA' if backbone.mode == 'lora' else 'backbone'} {layers}", layer
