"""A model that is told the truth."""

from torch import Tensor, nn


class TruthTeller(nn.Module):
    """Reads the class index off the picture: red + 256 green; scores it 1 and the rest 0, pixel by pixel."""

    scores_are_probabilities = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def semantic_logits(self, image: Tensor) -> Tensor:
        values = (image * 255).round().long()
        index = (values[:, 0] + 256 * values[:, 1]).clamp(0, self.num_classes - 1)
        return nn.functional.one_hot(index, self.num_classes).permute(0, 3, 1, 2).float()
